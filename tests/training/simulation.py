"""Scores like those of a trained model, for tests of what follows training: no essays, no model, all from a seed."""

import numpy as np

from essays.prompts import get_prompt
from training.fold_scores import FoldScores

ELLIPSE = "ellipse-overall"


def simulated_scores(
    prompt_id=ELLIPSE, num_essays=600, *, shrinkage=0.6, noise=0.08, offset=0.0, seed=0, model=0, spread=0.17
) -> FoldScores:
    """Half dev, half test: an ability, people's rounded grade of it, and a model that is drawn to the mean.

    The model's raw unit score is the mean plus `shrinkage` times the ability's distance from it, with `noise` of its
    own (drawn by `model`, so that two models err differently on the same essays) and an `offset`.
    """
    rng, own = np.random.default_rng(seed), np.random.default_rng([seed, model, 1])
    score_range = get_prompt(prompt_id).score_range
    ability = rng.normal(0.5, spread, num_essays)
    human = score_range.round(score_range.from_unit(ability + rng.normal(0, 0.05, num_essays)))
    raw = 0.5 + shrinkage * (ability - 0.5) + own.normal(0, shrinkage * noise, num_essays) + offset
    return FoldScores(
        essay_ids=np.array([f"{prompt_id}-{index}" for index in range(num_essays)]),
        prompt_ids=np.full(num_essays, prompt_id),
        parts=np.array(["dev", "test"])[np.arange(num_essays) % 2],
        human_scores=human,
        raw_unit_scores=raw,
    )


def joined(*all_scores: FoldScores) -> FoldScores:
    """Several prompts' scores as one fold's."""
    return FoldScores(
        *(np.concatenate([getattr(scores, name) for scores in all_scores]) for name in FoldScores.__dataclass_fields__)
    )
