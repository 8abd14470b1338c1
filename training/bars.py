"""What a model's numbers must reach to be trusted with grades (Williamson, Xi and Breyer, 2012, and our own bars)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from training.summary import PromptSummary

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


def bar_values(prompt: PromptSummary) -> dict[str, float]:
    """What is held against a bar, by measure: means over folds, and shares of all folds' essays."""
    return {
        "qwk": prompt.mean("qwk"),
        "degradation": prompt.mean("human_qwk") - prompt.mean("qwk"),
        "smd": prompt.mean("smd"),
        "sd_ratio": prompt.mean("sd_ratio"),
        "adjacent": prompt.share("adjacent"),
        "coverage": prompt.share("coverage"),
    }


def bars_of(prompt: PromptSummary) -> Mapping[str, Bar]:
    """The bars that apply to a prompt: not every one has two raters, or a scale that is short enough."""
    bars = {
        "qwk": Bar(low=LOWEST_QWK),
        "smd": within(0, LARGEST_MEAN_DIFFERENCE),
        "sd_ratio": Bar(*SPREAD),
        "coverage": within(prompt.promised_coverage, COVERAGE_MARGIN),
    }
    if not math.isnan(prompt.mean("human_qwk")):
        bars["degradation"] = Bar(high=LARGEST_GAP_TO_RATERS)
    if prompt.score_range.num_grades <= MOST_GRADES_FOR_ADJACENT:
        bars["adjacent"] = Bar(low=LOWEST_ADJACENT)
    return bars


def missed_measures(prompt: PromptSummary) -> set[str]:
    """Names of the measures (`training.summary.MEASURES`) that miss their bar."""
    values = bar_values(prompt)
    missed = {measure for measure, bar in bars_of(prompt).items() if not bar.holds(values[measure])}
    # Loss against the raters is a bar of its own, and no measure of its own.
    return {"qwk" if measure == "degradation" else measure for measure in missed}
