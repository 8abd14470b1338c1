"""A head for each trait that people scored, on the pooled states of a model that learned the holistic score.

Each is solved in closed form, as the holistic head is at the end of its training, and pulled toward it: an infinite
penalty is the holistic score itself, on the trait's mean and spread. Dev essays pick the penalty; no layer moves, so
the holistic score stays as it was.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from essays.errors import StageFailed
from training.models.scorer import TokenScorer
from training.refit import best_change

HEADS_FILE = "heads.safetensors"
# Raters who never differ on train essays leave nothing to standardize by.
_CONSTANT = 1e-6


class TraitHeads(nn.Module):
    """A linear head for each trait, from a pooled state to raw unit scores."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """`weight` is (traits, H) and `bias` (traits,), float32."""
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """Raw unit scores, (B, traits), from pooled states (B, H)."""
        return pooled.float() @ self.weight.T + self.bias


class ScorerWithTraits(nn.Module):
    """A scorer and its traits' heads in one pass."""

    def __init__(self, scorer: TokenScorer, heads: TraitHeads) -> None:
        super().__init__()
        self.scorer = scorer
        self.heads = heads

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, num_tokens: Tensor, prompt_index: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`raw_unit_score` (B,) and the traits' (B, traits), from a scorer's inputs."""
        pooled = self.scorer.pooled(input_ids, attention_mask, num_tokens, prompt_index)
        return self.scorer.scored(pooled, prompt_index), self.heads(pooled)


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


def save_heads(heads: TraitHeads, folder: Path) -> None:
    """Write the heads beside what is known of them."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in heads.state_dict().items()}, str(folder / HEADS_FILE))


def load_heads(folder: Path) -> TraitHeads:
    """What `save_heads` wrote. Raises StageFailed when it is missing or something else."""
    path = folder / HEADS_FILE
    try:
        state = load_file(str(path))
        return TraitHeads(state["weight"], state["bias"])
    except (FileNotFoundError, KeyError, SafetensorError) as error:
        raise StageFailed(f"{path}: no traits' heads; fit them again (python -m pipelines.traits)") from error
