"""What any model must beat: grades from an essay's length alone, and the same grade for everybody.

Both go through calibration and evaluation as a model does, so that their numbers differ from a model's in nothing but
what they know of an essay.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from data.rows import Essay
from essays.errors import StageFailed
from essays.prompts import get_prompt
from essays.text import words
from training.fold_scores import FoldScores

LENGTH_ONLY = "length-only"
MEAN_GRADE = "mean-grade"
BASELINES = (LENGTH_ONLY, MEAN_GRADE)
# Ridge's penalty on the slope of standardized lengths: it matters only where there are next to no train essays.
_PENALTY_ESSAYS = 1.0


def baseline_scores(essays: Sequence[Essay], lengths: NDArray, parts: Mapping[str, str]) -> dict[str, FoldScores]:
    """Each baseline's scores on one fold, by its name; `parts` by essay id, `lengths` from `fourth_root_lengths`."""
    return {
        LENGTH_ONLY: ridge_scores(essays, lengths, parts),
        MEAN_GRADE: ridge_scores(essays, np.zeros(len(essays)), parts),
    }


def fourth_root_lengths(essays: Sequence[Essay]) -> NDArray[np.float64]:
    """Each essay's number of words to the power of ¼, which straightens how scores rise with length, (N,)."""
    return np.array([len(words(essay.text)) for essay in essays], dtype=np.float64) ** 0.25


def ridge_scores(essays: Sequence[Essay], lengths: NDArray, parts: Mapping[str, str]) -> FoldScores:
    """Dev and test scores of a line through the train part's lengths and scores, one for each prompt."""
    prompt_ids = np.array([essay.prompt_id for essay in essays])
    all_parts = np.array([parts[essay.essay_id] for essay in essays])
    human_scores = np.array([essay.score for essay in essays])
    unit_scores = np.empty(len(essays))
    for prompt_id in sorted(set(prompt_ids.tolist())):
        here = prompt_ids == prompt_id
        human = get_prompt(prompt_id).score_range.to_unit(human_scores[here])
        on_train = all_parts[here] == "train"
        if not on_train.any():
            raise StageFailed(f"{prompt_id}: no train essay to fit a baseline on; run the split stage again")
        unit_scores[here] = ridge_line(lengths[here][on_train], human[on_train], lengths[here])
    return FoldScores(
        np.array([essay.essay_id for essay in essays]), prompt_ids, all_parts, human_scores, unit_scores
    ).rows(all_parts != "train")


def ridge_line(inputs: NDArray, targets: NDArray, asked: NDArray) -> NDArray[np.float64]:
    """The line fitted to inputs and targets, (N,) each, at the inputs asked for, (M,); flat when inputs do not vary."""
    spread = float(inputs.std())
    if not spread:
        return np.full(len(asked), targets.mean())
    standardized = (inputs - inputs.mean()) / spread
    slope = float(standardized @ (targets - targets.mean())) / (len(inputs) + _PENALTY_ESSAYS)
    return targets.mean() + slope * (asked - inputs.mean()) / spread
