"""Every number behind the question "may this model's grades be trusted?", and whether each bar is met.

Held against the bars of `essays.bars`; shown by `training.validity_page`, kept by `training.validity_tree`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from essays.bars import COVERAGE_MARGIN, UNKNOWN, Measured, within
from essays.ensemble import ENSEMBLE
from essays.scores import ScoreRange
from essays.sureness import mean_difference_error, normal_interval, share_interval
from training.bands import pooled_bands
from training.bars import bar_values, bars_of
from training.baselines import BASELINES, LENGTH_ONLY
from training.evaluate import BandResult
from training.hand_off import Kept, hand_off
from training.subgroups import Attributes, Group, groups_of
from training.summary import CorpusSummary, PromptSummary


@dataclass(frozen=True)
class BandValidity:
    """The intervals of the test essays whose score, before rounding, lies in one band."""

    from_score: float
    to_score: float
    num_essays: int
    coverage: Measured


@dataclass(frozen=True)
class PromptValidity:
    """One model on one prompt."""

    prompt_id: str
    score_range: ScoreRange
    num_essays: int
    """Test essays of all folds."""
    human_qwk: float
    """Rater 1 with rater 2, mean over folds; nan where single ratings are not published."""
    length_only_qwk: float
    """What the number of words alone reaches; nan when that was not evaluated."""
    qwk: Measured
    degradation: Measured
    """`human_qwk` less `qwk`; the interval is the model's alone."""
    smd: Measured
    sd_ratio: Measured
    exact: Measured
    adjacent: Measured
    coverage: Measured
    bands: tuple[BandValidity, ...]
    groups: tuple[Group, ...]
    """Of all attributes; empty where the corpus tells none."""
    hand_off: tuple[Kept, ...]


@dataclass(frozen=True)
class Judged:
    """A number that was held against its bar."""

    place: str
    """The prompt, and the band or group within it."""
    measured: Measured

    @property
    def margin(self) -> float:
        """How far inside the bar it lies, negative outside; what is undefined lies outside of everything."""
        assert self.measured.bar
        return -math.inf if math.isnan(self.measured.value) else self.measured.bar.margin(self.measured.value)


@dataclass(frozen=True)
class Verdict:
    """One bar, everywhere that it applies."""

    bar: str
    """A key of `CRITERIA`."""
    judged: tuple[Judged, ...]
    """The worst first; empty where the bar applies nowhere."""

    @property
    def met(self) -> bool | None:
        """Whether it is met everywhere; None where it applies nowhere."""
        return None if not self.judged else not self.missed

    @property
    def missed(self) -> tuple[Judged, ...]:
        """Where it is not, the worst first."""
        return tuple(each for each in self.judged if not each.measured.met)


@dataclass(frozen=True)
class ModelValidity:
    """One model on one corpus."""

    model: str
    corpus: str
    prompts: tuple[PromptValidity, ...]
    hand_off: tuple[Kept, ...]
    """All prompts together."""

    def verdicts(self) -> tuple[Verdict, ...]:
        """One for each of `CRITERIA`."""
        return tuple(_verdict(bar, self.prompts, places) for bar, places in CRITERIA.items())


Places = Callable[[PromptValidity], Iterable[tuple[str, Measured]]]


def _of(measure: str) -> Places:
    return lambda prompt: [("", getattr(prompt, measure))]


CRITERIA: dict[str, Places] = {
    "qwk": _of("qwk"),
    "degradation": _of("degradation"),
    "smd": _of("smd"),
    "group_smd": lambda prompt: [(group.title, group.smd) for group in prompt.groups],
    "sd_ratio": _of("sd_ratio"),
    "adjacent": _of("adjacent"),
    "coverage": _of("coverage"),
    "band_coverage": lambda prompt: [(band_name(band), band.coverage) for band in prompt.bands],
}
"""Where in a prompt each bar is looked at: what is named there, and what is measured."""


def validity(summaries: Sequence[CorpusSummary], attributes: Attributes, coverage: float) -> list[ModelValidity]:
    """One for each corpus and model: corpora by name, in each the ensemble first; baselines stand beside, not alone.

    `coverage` is that of the intervals which say how sure a number is.
    """
    lengths = {
        prompt.prompt_id: prompt.mean("qwk")
        for summary in summaries
        if summary.model == LENGTH_ONLY
        for prompt in summary.prompts
    }
    models = [summary for summary in summaries if summary.model not in BASELINES]
    models.sort(key=lambda summary: (summary.corpus, summary.model != ENSEMBLE))  # stable: else as they were
    return [
        ModelValidity(
            summary.model,
            summary.corpus,
            tuple(
                prompt_validity(prompt, lengths.get(prompt.prompt_id, math.nan), attributes, coverage)
                for prompt in summary.prompts
            ),
            hand_off(summary.prompts, coverage),
        )
        for summary in models
    ]


def prompt_validity(
    prompt: PromptSummary, length_only_qwk: float, attributes: Attributes, coverage: float
) -> PromptValidity:
    """All numbers of one prompt."""
    return PromptValidity(
        prompt_id=prompt.prompt_id,
        score_range=prompt.score_range,
        num_essays=prompt.num_essays,
        human_qwk=prompt.mean("human_qwk"),
        length_only_qwk=length_only_qwk,
        exact=_share(prompt.share("exact"), prompt.num_essays, coverage),
        **measured(prompt, coverage),
        bands=tuple(_band(band, prompt.promised_coverage, coverage) for band in pooled_bands(prompt)),
        groups=groups_of(prompt, attributes, coverage),
        hand_off=hand_off([prompt], coverage),
    )


def measured(prompt: PromptSummary, coverage: float) -> dict[str, Measured]:
    """What `bar_values` holds against `bars_of`, with intervals; the spread's would need a bootstrap of its own."""
    values, bars = bar_values(prompt), bars_of(prompt)
    low, high = prompt.qwk_interval(coverage)
    human_qwk = prompt.mean("human_qwk")
    intervals = {
        "qwk": (low, high),
        "degradation": (human_qwk - high, human_qwk - low),
        "smd": normal_interval(values["smd"], _smd_error(prompt), coverage),
        "adjacent": share_interval(values["adjacent"], prompt.num_essays, coverage),
        "coverage": share_interval(values["coverage"], prompt.num_essays, coverage),
    }
    return {name: Measured(value, intervals.get(name, UNKNOWN), bars.get(name)) for name, value in values.items()}


def band_name(band: BandValidity) -> str:
    """`2 to 3.5`, on the prompt's scale."""
    return f"{band.from_score:.3g} to {band.to_score:.3g}"


def _smd_error(prompt: PromptSummary) -> float:
    """Standard error of the mean over folds."""
    errors = [mean_difference_error(result.grades, result.human_scores) for result in prompt.results]
    return math.hypot(*errors) / len(errors)


def _share(share: float, num_essays: int, coverage: float) -> Measured:
    return Measured(share, share_interval(share, num_essays, coverage))


def _band(band: BandResult, promised: float, coverage: float) -> BandValidity:
    interval = share_interval(band.coverage, band.num_essays, coverage)
    bar = within(promised, COVERAGE_MARGIN) if band.num_essays else None
    covered = Measured(band.coverage, interval, bar)
    return BandValidity(band.from_score, band.to_score, band.num_essays, covered)


def _verdict(bar: str, prompts: Iterable[PromptValidity], places: Places) -> Verdict:
    judged = [
        Judged(f"{prompt.prompt_id}, {name}" if name else prompt.prompt_id, number)
        for prompt in prompts
        for name, number in places(prompt)
        if number.bar
    ]
    return Verdict(bar, tuple(sorted(judged, key=lambda each: each.margin)))
