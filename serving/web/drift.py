"""The page of drift: what its template is given. Words, and places in a drawing; no HTML here, no arithmetic there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from serving.schemas import DriftBin, DriftResponse, PromptDrift, QuantityDrift

_HEIGHT = 150
"""Of the tallest bar, in pixels."""
_MOST_LABELS = 5


@dataclass(frozen=True)
class Bar:
    """One share, drawn; places across in percent of the drawing's width, down in pixels."""

    x: str
    y: str
    width: str
    height: str


@dataclass(frozen=True)
class Label:
    """A value between two bins."""

    x: str
    text: str


@dataclass(frozen=True)
class BinView:
    """One line of the numbers behind a drawing."""

    values: str
    expected: str
    found: str


@dataclass(frozen=True)
class Drawing:
    """Two distributions, bin by bin."""

    expected: list[Bar]
    found: list[Bar]
    labels: list[Label]
    bins: list[BinView]


@dataclass(frozen=True)
class QuantityView:
    """One quantity's line, and its drawing where there are essays enough."""

    title: str
    num_essays: str
    num_reference: str
    psi: str
    ks: str
    verdict: str
    drifted: bool
    drawing: Drawing | None


@dataclass(frozen=True)
class PromptDriftView:
    """One writing task."""

    name: str
    title: str
    drifted: bool
    quantities: list[QuantityView]


@dataclass(frozen=True)
class DriftView:
    """Everything that the page shows: the question for a key, and the answer where there is one."""

    errors: dict[str, str] = field(default_factory=dict)
    answer: str = ""
    drifted: bool = False
    prompts: list[PromptDriftView] = field(default_factory=list)
    page: str = "drift"

    @property
    def title(self) -> str:
        """For the window, with what was found first."""
        return f"{self.answer.partition(':')[0]}: Fairmark" if self.answer else "Have essays changed? Fairmark"


def drift_view(report: DriftResponse, titles: Mapping[str, str]) -> DriftView:
    """The report in words and drawings, alarms first; `titles` are the writing tasks'."""
    ordered = sorted(report.prompts, key=lambda prompt: not prompt.drifted)
    prompts = [_prompt(prompt, titles.get(prompt.prompt_id, prompt.prompt_id)) for prompt in ordered]
    return DriftView(answer=_answer(report, titles), drifted=report.drifted, prompts=prompts)


def _answer(report: DriftResponse, titles: Mapping[str, str]) -> str:
    if not report.prompts:
        return "Nothing is watched: no served model brings essays to compare with."
    if report.drifted:
        named = [titles.get(prompt.prompt_id, prompt.prompt_id) for prompt in report.prompts if prompt.drifted]
        return f"Essays have changed: {'; '.join(named)}."
    if all(each.drifted is None for prompt in report.prompts for each in prompt.quantities):
        return f"Too few essays to tell: it takes {report.least_essays} on a writing task."
    return "No alarm: the last essays are like those that the models were made for."


def _prompt(prompt: PromptDrift, title: str) -> PromptDriftView:
    return PromptDriftView(prompt.prompt_id, title, prompt.drifted, [_quantity(each) for each in prompt.quantities])


def _quantity(found: QuantityDrift) -> QuantityView:
    return QuantityView(
        title=found.title,
        num_essays=f"{found.num_essays:,}",
        num_reference=f"{found.num_reference:,}",
        psi=_of_bound(found.psi, found.psi_bound),
        ks=_of_bound(found.ks, found.ks_bound),
        verdict="too few essays" if found.drifted is None else "alarm" if found.drifted else "none",
        drifted=bool(found.drifted),
        drawing=None if found.drifted is None else drawing_of(found.bins),
    )


def drawing_of(bins: Sequence[DriftBin]) -> Drawing:
    """Bins as pairs of bars, all of one width, since the reference's bins hold about as many essays each."""
    found = [each.found or 0.0 for each in bins]
    expected = [each.expected for each in bins]
    most, wide = max(*found, *expected), 100 / len(bins)
    every = -(-len(bins) // _MOST_LABELS)
    edges = [(place, each.low) for place, each in enumerate(bins) if each.low is not None]
    return Drawing(
        expected=[_bar(share / most, (place + 0.08) * wide, 0.42 * wide) for place, share in enumerate(expected)],
        found=[_bar(share / most, (place + 0.5) * wide, 0.42 * wide) for place, share in enumerate(found)],
        labels=[Label(f"{place * wide:.2f}%", f"{edge:.3g}") for place, edge in edges[::every]],
        bins=[BinView(_values(each), f"{each.expected:.0%}", f"{each.found or 0:.0%}") for each in bins],
    )


def _bar(part: float, left: float, width: float) -> Bar:
    height = _HEIGHT * part
    return Bar(f"{left:.2f}%", f"{_HEIGHT - height:.1f}", f"{width:.2f}%", f"{height:.1f}")


def _values(found: DriftBin) -> str:
    if found.low is None and found.high is None:
        return "all"
    if found.low is None:
        return f"below {found.high:.3g}"
    if found.high is None:
        return f"{found.low:.3g} and more"
    low, high = f"{found.low:.3g}", f"{found.high:.3g}"
    return low if low == high else f"{low} to {high}"


def _of_bound(value: float | None, bound: float | None) -> str:
    return "–" if value is None else f"{value:.2f} of {bound:.2f}"
