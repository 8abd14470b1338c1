"""Fits `essays.calibration` on dev essays: a stretch for each prompt, and conformal intervals for its score bands.

Stretch and intervals are fitted on the same dev essays, and those also chose the model's epoch. So the intervals are
conformal in form, not in proof: the stretch has one free number per prompt, and what that costs in coverage is
measured on the test part (`training.evaluate`), never assumed.
"""

import math

import numpy as np
from numpy.typing import NDArray

from essays.calibration import Band, Calibration, PromptCalibration, stretched
from essays.errors import StageFailed
from essays.metrics import quadratic_weighted_kappa, spread_ratio
from essays.prompts import Prompt, get_prompt
from essays.scores import ScoreRange
from training.evaluation_config import CalibrateConfig
from training.fold_scores import FoldScores

# A model whose raw scores vary less than this, in unit scores, says nothing that a stretch could widen.
_CONSTANT = 1e-6
_WHOLE_RANGE = Band(up_to=1.0, half_width=1.0)


def fit_calibration(scores: FoldScores, config: CalibrateConfig) -> Calibration:
    """One model's calibration on one fold, from its dev essays. Raises StageFailed for a prompt without any."""
    return Calibration(
        coverage=config.coverage,
        prompts=tuple(
            fit_prompt(get_prompt(prompt_id), scores.select("dev", prompt_id), config) for prompt_id in scores.prompts()
        ),
    )


def fit_prompt(prompt: Prompt, dev: FoldScores, config: CalibrateConfig) -> PromptCalibration:
    """Stretch and bands of one prompt."""
    if not len(dev):
        raise StageFailed(
            f"{prompt.prompt_id}: no dev essay to calibrate on; the folds lack it, run the split stage again"
        )
    raw, human = dev.raw_unit_scores, prompt.score_range.to_unit(dev.human_scores)
    centre = float(raw.mean())
    part = PromptCalibration(
        prompt_id=prompt.prompt_id,
        centre=centre,
        offset=float(human.mean()) - centre,
        stretch=1.0,
        bands=(_WHOLE_RANGE,),
    )
    part = part.model_copy(update={"stretch": choose_stretch(part, raw, human, prompt.score_range, config)})
    return part.model_copy(update={"bands": fit_bands(stretched(part, raw), human, config)})


def choose_stretch(
    part: PromptCalibration, raw: NDArray, human: NDArray, score_range: ScoreRange, config: CalibrateConfig
) -> float:
    """The stretch with the highest dev QWK after rounding; of those as good, the one nearest to the humans' spread.

    QWK of a few hundred rounded grades jumps with every essay that crosses a step, so it is smoothed along the grid.
    The spread is that of the rounded grades: where most essays share two grades, rounding narrows much more than
    regression did. Human scores are (N,) unit scores.
    """
    if raw.std() < _CONSTANT or human.std() < _CONSTANT:
        return 1.0
    matching = float(human.std() / raw.std())
    furthest = math.log(config.widest_change)
    stretches = matching * np.exp(np.linspace(-furthest, furthest, config.num_stretches))
    grades = dev_grades(part, raw, score_range, np.minimum(stretches, config.largest_stretch))
    human_scores = score_range.round(score_range.from_unit(human))
    spreads = smoothed(np.array([spread_ratio(row, human_scores) for row in grades]), config.smoothing_points)
    if len(raw) < config.min_essays:
        chosen = np.argmin(np.abs(spreads - config.cautious_spread))
    else:
        kappas = np.array([quadratic_weighted_kappa(row, human_scores, score_range) for row in grades])
        kappas = smoothed(kappas, config.smoothing_points)
        best = np.flatnonzero(kappas >= kappas.max() - config.tie_tolerance)
        chosen = best[np.argmin(np.abs(spreads[best] - 1))]
    return min(float(stretches[chosen]), config.largest_stretch)


def dev_grades(
    part: PromptCalibration, raw: NDArray, score_range: ScoreRange, stretches: NDArray
) -> NDArray[np.float64]:  # (S, N)
    """The grades under each stretch."""
    parts = (part.model_copy(update={"stretch": stretch}) for stretch in stretches.tolist())
    return np.stack([score_range.round(score_range.from_unit(stretched(each, raw))) for each in parts])


def smoothed(values: NDArray[np.float64], num_points: int) -> NDArray[np.float64]:
    """The mean of each value and its neighbours, `num_points` in all and fewer at the ends."""
    window = np.ones(num_points)
    return np.convolve(values, window, "same") / np.convolve(np.ones_like(values), window, "same")


def fit_bands(unit_scores: NDArray, human: NDArray, config: CalibrateConfig) -> tuple[Band, ...]:
    """Intervals by score band (Mondrian conformal), from stretched and human unit scores, (N,) each.

    A band is a part of the scale as the model sees it, since the human score is what the interval is for. Bands with
    few essays are merged, because a quantile of few residuals is either unsure or the whole scale.
    """
    residuals = np.abs(human - unit_scores)
    ends = merged_ends(unit_scores, np.linspace(0, 1, config.num_bands + 1)[1:], config.min_band_essays)
    indices = np.searchsorted(ends[:-1], unit_scores, side="left")
    return tuple(
        Band(up_to=float(end), half_width=conformal_quantile(residuals[indices == index], config.coverage))
        for index, end in enumerate(ends)
    )


def merged_ends(unit_scores: NDArray, ends: NDArray[np.float64], min_essays: int) -> NDArray[np.float64]:
    """Upper ends of bands after each with fewer than `min_essays` joined its smaller neighbour, smallest first."""
    while len(ends) > 1:
        counts = np.bincount(np.searchsorted(ends[:-1], unit_scores, side="left"), minlength=len(ends))
        smallest = int(np.argmin(counts))
        if counts[smallest] >= min_essays:
            break
        neighbours = [index for index in (smallest - 1, smallest + 1) if 0 <= index < len(ends)]
        partner = min(neighbours, key=lambda index: counts[index])
        ends = np.delete(ends, min(smallest, partner))
    return ends


def conformal_quantile(residuals: NDArray, coverage: float) -> float:
    """The residual that the next essay's stays below with probability `coverage`; 1, the whole scale, if too few.

    Of n residuals it is the ceil((n + 1) coverage)-th smallest: the + 1 is for the essay to come (Vovk et al., 2005).
    """
    # Rounded first: 100 * 0.07 is 7.000000000000001 in binary and would ask for the eighth.
    rank = math.ceil(round((len(residuals) + 1) * coverage, 9))
    return float(np.sort(residuals)[rank - 1]) if rank <= len(residuals) else 1.0
