"""Score ranges, and the way between a prompt's scale and the unit score that models learn and emit."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import model_validator

from essays.errors import ScoreOutOfRange
from essays.params import Section

# A score counts as lying on a step when it is nearer than this share of one.
STEP_TOLERANCE = 1e-6


class ScoreRange(Section):
    """The scores that a prompt can have: from `low` to `high` in equal steps."""

    low: float
    """The lowest score."""
    high: float
    """The highest score."""
    step: float = 1.0
    """Distance between neighbouring scores."""

    @model_validator(mode="after")
    def _steps_fit(self) -> "ScoreRange":
        if self.step <= 0 or self.high <= self.low:
            raise ValueError(f"a range needs low < high and step > 0, found {self.low}, {self.high}, {self.step}")
        steps = (self.high - self.low) / self.step
        if abs(steps - round(steps)) > STEP_TOLERANCE:
            raise ValueError(f"{self.low} to {self.high} is no whole number of steps of {self.step}")
        return self

    @property
    def num_grades(self) -> int:
        """How many different scores there are."""
        return round((self.high - self.low) / self.step) + 1

    def grades(self) -> NDArray[np.float64]:
        """Every score, ascending, (num_grades,)."""
        return np.asarray(self.low + self.step * np.arange(self.num_grades), dtype=np.float64)

    def to_unit(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Scores on this scale as unit scores; no check and no rounding, so a mean of raters may pass through."""
        return (np.asarray(scores, dtype=np.float64) - self.low) / (self.high - self.low)

    def from_unit(self, unit_scores: ArrayLike) -> NDArray[np.float64]:
        """Unit scores on this scale, not rounded and not clipped."""
        return np.asarray(unit_scores, dtype=np.float64) * (self.high - self.low) + self.low

    def round(self, scores: ArrayLike) -> NDArray[np.float64]:
        """The nearest grade of each score; halves go up, and what lies outside goes to the nearer end."""
        steps = np.floor((np.asarray(scores, dtype=np.float64) - self.low) / self.step + 0.5)
        return self.low + self.step * np.clip(steps, 0, self.num_grades - 1)

    def classes(self, scores: ArrayLike) -> NDArray[np.int64]:
        """Each score's number of steps above `low`, (N,). Raises ScoreOutOfRange naming the first that has none."""
        values = np.asarray(scores, dtype=np.float64)
        steps = (values - self.low) / self.step
        nearest = np.rint(steps)
        wrong = ~((np.abs(steps - nearest) <= STEP_TOLERANCE) & (nearest >= 0) & (nearest < self.num_grades))
        if wrong.any():
            raise ScoreOutOfRange(
                f"score {values[wrong].flat[0]:g} is not one of {self.low:g} to {self.high:g} in steps of {self.step:g}"
                f" ({int(wrong.sum())} such of {values.size})",
                field="score",
            )
        return nearest.astype(np.int64)
