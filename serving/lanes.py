"""Lanes: threads that each score one essay at a time with sessions of their own, behind a queue bounded by work.

A request is taken only when it is expected to get a lane within `max_wait_s`, by the times that runs took lately; so a
queue of long essays is shorter than one of short ones. Models share the lanes fairly (`fair_queue`), and one that holds
little of the queue gets in although another has filled it. What takes seconds, a decoder's run, has a pool of its own
(`serving.pools`), whose thread yields to the others'. Work that waits past its deadline, or whose client left, is
dropped before it runs; work that runs past it keeps its lane until it ends, since a running graph cannot be stopped,
and counts as open for so long.
"""

import asyncio
import math
import os
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from serving.errors import DeadlinePassed, Overloaded
from serving.fair_queue import FairQueue
from serving.pace import Pace
from serving.runtimes import Session

Result = TypeVar("Result")

_KEPT_SHARE = 0.25
"""Of the places in the queue, those that models which hold few can count on, all together."""


@dataclass(frozen=True)
class Lane:
    """Sessions that one thread at a time may use."""

    number: int
    sessions: Mapping[str, Session]
    """By model name."""


@dataclass(frozen=True)
class Job(Generic[Result]):
    """Work for a lane."""

    run: Callable[[Lane], Result]
    flow: str
    """Whose share of the lanes it takes: the name of the model that runs."""
    num_characters: int
    """Of the essay: what the time of a run grows with."""
    model: str = ""
    """Whose lanes it needs, where the flow is not named after the model."""


@dataclass(frozen=True)
class Done(Generic[Result]):
    """What a job gave, and how long it had waited for its lane."""

    result: Result
    waited_ms: float


class OpenJob:
    """A job that waits or runs."""

    def __init__(self, job: Job[Any], expected_s: float) -> None:
        self.job = job
        self.expected_s = expected_s
        self.submitted = time.perf_counter()
        self.future: Future[Done[Any]] = Future()


class LanePool:
    """Runs jobs on free lanes."""

    def __init__(
        self,
        lanes: Sequence[Lane],
        *,
        max_open_jobs: int,
        max_wait_s: float = math.inf,
        niceness: int = 0,
        on_drop: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_drop` is told of every job that waited in vain; `niceness` is how far the lanes' threads stand back."""
        self.lanes = tuple(lanes)
        self.max_open_jobs = max_open_jobs
        self.max_wait_s = max_wait_s
        self._niceness = niceness
        self._on_drop = on_drop
        self._pace = Pace()
        self._queue: FairQueue[OpenJob] = FairQueue()
        self._num_open: Counter[str] = Counter()
        self._open_work_s: defaultdict[str, float] = defaultdict(float)
        self._flows = frozenset(name for lane in lanes for name in lane.sessions)
        # Guards everything above.
        self._lock = threading.Lock()
        # What lanes wait at: a call for each job that comes, and one for each lane when the pool closes. Waiting at a
        # condition would be plainer, and costs a job twice the time in the pool.
        self._calls: SimpleQueue[bool] = SimpleQueue()
        self._closed = False
        for lane in self.lanes:
            threading.Thread(target=self._work, args=(lane,), name=f"lane-{lane.number}", daemon=True).start()

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more jobs."""
        return self._closed

    @property
    def open_jobs(self) -> int:
        """Jobs that wait or run."""
        with self._lock:
            return self._num_open.total()

    @property
    def open_work_s(self) -> float:
        """How long one lane alone would need for all of them, as expected when they came."""
        with self._lock:
            return sum(self._open_work_s.values())

    def require_room(self, flows: Sequence[str] = ()) -> None:
        """Raise Overloaded where a run of each of these flows, or of none there is, would be refused now.

        Costs microseconds: whoever is refused should be so before any work is done for them.
        """
        with self._lock:
            if flows:
                self._require_room(Counter(flows))
                return
            refusals = [refusal for flow in self._flows if (refusal := self._refusal(Counter([flow])))]
            if self._flows and len(refusals) == len(self._flows):
                raise min(refusals, key=lambda refusal: refusal.retry_after_s)

    async def run(self, jobs: Sequence[Job[Result]], timeout_s: float) -> list[Done[Result]]:
        """All jobs' results in order, side by side where lanes are free.

        Raises Overloaded, with none of them started, when too much waits; DeadlinePassed after `timeout_s`; else what a
        job raised.
        """
        return await self.wait_for(self.submit(jobs), timeout_s)

    async def wait_for(self, opened: Sequence[OpenJob], timeout_s: float) -> list[Done[Any]]:
        """The results of submitted jobs, in order. Raises as `run` does, but for Overloaded."""
        waiting = [asyncio.wrap_future(each.future) for each in opened]
        try:
            async with asyncio.timeout(timeout_s):
                return list(await asyncio.gather(*waiting))
        except TimeoutError:
            raise DeadlinePassed(
                f"no score within {timeout_s:.3g} s; the service is busy or the essay is long: try again later"
            ) from None
        finally:
            self.drop(opened)

    def drop(self, opened: Sequence[OpenJob]) -> None:
        """Take those out that still wait; one that runs goes on."""
        for each in opened:
            self._drop(each)

    def close(self) -> None:
        """Drop what waits, and end the threads when what runs is done."""
        with self._lock:
            self._closed = True
            waiting = [self._queue.take() for _ in range(len(self._queue))]
            for each in waiting:
                self._forget(each)
        for _ in self.lanes:
            self._calls.put(False)
        for each in waiting:
            each.future.cancel()

    def submit(self, jobs: Sequence[Job[Any]]) -> list[OpenJob]:
        """Put all of them into the queue, or raise Overloaded and put none."""
        with self._lock:
            self._require_room(Counter(job.flow for job in jobs))
            opened = [OpenJob(job, self._pace.expected_s(job.flow, job.num_characters)) for job in jobs]
            for each in opened:
                self._num_open[each.job.flow] += 1
                self._open_work_s[each.job.flow] += each.expected_s
                self._queue.put(each.job.flow, each, each.expected_s)
        for _ in opened:
            self._calls.put(True)
        return opened

    def _require_room(self, wanted: Counter[str]) -> None:
        if refusal := self._refusal(wanted):
            raise refusal

    def _refusal(self, wanted: Counter[str]) -> Overloaded | None:
        wait_s = max((self._expected_wait_s(flow) for flow in wanted), default=0.0)
        if wait_s > self.max_wait_s:
            return Overloaded(
                f"an essay would wait about {wait_s:.1f} s for a lane and at most {self.max_wait_s:g} s are accepted;"
                " try again later",
                retry_after_s=math.ceil(wait_s - self.max_wait_s),
            )
        num_open = self._num_open.total()
        if num_open + wanted.total() + self._kept_for_others(wanted) > self.max_open_jobs:
            return Overloaded(
                f"{num_open} jobs are open and at most {self.max_open_jobs} may be; try again later",
                retry_after_s=math.ceil(wait_s),
            )
        return None

    def _expected_wait_s(self, flow: str) -> float:
        """While a flow's work is done, each other flow gets as much time at most: its own work, or this one's."""
        own_s = self._open_work_s[flow]
        return sum(min(work_s, own_s) for work_s in self._open_work_s.values()) / len(self.lanes)

    def _kept_for_others(self, wanted: Mapping[str, int]) -> int:
        """Places that flows with less than their part of the kept share have left to them."""
        part = int(self.max_open_jobs * _KEPT_SHARE) // max(len(self._flows), 1)
        return sum(max(part - self._num_open[name], 0) for name in self._flows - wanted.keys())

    def _work(self, lane: Lane) -> None:
        if self._niceness and sys.platform == "linux":  # elsewhere it would be the whole process that stands back
            own = threading.get_native_id()
            # Further forward than it stands, only root may go: asked for that, the lane would end here.
            os.setpriority(os.PRIO_PROCESS, own, max(os.getpriority(os.PRIO_PROCESS, own), self._niceness))
        while self._calls.get():
            with self._lock:
                if not len(self._queue):
                    continue  # the job that this call was for was dropped
                each = self._queue.take()
                # From here on it cannot be cancelled; just before, it may have been.
                runs = each.future.set_running_or_notify_cancel()
                if not runs:
                    self._forget(each)
            if runs:
                self._run(each, lane)
            else:
                self._on_drop()
            del each  # while this thread waits, nothing of the request should live on

    def _run(self, each: OpenJob, lane: Lane) -> None:
        job, started = each.job, time.perf_counter()
        try:
            done = Done(job.run(lane), (started - each.submitted) * 1000)
        except BaseException as error:  # noqa: BLE001 - whoever asked gets it; the lane goes on
            with self._lock:
                self._forget(each)
            each.future.set_exception(error)
        else:
            with self._lock:
                self._forget(each)
                self._pace.learn(job.flow, job.num_characters, time.perf_counter() - started)
            each.future.set_result(done)

    def _drop(self, each: OpenJob) -> None:
        """Take a job out that still waits; one that runs goes on."""
        if each.future.done() and not each.future.cancelled():
            return
        with self._lock:
            if not self._queue.discard(each.job.flow, each):
                return
            self._forget(each)
        each.future.cancel()
        self._on_drop()

    def _forget(self, each: OpenJob) -> None:
        flow = each.job.flow
        self._num_open[flow] -= 1
        # Sums of floats that come and go do not end at zero by themselves.
        self._open_work_s[flow] = self._open_work_s[flow] - each.expected_s if self._num_open[flow] else 0.0
