"""Fits the ensemble: for each prompt non-negative weights that sum to 1 over its members' calibrated unit scores.

Members that err differently are worth mixing. Weights are fitted on dev essays by least squares, twice: over all
prompts together, each in units of its human scores' spread, with a pull toward equal weights; then for each prompt with
the same pull toward what suits all of them. A few hundred essays do not decide between members that are as good.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from essays.calibration import Calibration
from essays.ensemble import EnsembleWeights, PromptWeights, mix_unit_scores
from essays.errors import StageFailed
from essays.prompts import get_prompt
from training.evaluation_config import EnsembleConfig
from training.fold_scores import FoldScores

# Weight of the row that asks for a sum of 1, against residuals of mean square about 1.
_SUM_WEIGHT = 1e4


def fit_ensemble(
    scores: Mapping[str, FoldScores], calibrations: Mapping[str, Calibration], config: EnsembleConfig
) -> tuple[EnsembleWeights, FoldScores]:
    """Weights of one fold, and the fold's mixed scores, from all members' scores and calibrations by name.

    Raises StageFailed when members did not score the same essays.
    """
    members = {name: scores[name].rows(np.argsort(scores[name].essay_ids)) for name in sorted(scores)}
    require_same_essays(members)
    first = next(iter(members.values()))
    columns = np.stack([calibrated(member, calibrations[name]) for name, member in members.items()], axis=1)  # (N, M)
    human = np.full(len(first), np.nan)
    dev = {prompt_id: (first.prompt_ids == prompt_id) & (first.parts == "dev") for prompt_id in first.prompts()}
    for prompt_id in dev:
        of_prompt = first.prompt_ids == prompt_id
        human[of_prompt] = get_prompt(prompt_id).score_range.to_unit(first.human_scores[of_prompt])
    equal = np.full(len(members), 1 / len(members))
    scaled = [in_spreads(columns[rows], human[rows]) for rows in dev.values()]
    shared = fit_weights(
        np.concatenate([scores for scores, _ in scaled]),
        np.concatenate([wanted for _, wanted in scaled]),
        equal,
        config.prior_essays,
    )
    mixed, parts = np.full(len(first), np.nan), []
    for prompt_id, rows in dev.items():
        weights = fit_weights(columns[rows], human[rows], shared, config.prior_essays)
        named = dict(zip(members, weights.tolist(), strict=True))
        parts.append(PromptWeights(prompt_id=prompt_id, weights=named))
        of_prompt = first.prompt_ids == prompt_id
        mixed[of_prompt] = mix_unit_scores(named, dict(zip(members, columns[of_prompt].T, strict=True)))
    return EnsembleWeights(prompts=tuple(parts)), FoldScores(
        first.essay_ids, first.prompt_ids, first.parts, first.human_scores, mixed
    )


def calibrated(member: FoldScores, calibration: Calibration) -> NDArray[np.float64]:
    """A member's unit scores after its own calibration, (N,)."""
    unit_scores = np.full(len(member), np.nan)
    for prompt_id in member.prompts():
        of_prompt = member.prompt_ids == prompt_id
        unit_scores[of_prompt] = calibration.unit_scores(prompt_id, member.raw_unit_scores[of_prompt])
    return unit_scores


def in_spreads(columns: NDArray, human: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Members' scores, (N, M), and the humans', (N,), as distances from the human mean in human spreads."""
    spread = float(human.std()) or 1.0
    return (columns - human.mean()) / spread, (human - human.mean()) / spread


def fit_weights(columns: NDArray, human: NDArray, prior: NDArray, prior_essays: float) -> NDArray[np.float64]:
    """Weights, (M,), that bring the mix of `columns`, (N, M), nearest to the humans' scores, (N,).

    Least squares over the simplex, plus `prior_essays` times the best member's mean squared error for each squared unit
    of distance from `prior`, (M,): the pull is that of so many essays, whatever the scale.
    """
    mean_square = float(np.square(columns - human[:, None]).mean(axis=0).min()) or 1.0
    num_members, pull = columns.shape[1], np.sqrt(prior_essays)
    rows = [columns / np.sqrt(mean_square), pull * np.eye(num_members), np.full((1, num_members), _SUM_WEIGHT)]
    wanted = [human / np.sqrt(mean_square), pull * prior, np.full(1, _SUM_WEIGHT)]
    weights, _ = nnls(np.concatenate(rows), np.concatenate(wanted))
    return weights / weights.sum()


def require_same_essays(members: Mapping[str, FoldScores]) -> None:
    """Pass members whose rows, sorted by essay, are the same essays, parts and human scores."""
    (first_name, first), *others = members.items()
    for name, member in others:
        if not (
            np.array_equal(first.essay_ids, member.essay_ids)
            and np.array_equal(first.parts, member.parts)
            and np.array_equal(first.human_scores, member.human_scores)
        ):
            raise StageFailed(
                f"{first_name} ({len(first)} essays) and {name} ({len(member)}) did not score the same essays of the"
                " same parts; train them again on the folds as they are now"
            )
