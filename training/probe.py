"""Solves a linear probe: ridge regression in its dual form on an encoder's standardized mean states, prompt by prompt.

One eigendecomposition serves all penalties; squared error on dev picks the best few, whose mean is kept.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from training.batches import Part
from training.config import ProbeConfig
from training.history import EpochRow
from training.models.probe import ProbeScorer
from training.objective import matched_qwk


def fit_probe(
    scorer: ProbeScorer, parts: Mapping[str, Part], pooled: Mapping[str, torch.Tensor], config: ProbeConfig
) -> list[EpochRow]:
    """Solve every prompt's head from pooled states, (N, D) for each part; one row: a closed form knows no epochs."""
    train, dev = parts["train"], parts["dev"]
    scorer.set_state_scale(pooled["train"], config.length_share)
    rows = {name: scorer.standardized(pooled[name]).numpy().astype(np.float64) for name in ("train", "dev")}
    wanted = {name: standard_scores(scorer, parts[name]) for name in rows}
    ours, theirs = train.prompt_index(), dev.prompt_index()
    errors = []
    for prompt in range(len(scorer.heads.weight)):
        chosen, judged = ours == prompt, theirs == prompt
        weights, bias = solve_prompt(
            rows["train"][chosen], wanted["train"][chosen], rows["dev"][judged], wanted["dev"][judged], config
        )
        scorer.heads.weight[prompt] = torch.from_numpy(weights)
        scorer.heads.bias[prompt] = bias
        errors.append(np.square(rows["train"][chosen] @ weights + bias - wanted["train"][chosen]).mean())
    qwk = matched_qwk(raw_scores(scorer, dev, pooled["dev"]), dev.human_scores, dev.prompt_ids)
    return [EpochRow(epoch=1, loss=float(np.mean(errors)), dev_qwk=qwk, learning_rate=0, essays_per_s=0, duration_s=0)]


def solve_prompt(
    train: NDArray, wanted: NDArray, dev: NDArray, dev_wanted: NDArray, config: ProbeConfig
) -> tuple[NDArray[np.float64], float]:
    """A head's weights, (D,), and bias, from rows (N, D) and standard scores (N,)."""
    centre = train.mean(axis=0)
    centred = train - centre
    kernel = centred @ centred.T
    scale = float(np.diag(kernel).mean()) or 1.0
    values, vectors = np.linalg.eigh(kernel / scale)
    towards = vectors.T @ (wanted - wanted.mean())
    candidates = []
    for penalty in config.penalties:
        weights = centred.T @ (vectors @ (towards / (np.maximum(values, 0) + penalty))) / scale
        errors = dev @ weights + (wanted.mean() - centre @ weights) - dev_wanted
        candidates.append((float(np.square(errors).mean()), weights))
    weights = mean_of_best(candidates, config.num_averaged)
    return weights, float(wanted.mean() - centre @ weights)


def mean_of_best(candidates: Sequence[tuple[float, NDArray]], num_averaged: int) -> NDArray[np.float64]:
    """The mean of the weights, (D,), with the smallest errors."""
    best = sorted(candidates, key=lambda candidate: candidate[0])[:num_averaged]
    return np.mean([weights for _, weights in best], axis=0)


def standard_scores(scorer: ProbeScorer, part: Part) -> NDArray[np.float64]:
    """What the heads should say of each essay, (N,)."""
    unit_scores, prompts = torch.from_numpy(part.unit_scores), torch.from_numpy(part.prompt_index())
    return scorer.target.standardize(unit_scores, prompts).numpy().astype(np.float64)


def raw_scores(scorer: ProbeScorer, part: Part, pooled: torch.Tensor) -> NDArray[np.float32]:
    """Raw unit scores of a part, (N,), from its pooled states, (N, D)."""
    with torch.inference_mode():
        return scorer.scored(pooled, torch.from_numpy(part.prompt_index())).numpy()
