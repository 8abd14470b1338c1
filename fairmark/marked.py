"""A class that its teacher marked: scored by the service, then held against the bars of trust.

The essays go where all essays go, to be scored; what is asked about the class afterwards are numbers alone.
"""

import math
from collections.abc import Iterator, Sequence

from fairmark.answers import BarVerdict, ErrorDetail
from fairmark.client import MarkedEssay
from fairmark.errors import WrongInput
from fairmark.results import Earlier, Outcome
from fairmark.sources import Essay


class MarkedClass:
    """Outcomes as they come, with the marks of their essays: a sink for `score_all`."""

    def __init__(self) -> None:
        self.essays: list[MarkedEssay] = []
        self.left_out: list[tuple[str, ErrorDetail]] = []
        """Essays without a score, by name, each with its reason."""

    def go_on(self, essays: Iterator[Essay]) -> Earlier:
        """Nothing was done before."""
        return Earlier(0, 0)

    def append(self, outcomes: Sequence[Outcome]) -> None:
        """Take some more, whose marks are numbers."""
        for outcome in outcomes:
            human_score, *raters = _marks(outcome.essay)
            if outcome.score is None:
                self.left_out.append((outcome.essay.essay_id, outcome.error or _NO_ANSWER))
                continue
            score = outcome.score
            pair = (raters[0], raters[1]) if len(raters) == 2 else None
            self.essays.append(MarkedEssay(score.score, score.unit_score, score.interval, human_score, pair))


def require_marks(essays: Sequence[Essay]) -> None:
    """Raise WrongInput for the first essay whose marks are no numbers, before any is sent."""
    for essay in essays:
        _marks(essay)


def verdict_words(bar: BarVerdict) -> str:
    """`met`, `missed` or `cannot tell`, and whether there are essays enough to be sure."""
    if bar.verdict == "cannot_tell":
        return "cannot tell"
    return bar.verdict if bar.sure else f"{bar.verdict}, not sure"


_NO_ANSWER = ErrorDetail(code="no_answer", message="the service gave no answer")


def _marks(essay: Essay) -> list[float]:
    """The teacher's score, and two raters' where both stand in the row."""
    human, *raters = essay.marks
    given = [human, *raters] if all(raters) else [human]
    try:
        marks = [float(mark.replace(",", ".")) for mark in given]
    except ValueError:
        marks = [math.nan]
    if not all(map(math.isfinite, marks)):
        raise WrongInput(f"essay {essay.essay_id!r:.80}: its score must be a number, and the row holds none")
    return marks
