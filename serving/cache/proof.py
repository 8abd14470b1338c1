"""Whether near-duplicates may get a kept score: shown by scoring some of them anyway, model by model.

Two things are learned. The *shifts* from kept raw unit scores to the real ones: the share of them that would change a
grade of an answer is that answer's *risk*, and those of least risk are handed out. And of those that would have been,
how often a grade had been another: the upper 95 % bound of that share opens the tier, and closes it with an alarm.
"""

import math
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from serving.cache.sql_store import Check

CLOSE_ABOVE = 0.01
"""The tier closes, with an alarm, when more changed grades than this can no longer be excluded."""
OPEN_BELOW = 0.0075
"""It opens when so many can be, of `MIN_GRADES` at least."""
MIN_GRADES = 1_500
MIN_SHIFTS = 100
"""Before so many shifts there is no risk, and before so many risks no limit: nothing to hand out."""
AIM = 0.003
"""The share of changed grades that is expected among what is handed out; what comes of it is verified."""
_KEPT_SHIFTS = 2_000
_KEPT_GRADES = 5_000
KEPT_CHECKS = 20_000

ProofState = Literal["proving", "proved", "alarm"]


class Proof:
    """What is known of each model, by the digest of its artifact."""

    def __init__(self) -> None:
        self._shifts: defaultdict[tuple[str, int, int], deque[tuple[float, ...]]] = defaultdict(
            lambda: deque(maxlen=_KEPT_SHIFTS)
        )
        """By subject, edits (two words move a score further than one) and number of grades in an answer."""
        self._risks: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_KEPT_GRADES))
        self._changed: defaultdict[str, deque[bool]] = defaultdict(lambda: deque(maxlen=_KEPT_GRADES))
        self._arrays: dict[tuple[str, int, int], NDArray[np.float64]] = {}
        self._limits: dict[str, dict[float, float]] = {}
        """What look-ups ask for, until the next check; a look-up beside a check may leave it one check old."""
        self._proved: set[str] = set()
        self._alarms: dict[str, str] = {}

    def load(self, checks: Sequence[Check], alarms: Mapping[str, str]) -> None:
        """Start again from what is kept, by this and other instances."""
        for known in (self._shifts, self._risks, self._changed):
            known.clear()
        self._arrays.clear()
        self._limits.clear()
        self._alarms = dict(alarms)
        for check in checks:
            self._take(check)
        self._proved = {subject for subject in list(self._changed) if self._holds(subject)}

    def add(self, check: Check) -> str | None:
        """Learn from one; the reason of an alarm that it raises, if it does."""
        self._take(check)
        subject = check.subject
        if check.changed is None:
            return None
        if self._may_open(subject):
            self._proved.add(subject)
        bound = self.bound(subject)
        if bound <= CLOSE_ABOVE or subject not in self._proved or subject in self._alarms:
            return None
        verified, changed = self.counts(subject)
        reason = f"{changed} of {verified} verified near-duplicates had another grade: up to {bound:.2%} may have"
        self._alarms[subject] = reason
        return reason

    def shifts(self, subject: str, edits: int, num_grades: int) -> NDArray[np.float64] | None:
        """What so many edits did to answers with so many grades, as checks have it, (N, num_grades).

        None while too few are known.
        """
        key = subject, _edits_class(edits), num_grades
        if len(self._shifts[key]) < MIN_SHIFTS:
            return None
        known = self._arrays.get(key)
        if known is None:
            known = self._arrays[key] = np.array(self._shifts[key])
        return known

    def limit(self, subject: str, aim: float = AIM) -> float:
        """The largest risk that is handed out: the mean of all risks up to it is `aim`. Below 0 nothing is."""
        if len(self._risks[subject]) < MIN_SHIFTS:
            return -1.0
        known = self._limits.setdefault(subject, {})
        limit = known.get(aim)
        if limit is None:
            risks = np.sort(self._risks[subject])
            good = np.flatnonzero(np.cumsum(risks) <= aim * np.arange(1, len(risks) + 1))
            limit = known[aim] = float(risks[good[-1]]) if len(good) else -1.0
        return limit

    def gap(self, subject: str) -> float | None:
        """What 99 % of one-word edits move an essay of 400 tokens less than; None before that is known."""
        known = [abs(shift[0]) for key, own in self._shifts.items() if key[:2] == (subject, 1) for shift in own]
        return float(np.quantile(known, 0.99) / shift_scale(400)) if len(known) >= MIN_SHIFTS else None

    def state(self, subject: str) -> ProofState:
        """Whether it may hand out."""
        if subject in self._alarms:
            return "alarm"
        return "proved" if subject in self._proved else "proving"

    def alarm(self, subject: str) -> str | None:
        """Why it was closed for good."""
        return self._alarms.get(subject)

    def counts(self, subject: str) -> tuple[int, int]:
        """How many were verified lately that would have been handed out, and how many of them had another grade."""
        changed = self._changed[subject]
        return len(changed), sum(changed)

    def bound(self, subject: str) -> float:
        """Upper 95 % bound of the share of changed grades."""
        verified, changed = self.counts(subject)
        return upper_bound(changed, verified)

    def _take(self, check: Check) -> None:
        if not all(map(math.isfinite, (*check.shifts, check.risk or 0.0))):
            return
        key = check.subject, _edits_class(check.edits), len(check.shifts)
        self._shifts[key].append(check.shifts)
        self._arrays.pop(key, None)
        if check.risk is not None:
            self._risks[check.subject].append(check.risk)
            self._limits.pop(check.subject, None)
        if check.changed is not None:
            self._changed[check.subject].append(check.changed)

    def _may_open(self, subject: str) -> bool:
        return len(self._changed[subject]) >= MIN_GRADES and self.bound(subject) <= OPEN_BELOW

    def _holds(self, subject: str) -> bool:
        return self.bound(subject) <= CLOSE_ABOVE if subject in self._proved else self._may_open(subject)


def shift_scale(num_tokens: int) -> float:
    """What a shift is multiplied by to be kept, and divided by for another essay: a slip moves a long one less."""
    return math.sqrt(num_tokens)


def _edits_class(edits: int) -> int:
    # A text without an edit, which differs in single spaces, counts with one.
    return min(max(edits, 1), 2)


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
