"""May this model's scores be used for this class? Held against the bars that the pipeline holds a model against.

The class was marked by its teacher and scored by the service; what comes here are the numbers, no text. The bars, and
whether a number meets them, are those of the validity report (`essays.bars`); what is added is how little a small class
can say: below `SMALLEST_CLASS` essays nothing, and above it whether the whole interval lies on one side of a bar.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from essays.bars import COVERAGE_MARGIN, UNKNOWN, Bar, Measured, bars_that_apply, within
from essays.calibration import Calibration, band_indices
from essays.metrics import (
    bootstrap_qwk_interval,
    exact_agreement,
    quadratic_weighted_kappa,
    spread_ratio,
    standardized_mean_difference,
)
from essays.prompts import Prompt
from essays.sureness import mean_difference_error, normal_interval, share_interval
from serving.schemas import BarVerdict, MarkedEssay, Use, Verdict

SMALLEST_CLASS = 30
"""Marked essays below which, in all or in a band of scores, there is no verdict: chance alone may decide it."""
INTERVAL_COVERAGE = 0.95
_NUM_RESAMPLES = 1000
_SEED = 7
_SHARES = frozenset({"adjacent", "coverage", "band_coverage"})

TITLES = {
    "qwk": "Agrees with you",
    "degradation": "Agrees nearly as your raters do with each other",
    "smd": "Neither lenient nor severe",
    "sd_ratio": "Uses the whole scale",
    "adjacent": "Seldom far off",
    "coverage": "Intervals hold what they promise",
    "band_coverage": "Intervals hold for weak and strong essays",
}
_MEASURES = {
    "qwk": "agreement (QWK)",
    "degradation": "QWK below that of the two raters by",
    "smd": "mean score above (+) or below (−) yours, in standard deviations",
    "sd_ratio": "spread of the scores over that of yours",
    "adjacent": "share of scores at most one step from yours",
    "coverage": "share of your scores inside the interval",
    "band_coverage": "the same where it is furthest off,",
}


@dataclass(frozen=True)
class Judged:
    """A number that was held against its bar."""

    bar: str
    """A key of `TITLES`."""
    measured: Measured
    num_essays: int
    place: str = ""
    """The band of scores, where it is of one."""

    @property
    def verdict(self) -> Verdict:
        """Whether the bar is met, where there are essays enough to say."""
        if self.num_essays < SMALLEST_CLASS or math.isnan(self.measured.value):
            return "cannot_tell"
        return "met" if self.measured.met else "missed"


@dataclass(frozen=True)
class ClassValidity:
    """One model on one class."""

    num_essays: int
    judged: tuple[Judged, ...]
    """One for each bar that applies."""

    @property
    def use(self) -> Use:
        """The answer in a word."""
        if self.num_essays < SMALLEST_CLASS:
            return "cannot_tell"
        missed = self.of("missed")
        if missed:
            return "no" if any(each.measured.sure for each in missed) else "unlikely"
        return "yes" if all(each.measured.sure for each in self.judged) else "likely"

    def of(self, verdict: Verdict) -> list[Judged]:
        """The bars with this verdict."""
        return [each for each in self.judged if each.verdict == verdict]


@dataclass(frozen=True)
class _Class:
    """The numbers of a class, each array (N,)."""

    human: NDArray[np.float64]
    grades: NDArray[np.float64]
    unit_scores: NDArray[np.float64]
    covered: NDArray[np.bool_]


def class_validity(essays: Sequence[MarkedEssay], prompt: Prompt, calibration: Calibration) -> ClassValidity:
    """Every bar that applies to these essays. Raises ScoreOutOfRange for a mark that the prompt's scale has not."""
    rows = np.array(
        [(each.human_score, each.score, each.unit_score, *each.interval) for each in essays], dtype=np.float64
    )
    human, grades, unit_scores, lows, highs = rows.T
    marked = _Class(human, grades, unit_scores, (lows <= human) & (human <= highs))
    raters = [each.rater_scores for each in essays if each.rater_scores]
    number = len(essays)
    judged = [Judged(name, found, number) for name, found in _measured(marked, prompt, calibration, raters).items()]
    return ClassValidity(number, (*judged, _worst_band(marked, prompt, calibration)))


def bar_verdict(judged: Judged) -> BarVerdict:
    """What is answered for one bar."""
    found, verdict = judged.measured, judged.verdict
    assert found.bar is not None, "what has no bar is not judged"
    low, high = found.interval
    return BarVerdict(
        bar=judged.bar,
        title=TITLES[judged.bar],
        verdict=verdict,
        sure=bool(found.sure) if verdict != "cannot_tell" else False,
        num_essays=judged.num_essays,
        value=_number(found.value),
        low=_number(low),
        high=_number(high),
        at_least=_number(found.bar.low),
        at_most=_number(found.bar.high),
        found=_found(judged),
        asked=_asked(judged.bar, found.bar),
    )


def answer_in_words(validity: ClassValidity) -> str:
    """May I use it for this class?"""
    number = f"{validity.num_essays} marked {'essay' if validity.num_essays == 1 else 'essays'}"
    if validity.use == "cannot_tell":
        return (
            f"Cannot tell: {number} {'is' if validity.num_essays == 1 else 'are'} too few, and whatever came out could"
            f" be chance. Mark at least {SMALLEST_CLASS}; from about 100 on the answer gets firm."
        )
    missed = _titles(validity.of("missed"))
    if validity.use == "no":
        sure = _titles([each for each in validity.of("missed") if each.measured.sure])
        return f"No: it misses “{sure}”, and {number} are enough to say so. A person should score this class."
    if validity.use == "unlikely":
        return (
            f"Not on this evidence: it misses “{missed}”, though {number} are too few to be sure of that. Mark more,"
            " or have a person score this class."
        )
    if validity.use == "likely":
        doubtful = _titles([each for each in validity.judged if not each.measured.sure or each.verdict != "met"])
        return (
            f"Nothing speaks against it: no bar is missed, but {number} are too few to be sure of “{doubtful}”. Use it"
            " beside your own reading."
        )
    return f"Yes: every bar is met, and {number} are enough to say so. It stays an estimate of what you would give."


def _measured(
    marked: _Class, prompt: Prompt, calibration: Calibration, raters: Sequence[tuple[float, float]]
) -> dict[str, Measured]:
    grades, human, bounds = marked.grades, marked.human, prompt.score_range
    agreement = quadratic_weighted_kappa(grades, human, bounds)
    low, high = bootstrap_qwk_interval(
        grades, human, bounds, num_resamples=_NUM_RESAMPLES, seed=_SEED, coverage=INTERVAL_COVERAGE
    )
    between_raters = rater_agreement(raters)
    difference, spread = standardized_mean_difference(grades, human), spread_ratio(grades, human)
    adjacent, covered = exact_agreement(grades, human, bounds, within_steps=1), float(marked.covered.mean())
    number = len(human)
    found = {
        "qwk": (agreement, (low, high)),
        "degradation": (between_raters - agreement, (between_raters - high, between_raters - low)),
        "smd": (difference, normal_interval(difference, mean_difference_error(grades, human), INTERVAL_COVERAGE)),
        "sd_ratio": (spread, spread_interval(spread, grades, human)),
        "adjacent": (adjacent, share_interval(adjacent, number, INTERVAL_COVERAGE)),
        "coverage": (covered, share_interval(covered, number, INTERVAL_COVERAGE)),
    }
    bars = bars_that_apply(bounds, calibration.coverage, two_raters=not math.isnan(between_raters))
    return {name: Measured(*numbers, bars[name]) for name, numbers in found.items() if name in bars}


def spread_interval(ratio: float, grades: NDArray, human: NDArray) -> tuple[float, float]:
    """Of the ratio of two standard deviations of the same essays: normal on its logarithm (Morgan, 1939; Pitman, 1939).

    Its standard error is sqrt((1 - r^2) / (N - 1)), r being their correlation; unknown where either does not vary.
    """
    if len(human) < 3 or not grades.std() or not human.std():
        return UNKNOWN
    correlation = float(np.corrcoef(grades, human)[0, 1])
    error = math.sqrt(max(1 - correlation**2, 0.0) / (len(human) - 1))
    factor = math.exp(NormalDist().inv_cdf((1 + INTERVAL_COVERAGE) / 2) * error)
    return ratio / factor, ratio * factor


def _worst_band(marked: _Class, prompt: Prompt, calibration: Calibration) -> Judged:
    """The band of scores whose coverage lies furthest from its promise, among those with essays enough."""
    bands = calibration.of(prompt.prompt_id).bands
    ends = prompt.score_range.from_unit([0.0, *(band.up_to for band in bands)]).tolist()
    indices, bar = band_indices(bands, marked.unit_scores), within(calibration.coverage, COVERAGE_MARGIN)
    found = []
    for index, (low, high) in enumerate(pairwise(ends)):
        covered = marked.covered[indices == index]
        share = float(covered.mean()) if covered.size else float("nan")
        interval = share_interval(share, covered.size, INTERVAL_COVERAGE)
        found.append(Judged("band_coverage", Measured(share, interval, bar), covered.size, f"{low:.3g} to {high:.3g}"))
    judged = [each for each in found if each.verdict != "cannot_tell"]
    if not judged:
        return max(found, key=lambda each: each.num_essays)
    return min(judged, key=lambda each: bar.margin(each.measured.value))


def rater_agreement(raters: Sequence[tuple[float, float]]) -> float:
    """QWK of two raters on whatever scale is theirs; nan for fewer than two essays, or where neither rater varies.

    Squared distances need neither ends nor steps of a scale: a caller may write any numbers, and a matrix of all grades
    between them could take all the memory there is.
    """
    if len(raters) < 2:
        return float("nan")
    first, second = np.array(raters, dtype=np.float64).T
    by_chance = float(first.var() + second.var() + (first.mean() - second.mean()) ** 2)
    # What is left of no variance after rounding is none.
    if by_chance <= 1e-12 * float(np.square([first, second]).max()):
        return float("nan")
    return 1 - float(np.square(first - second).mean()) / by_chance


def _titles(judged: Sequence[Judged]) -> str:
    return "”, “".join(TITLES[each.bar] for each in judged)


def _found(judged: Judged) -> str:
    found, name = judged.measured, judged.bar
    if math.isnan(found.value):
        return "not defined here: one of the two gives every essay the same score"
    of_band = f" (scores {judged.place}, {judged.num_essays} essays)" if judged.place else ""
    low, high = found.interval
    likely = "" if math.isnan(low) else f", likely {_shown(name, low)} to {_shown(name, high)}"
    return f"{_MEASURES[name]} {_shown(name, found.value)}{likely}{of_band}"


def _asked(name: str, bar: Bar) -> str:
    if math.isinf(bar.high):
        return f"at least {_shown(name, bar.low)}"
    if math.isinf(bar.low):
        return f"at most {_shown(name, bar.high)}"
    return f"{_shown(name, bar.low)} to {_shown(name, bar.high)}"


def _shown(name: str, value: float) -> str:
    return f"{100 * value:.1f}%" if name in _SHARES else f"{value:z.2f}".replace("-", "−")


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
