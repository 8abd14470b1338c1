"""Fits the ensemble: for each prompt non-negative weights that sum to 1 over its members' calibrated unit scores.

Members that err differently are worth mixing; weights are fitted on dev essays by least squares, with a pull toward
equal weights so that a few hundred essays do not decide between members that are as good.
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
    mixed = np.full(len(first), np.nan)
    parts = []
    for prompt_id in first.prompts():
        of_prompt = first.prompt_ids == prompt_id
        unit_scores = {
            name: calibrations[name].unit_scores(prompt_id, member.raw_unit_scores[of_prompt])
            for name, member in members.items()
        }
        human = get_prompt(prompt_id).score_range.to_unit(first.human_scores[of_prompt])
        on_dev = first.parts[of_prompt] == "dev"
        weights = fit_weights(
            {name: member_scores[on_dev] for name, member_scores in unit_scores.items()}, human[on_dev], config
        )
        parts.append(PromptWeights(prompt_id=prompt_id, weights=weights))
        mixed[of_prompt] = mix_unit_scores(weights, unit_scores)
    return EnsembleWeights(prompts=tuple(parts)), FoldScores(
        first.essay_ids, first.prompt_ids, first.parts, first.human_scores, mixed
    )


def fit_weights(unit_scores: Mapping[str, NDArray], human: NDArray, config: EnsembleConfig) -> dict[str, float]:
    """Weights by member that bring the mix nearest to the humans' unit scores, (N,) each.

    Least squares over the simplex, plus `prior_essays` times the best member's mean squared error for each squared unit
    of distance from equal weights: the pull is that of so many essays, whatever the scale.
    """
    names = sorted(unit_scores)
    columns = np.stack([unit_scores[name] for name in names], axis=1)  # (N, M)
    mean_square = float(np.square(columns - human[:, None]).mean(axis=0).min()) or 1.0
    equal = np.full(len(names), 1 / len(names))
    pull = np.sqrt(config.prior_essays)
    rows = [columns / np.sqrt(mean_square), pull * np.eye(len(names)), np.full((1, len(names)), _SUM_WEIGHT)]
    wanted = [human / np.sqrt(mean_square), pull * equal, np.full(1, _SUM_WEIGHT)]
    weights, _ = nnls(np.concatenate(rows), np.concatenate(wanted))
    return dict(zip(names, (weights / weights.sum()).tolist(), strict=True))


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
