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
from essays.prompts import Prompt, get_prompt
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
    part = part.model_copy(update={"stretch": matching_stretch(raw, human, config)})
    return part.model_copy(update={"bands": fit_bands(stretched(part, raw), human, config)})


def matching_stretch(raw: NDArray, human: NDArray, config: CalibrateConfig) -> float:
    """The stretch that gives raw unit scores `config.spread` of the humans' spread; both (N,), on dev essays.

    Before rounding, QWK is Lin's concordance, highest where means and spreads are the humans'. A search for the
    highest QWK after rounding follows what a few essays beside a step happen to be: it lost .002 on essays it had not
    seen (docs/experiments.md).
    """
    if raw.std() < _CONSTANT or human.std() < _CONSTANT:
        return 1.0
    spread = config.spread if len(raw) >= config.min_essays else config.cautious_spread
    return min(spread * float(human.std() / raw.std()), config.largest_stretch)


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
