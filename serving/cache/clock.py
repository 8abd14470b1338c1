"""A clock for ages: set once from the wall, then steady, so that a wall clock that jumps changes no age."""

import time

FUTURE_TOLERANCE_S = 60.0
"""How far another instance's clock may be ahead; what is dated later is not believed."""


class SteadyClock:
    """Seconds since the epoch as they were right at the start, counted on by a clock that nobody sets."""

    def __init__(self) -> None:
        self._start = time.time() - time.monotonic()

    def now(self) -> float:
        """Now, in seconds since the epoch."""
        return self._start + time.monotonic()


def live_age(created: float, now: float, ttl_s: float) -> float | None:
    """Seconds since `created`, at least 0; None when it is over, or dated in the future."""
    age = now - created
    return max(age, 0.0) if -FUTURE_TOLERANCE_S <= age <= ttl_s else None
