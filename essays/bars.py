"""What grades must reach to be trusted (Williamson, Xi and Breyer, 2012, and our own bars).

Held against models on test essays by `training.validity`, and against one class by `serving.validity`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from essays.scores import ScoreRange

LOWEST_QWK = 0.70
LARGEST_GAP_TO_RATERS = 0.10
LARGEST_MEAN_DIFFERENCE = 0.15
LARGEST_GROUP_DIFFERENCE = 0.10
SPREAD = (0.90, 1.10)
COVERAGE_MARGIN = 0.02
LOWEST_ADJACENT = 0.95
MOST_GRADES_FOR_ADJACENT = 6
"""On longer scales one step is too little for the bar to mean anything."""

UNKNOWN = (float("nan"), float("nan"))
# A share of .92 lies within .02 of .90, whatever binary makes of it.
_EDGE = 1e-9


@dataclass(frozen=True)
class Bar:
    """The values that a measure may have, both ends among them."""

    low: float = -math.inf
    high: float = math.inf

    def margin(self, value: float) -> float:
        """How far a value lies from the nearer end, negative outside."""
        return min(value - self.low, self.high - value)

    def holds(self, value: float) -> bool:
        """Whether the value is one of them; what is undefined is not."""
        return self.margin(value) >= -_EDGE


@dataclass(frozen=True)
class Measured:
    """A number, how sure it is, and the bar that it is held against."""

    value: float
    """nan where it is undefined."""
    interval: tuple[float, float] = UNKNOWN
    bar: Bar | None = None
    """None where no bar applies."""

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None without a bar."""
        return None if self.bar is None else self.bar.holds(self.value)

    @property
    def sure(self) -> bool | None:
        """Whether the whole interval says what `met` says; None without a bar or an interval."""
        low, high = self.interval
        if self.bar is None or math.isnan(low) or math.isnan(high):
            return None
        if self.met:
            return self.bar.holds(low) and self.bar.holds(high)
        return high < self.bar.low or low > self.bar.high


def within(middle: float, margin: float) -> Bar:
    """Values at most `margin` from `middle`."""
    return Bar(middle - margin, middle + margin)


def bars_that_apply(score_range: ScoreRange, promised_coverage: float, *, two_raters: bool) -> Mapping[str, Bar]:
    """The bars by measure: not every prompt has two raters, or a scale that is short enough."""
    bars = {
        "qwk": Bar(low=LOWEST_QWK),
        "smd": within(0, LARGEST_MEAN_DIFFERENCE),
        "sd_ratio": Bar(*SPREAD),
        "coverage": within(promised_coverage, COVERAGE_MARGIN),
    }
    if two_raters:
        bars["degradation"] = Bar(high=LARGEST_GAP_TO_RATERS)
    if score_range.num_grades <= MOST_GRADES_FOR_ADJACENT:
        bars["adjacent"] = Bar(low=LOWEST_ADJACENT)
    return bars
