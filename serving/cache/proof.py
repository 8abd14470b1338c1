"""Whether near-duplicates may get a kept score: shown by scoring some of them anyway, model by model.

Two things are learned. The *gap* between the kept and the real raw unit score gives a margin: a kept score that stands
nearer than that to another grade is not handed out. And of those that would have been, how often the *grade* had been
another: the upper 95 % bound of that share opens the tier, and closes it with an alarm.
"""

import math
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np

from serving.cache.sql_store import Check, CheckKind

CLOSE_ABOVE = 0.01
"""The tier closes, with an alarm, when more changed grades than this can no longer be excluded."""
OPEN_BELOW = 0.005
"""It opens when so many can be: 600 in a row with the same grade. Half of the other, or one bad case would close it."""
MIN_GAPS = 100
"""Before so many gaps there is no margin, and nothing to hand out."""
AIM = 0.001
"""The share of changed grades that the margin is chosen for; what comes of it is verified."""
_KEPT_GAPS = 2_000
_KEPT_GRADES = 5_000
KEPT_CHECKS = 20_000

ProofState = Literal["proving", "proved", "alarm"]


class Proof:
    """What is known of each model, by the digest of its artifact."""

    def __init__(self) -> None:
        self._gaps: defaultdict[tuple[str, str], deque[float]] = defaultdict(lambda: deque(maxlen=_KEPT_GAPS))
        """By subject and number of edits: two words move a score further than one."""
        self._grades: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_KEPT_GRADES))
        self._proved: set[str] = set()
        self._alarms: dict[str, str] = {}

    def load(self, checks: Sequence[Check], alarms: Mapping[str, str]) -> None:
        """Start again from what is kept, by this and other instances."""
        self._gaps.clear()
        self._grades.clear()
        self._alarms = dict(alarms)
        for check in checks:
            if check.kind == "grade":
                self._grades[check.subject].append(check.value)
            else:
                self._gaps[check.subject, check.kind].append(check.value)
        self._proved = {subject for subject in self._grades if self._holds(subject)}

    def add(self, check: Check) -> str | None:
        """Learn from one; the reason of an alarm that it raises, if it does."""
        if check.kind != "grade":
            self._gaps[check.subject, check.kind].append(check.value)
            return None
        self._grades[check.subject].append(check.value)
        bound = self.bound(check.subject)
        if bound <= OPEN_BELOW:
            self._proved.add(check.subject)
        if bound <= CLOSE_ABOVE or check.subject not in self._proved or check.subject in self._alarms:
            return None
        verified, changed = self.counts(check.subject)
        reason = f"{changed} of {verified} verified near-duplicates had another grade: up to {bound:.2%} may have"
        self._alarms[check.subject] = reason
        return reason

    def margin(self, subject: str, spacing: float, edits: int, aim: float = AIM) -> float:
        """How far from another grade a kept raw unit score must stand to be handed out after so many edits.

        The smallest that leaves an expected share of `aim` of changed grades, where grades are `spacing` raw unit
        scores apart. Infinite while too few gaps are known, and where no margin would do.
        """
        gaps = np.sort(self._gaps[subject, gap_kind(edits)])
        if len(gaps) < MIN_GAPS:
            return math.inf
        margins = np.concatenate([[0.0], gaps])
        # A kept score stands anywhere between two grades alike. One that is further than the margin from the next grade
        # is still taken for another if its gap reaches beyond: a share of (gap - margin) / spacing of the time.
        sums = np.concatenate([np.cumsum(gaps[::-1])[::-1], [0.0]])
        beyond = (sums - margins * np.arange(len(gaps), -1, -1)) / len(gaps)
        handed_out = spacing - 2 * margins
        good = (handed_out > 0) & (beyond <= aim * handed_out)
        return float(margins[np.argmax(good)]) if good.any() else math.inf

    def gap(self, subject: str) -> float | None:
        """The gap that 99 % of one-word edits stay below; None before enough are known."""
        gaps = self._gaps[subject, gap_kind(1)]
        return float(np.quantile(gaps, 0.99)) if len(gaps) >= MIN_GAPS else None

    def state(self, subject: str) -> ProofState:
        """Whether it may hand out."""
        if subject in self._alarms:
            return "alarm"
        return "proved" if subject in self._proved else "proving"

    def alarm(self, subject: str) -> str | None:
        """Why it was closed for good."""
        return self._alarms.get(subject)

    def counts(self, subject: str) -> tuple[int, int]:
        """How many were verified lately, and how many of them had another grade."""
        grades = self._grades[subject]
        return len(grades), int(sum(grades))

    def bound(self, subject: str) -> float:
        """Upper 95 % bound of the share of changed grades."""
        verified, changed = self.counts(subject)
        return upper_bound(changed, verified)

    def _holds(self, subject: str) -> bool:
        return self.bound(subject) <= (CLOSE_ABOVE if subject in self._proved else OPEN_BELOW)


def gap_kind(edits: int) -> CheckKind:
    """The kind of a check of a gap; a text without an edit, which differs in single spaces, counts with one."""
    return "gap_1" if edits <= 1 else "gap_2"


@lru_cache(maxsize=4096)
def upper_bound(events: int, trials: int, confidence: float = 0.95) -> float:
    """The one-sided upper bound of a share (Clopper and Pearson, 1934); 1 without trials."""
    if events >= trials:
        return 1.0
    low, high = events / trials, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if _at_most(events, trials, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def _at_most(events: int, trials: int, share: float) -> float:
    """The chance of at most so many events."""
    if share >= 1:
        return 0.0
    logs = (
        math.lgamma(trials + 1)
        - math.lgamma(count + 1)
        - math.lgamma(trials - count + 1)
        + count * math.log(share)
        + (trials - count) * math.log1p(-share)
        for count in range(events + 1)
        if share > 0
    )
    return math.fsum(map(math.exp, logs)) if share > 0 else 1.0
