"""Solves the traits' heads on a model that learned the holistic score; no layer moves, so that score stays as it was.

Each is solved in closed form, as the holistic head is at the end of its training, and pulled toward it: an infinite
penalty is the holistic score itself, on the trait's mean and spread. Dev essays pick the penalty.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from training.models.scorer import TokenScorer
from training.refit import best_change
from training.trait_heads import TraitHeads

# Raters who never differ on train essays leave nothing to standardize by.
_CONSTANT = 1e-6


def fit_heads(
    scorer: TokenScorer,
    prompt_index: int,
    states: Mapping[str, NDArray],
    targets: Mapping[str, NDArray],
    penalties: Sequence[float],
) -> TraitHeads:
    """Heads of one prompt, from the train and dev parts' pooled states (N, H) and unit scores (N, traits)."""
    weight = scorer.heads.weight[prompt_index].detach().cpu().numpy().astype(np.float64)
    bias = float(scorer.heads.bias[prompt_index].detach())
    holistic = {part: states[part] @ weight + bias for part in ("train", "dev")}
    rows, biases = [], []
    for place in range(targets["train"].shape[1]):
        mean, deviation = float(targets["train"][:, place].mean()), float(targets["train"][:, place].std())
        deviation = deviation if deviation > _CONSTANT else 1.0
        missed = {part: (targets[part][:, place] - mean) / deviation - holistic[part] for part in holistic}
        change, shift = best_change(states["train"], missed["train"], states["dev"], missed["dev"], penalties)
        rows.append(deviation * (weight + change))
        biases.append(mean + deviation * (bias + shift))
    return TraitHeads(
        torch.from_numpy(np.stack(rows).astype(np.float32)), torch.from_numpy(np.array(biases, dtype=np.float32))
    )
