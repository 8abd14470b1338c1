"""What learning makes small, and what it is judged by: squared standard error, and dev QWK with the spread matched."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from essays.metrics import quadratic_weighted_kappa
from essays.prompts import get_prompt
from training.models.parts import TargetScale

# Raw scores that vary less than this, in unit scores, say nothing that a stretch could widen.
_CONSTANT = 1e-6


def squared_standard_error(
    raw_unit_scores: torch.Tensor, unit_scores: torch.Tensor, prompt_index: torch.Tensor, target: TargetScale
) -> torch.Tensor:
    """Mean squared error in standard deviations of each prompt's train scores, so that prompts weigh alike; a scalar.

    1 is what answering the mean gives.
    """
    return ((raw_unit_scores - unit_scores) / target.deviation[prompt_index]).square().mean()


def target_scale(unit_scores: NDArray, prompt_index: NDArray, num_prompts: int) -> TargetScale:
    """Mean and deviation of each prompt's train scores; a prompt of one score alone keeps deviation 1."""
    scale = TargetScale(num_prompts)
    for index in range(num_prompts):
        chosen = unit_scores[prompt_index == index]
        scale.mean[index] = float(chosen.mean())
        scale.deviation[index] = float(chosen.std()) or 1.0
    return scale


def matched_qwk(raw_unit_scores: NDArray, human_scores: NDArray, prompt_ids: Sequence[str]) -> float:
    """Mean over prompts of QWK, after each prompt's raw scores got the human scores' mean and spread.

    Regression shrinks scores toward the mean, most in early epochs: without matching, epochs would be compared by how
    far they shrink. Calibration proper (`training.calibrate`) searches the stretch; matching moments needs no search.
    """
    names = np.array(prompt_ids)
    return float(
        np.mean(
            [
                _matched_qwk(raw_unit_scores[names == name], human_scores[names == name], name)
                for name in sorted(set(prompt_ids))
            ]
        )
    )


def _matched_qwk(raw: NDArray, human: NDArray, prompt_id: str) -> float:
    score_range = get_prompt(prompt_id).score_range
    unit = score_range.to_unit(human)
    spread = raw.std()
    stretch = unit.std() / spread if spread > _CONSTANT else 0.0
    matched = score_range.round(score_range.from_unit(unit.mean() + stretch * (raw - raw.mean())))
    return quadratic_weighted_kappa(matched, human, score_range)
