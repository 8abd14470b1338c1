"""Lanes: threads that each score one essay at a time with sessions of their own, behind a bounded queue.

Work that waits past its deadline is dropped before it runs; work that runs past it keeps its lane until it ends, since
a running graph cannot be stopped, and counts as open for so long.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

from serving.errors import DeadlinePassed, Overloaded
from serving.runtimes import Session

Result = TypeVar("Result")


@dataclass(frozen=True)
class Lane:
    """Sessions that one thread at a time may use."""

    number: int
    sessions: Mapping[str, Session]
    """By model name."""


@dataclass(frozen=True)
class Done(Generic[Result]):
    """What a job gave, and how long it had waited for its lane."""

    result: Result
    waited_ms: float


class LanePool:
    """Runs jobs on free lanes, in the order they come."""

    def __init__(self, lanes: Sequence[Lane], max_open_jobs: int) -> None:
        self.lanes = tuple(lanes)
        self.max_open_jobs = max_open_jobs
        self._free: SimpleQueue[Lane] = SimpleQueue()
        for lane in self.lanes:
            self._free.put(lane)
        self._threads = ThreadPoolExecutor(max_workers=len(self.lanes), thread_name_prefix="lane")
        self._open_jobs = 0
        self._counter_lock = threading.Lock()

    @property
    def open_jobs(self) -> int:
        """Jobs that wait or run."""
        return self._open_jobs

    async def run(self, jobs: Sequence[Callable[[Lane], Result]], timeout_s: float) -> list[Done[Result]]:
        """All jobs' results in order, side by side where lanes are free.

        Raises Overloaded, with none of them started, when there is no room to wait in; DeadlinePassed after
        `timeout_s`; else what a job raised.
        """
        self._admit(len(jobs))
        futures = [self._submit(job) for job in jobs]
        waiting = [asyncio.wrap_future(future) for future in futures]
        try:
            async with asyncio.timeout(timeout_s):
                return list(await asyncio.gather(*waiting))
        except TimeoutError:
            raise DeadlinePassed(
                f"no score within {timeout_s:.3g} s; the service is busy or the essay is long: try again later"
            ) from None
        finally:
            # Cancels what still waits for a lane; what runs goes on.
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """Drop what waits, and end the threads when what runs is done."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _admit(self, num_jobs: int) -> None:
        with self._counter_lock:
            if self._open_jobs + num_jobs > self.max_open_jobs:
                raise Overloaded(
                    f"{self._open_jobs} jobs are open and at most {self.max_open_jobs} may be; try again later"
                )
            self._open_jobs += num_jobs

    def _submit(self, job: Callable[[Lane], Result]) -> "Future[Done[Result]]":
        submitted = time.perf_counter()

        def on_lane() -> Done[Result]:
            waited_ms = (time.perf_counter() - submitted) * 1000
            # There are as many lanes as threads, so this never waits.
            lane = self._free.get_nowait()
            try:
                return Done(job(lane), waited_ms)
            finally:
                self._free.put(lane)

        future = self._threads.submit(on_lane)
        future.add_done_callback(self._close_job)
        return future

    def _close_job(self, _: "Future[Done[Result]]") -> None:
        with self._counter_lock:
            self._open_jobs -= 1
