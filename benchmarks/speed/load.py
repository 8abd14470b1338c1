"""Load on a server: closed loop (so many askers, each waits for its answer) and open loop (askers that do not wait).

An answer's latency in the open loop counts from when it was due, not from when it was sent: a server that is behind
shall not make its own statistics better.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.speed.chosen import ChosenEssay

Ask = Callable[[ChosenEssay], Awaitable[float]]
"""Sends one essay and gives its score. Raises Unanswered."""
_SEED = 11


class Unanswered(Exception):
    """A request without a score: what came instead."""


@dataclass
class Outcome:
    """What a loop measured."""

    latencies_s: list[float] = field(default_factory=list)
    """Of answered requests."""
    scores: list[tuple[str, float]] = field(default_factory=list)
    """Essay id and score of each answer."""
    errors: list[str] = field(default_factory=list)
    """What came in place of an answer."""
    took_s: float = 0.0

    @property
    def essays_per_s(self) -> float:
        """Answers a second; errors are none."""
        return len(self.latencies_s) / self.took_s if self.took_s else 0.0

    def percentile_ms(self, share: float) -> float:
        """Latency that this share of answers does not exceed; nan when nothing was answered."""
        return float(np.percentile(self.latencies_s, share * 100)) * 1000 if self.latencies_s else float("nan")


async def closed_loop(ask: Ask, essays: Sequence[ChosenEssay], concurrency: int) -> Outcome:
    """Every essay once, `concurrency` at a time."""
    outcome, waiting = Outcome(), iter(essays)

    async def asker() -> None:
        for essay in waiting:
            await _timed(ask, essay, time.perf_counter(), outcome)

    started = time.perf_counter()
    await asyncio.gather(*(asker() for _ in range(concurrency)))
    outcome.took_s = time.perf_counter() - started
    return outcome


async def open_loop(ask: Ask, essays: Sequence[ChosenEssay], rate_per_s: float) -> Outcome:
    """Every essay once, at the times that `arrivals` gives, whatever is still unanswered."""
    outcome = Outcome()
    started = time.perf_counter()

    async def asker(essay: ChosenEssay, due_s: float) -> None:
        await asyncio.sleep(max(0.0, started + due_s - time.perf_counter()))
        await _timed(ask, essay, started + due_s, outcome)

    due = arrivals(len(essays), rate_per_s)
    await asyncio.gather(*(asker(essay, due_s) for essay, due_s in zip(essays, due, strict=True)))
    outcome.took_s = time.perf_counter() - started
    return outcome


def arrivals(number: int, rate_per_s: float) -> list[float]:
    """Seconds at which requests are due: gaps as of independent askers (exponential), the same at each call.

    Stretched so that the last one is due at `number / rate_per_s`: a short run offers the rate that it says.
    """
    due = np.cumsum(np.random.default_rng(_SEED).exponential(1.0, number))
    return [float(each) for each in due * (number / rate_per_s / due[-1])]


async def _timed(ask: Ask, essay: ChosenEssay, since: float, outcome: Outcome) -> None:
    try:
        score = await ask(essay)
    except Unanswered as error:
        outcome.errors.append(str(error))
        return
    outcome.latencies_s.append(time.perf_counter() - since)
    outcome.scores.append((essay.essay_id, score))
