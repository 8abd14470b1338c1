"""Pauses between tries: growing, capped, and drawn at random, so that many machines do not ask again at one moment."""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """`base_s` doubles with every failure up to `cap_s`; each pause is drawn from the upper half of that ("jitter")."""

    base_s: float = 0.2
    cap_s: float = 20.0

    def pause_s(self, failures: int) -> float:
        """How long to wait after so many failures in a row."""
        longest = min(self.cap_s, self.base_s * 2 ** min(failures - 1, 30))
        return random.uniform(longest / 2, longest)  # noqa: S311 - spread, not secrecy


def tries(budget_s: float, backoff: Backoff) -> Iterator[float]:
    """A pause to make after each failure, in seconds, until the budget is spent; the last one ends with it."""
    deadline = time.monotonic() + budget_s
    failures = 0
    while (left_s := deadline - time.monotonic()) > 0:
        failures += 1
        yield min(backoff.pause_s(failures), left_s)
