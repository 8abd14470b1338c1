"""From a model's raw unit score to the grade that is answered, per prompt, with an interval.

Fitted on dev essays by `training.calibrate`; applied here, the same in evaluation and in serving. Three steps:
stretch (regression pulls scores to the mean: undo it), clip to [0, 1], round to the prompt's grades.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from essays.errors import UnknownPrompt
from essays.params import Section, write_section
from essays.prompts import Prompt
from essays.scores import ScoreRange

# Intervals end on grades; a bound that misses a grade by rounding error still includes it.
_EDGE = 1e-9


class Band(Section):
    """Half-widths of the interval for stretched unit scores up to `up_to` (Mondrian conformal: Vovk et al., 2003)."""

    up_to: float
    """Upper end of the band, in unit scores; the last band's is 1."""
    half_width: float = Field(ge=0)
    """Quantile of |human - stretched| on the dev essays of this band, in unit scores."""


class PromptCalibration(Section):
    """How one model's raw unit scores become grades on one prompt."""

    prompt_id: str
    centre: float
    """The raw unit score that the stretch leaves in place: the mean of raw dev scores."""
    offset: float
    """Added after the stretch: the humans' dev mean minus `centre`."""
    stretch: float = Field(gt=0)
    """Factor around the centre; above 1 it widens what regression narrowed."""
    bands: tuple[Band, ...] = Field(min_length=1)
    """Ascending by `up_to`."""


class Grade(Section):
    """What is answered for one essay."""

    score: float
    """On the prompt's scale, one of its grades."""
    unit_score: float
    """Stretched and clipped to [0, 1], not rounded."""
    interval: tuple[float, float]
    """The lowest and highest grade inside the conformal interval; always holds `score`."""


@dataclass(frozen=True)
class Grades:
    """What is answered for many essays of one prompt, each array (N,)."""

    scores: NDArray[np.float64]
    unit_scores: NDArray[np.float64]
    lows: NDArray[np.float64]
    """Lower ends of the intervals."""
    highs: NDArray[np.float64]
    """Upper ends of the intervals."""
    bands: NDArray[np.int64]
    """Which of the prompt's bands each essay fell into."""


class Calibration(Section):
    """One model's calibration over all its prompts."""

    coverage: float = Field(gt=0, lt=1)
    """Share of human scores that the intervals are meant to hold."""
    prompts: tuple[PromptCalibration, ...]

    def of(self, prompt_id: str) -> PromptCalibration:
        """The part for this prompt. Raises UnknownPrompt."""
        for part in self.prompts:
            if part.prompt_id == prompt_id:
                return part
        known = ", ".join(part.prompt_id for part in self.prompts)
        raise UnknownPrompt(f"no calibration for prompt {prompt_id!r:.80}; known: {known}", field="prompt_id")

    def unit_scores(self, prompt_id: str, raw_unit_scores: ArrayLike) -> NDArray[np.float64]:
        """Stretched and clipped unit scores, of the shape given."""
        return stretched(self.of(prompt_id), raw_unit_scores)

    def grade(self, prompt: Prompt, raw_unit_score: float) -> Grade:
        """The grade of one essay, from a model's raw unit score."""
        return grade_of(self.of(prompt.prompt_id), prompt.score_range, raw_unit_score)

    def grades(self, prompt: Prompt, raw_unit_scores: ArrayLike) -> Grades:
        """The grades of many essays of one prompt, (N,): what `grade` gives for each."""
        return grades_of(self.of(prompt.prompt_id), prompt.score_range, raw_unit_scores)


def grade_of(part: PromptCalibration, score_range: ScoreRange, raw_unit_score: float) -> Grade:
    """The grade of one essay on this scale, from a raw unit score."""
    grades = grades_of(part, score_range, [raw_unit_score])
    return Grade(
        score=float(grades.scores[0]),
        unit_score=float(grades.unit_scores[0]),
        interval=(float(grades.lows[0]), float(grades.highs[0])),
    )


def grades_of(part: PromptCalibration, score_range: ScoreRange, raw_unit_scores: ArrayLike) -> Grades:
    """The grades of many essays on this scale, (N,): what `grade_of` gives for each."""
    unit_scores = stretched(part, raw_unit_scores)
    scores = score_range.round(score_range.from_unit(unit_scores))
    bands, widths = band_indices(part.bands, unit_scores), half_width(part.bands, unit_scores)
    steps = (score_range.num_grades - 1) * np.stack([unit_scores - widths, unit_scores + widths])  # (2, N)
    lows = score_range.low + score_range.step * np.maximum(np.ceil(steps[0] - _EDGE), 0)
    highs = score_range.low + score_range.step * np.minimum(np.floor(steps[1] + _EDGE), score_range.num_grades - 1)
    # A band narrower than half a step may hold no grade at all: the answer itself always belongs to its interval.
    return Grades(scores, unit_scores, np.minimum(lows, scores), np.maximum(highs, scores), bands)


def stretched(part: PromptCalibration, raw_unit_scores: ArrayLike) -> NDArray[np.float64]:
    """Raw unit scores moved away from the centre, then clipped to [0, 1]."""
    raw = np.asarray(raw_unit_scores, dtype=np.float64)
    return np.clip(part.centre + part.offset + part.stretch * (raw - part.centre), 0.0, 1.0)


def half_width(bands: Sequence[Band], unit_scores: ArrayLike) -> NDArray[np.float64]:
    """The interval's half-width at each stretched unit score, of the shape given."""
    return np.array([band.half_width for band in bands])[band_indices(bands, unit_scores)]


def band_indices(bands: Sequence[Band], unit_scores: ArrayLike) -> NDArray[np.int64]:
    """The band of each stretched unit score; one above every band belongs to the last."""
    ends = np.array([band.up_to for band in bands[:-1]])
    return np.searchsorted(ends, np.asarray(unit_scores, dtype=np.float64), side="left")


def read_calibration(path: Path) -> Calibration:
    """A calibration as `write_calibration` left it."""
    return Calibration.model_validate_json(path.read_bytes())


def write_calibration(calibration: Calibration, path: Path) -> None:
    """The same bytes for the same calibration."""
    write_section(calibration, path)
