"""How much is measured, and what came of one contestant."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    num_essays: int
    concurrencies: tuple[int, ...] = (1, 8, 64)
    load_shares: tuple[float, ...] = (0.5, 0.8)
    """Of the capacity, which is the most essays a second of any closed loop."""


@dataclass
class Measured:
    """What became of one contestant; kept in a file, so that a killed run goes on behind it."""

    server: str
    runtime: str | None = None
    precision: str | None = None
    void: str | None = None
    """Why its speed does not count; None when it does."""
    max_score_gap: float | None = None
    same_grade_share: float | None = None
    """Where grades are answered."""
    ready_s: float | None = None
    first_start_s: float | None = None
    """Of Fairmark: to the first 200 with nothing on this disk yet."""
    first_ms: float | None = None
    first_over_usual: float | None = None
    """The first answer's time over the median of the same essay asked again."""
    pss_ready_mb: float | None = None
    cpu_over_loop: float | None = None
    """CPU time of an essay over the bare loop's, in turns: the median of the rounds, as the next."""
    cpu_ms_over_loop: float | None = None
    closed: list[dict[str, Any]] = field(default_factory=list)
    open: list[dict[str, Any]] = field(default_factory=list)
    load_average_before: float | None = None
    measured_at: str | None = None
    took_s: float | None = None
