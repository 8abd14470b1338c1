"""Where each model's jobs go: the small ones share their lanes, and every large one has a lane of its own.

A decoder takes seconds for an essay where a small model takes milliseconds, and a running graph cannot be stopped: on a
shared lane it would hold up whatever came behind it. On its own, with a thread that the system runs when nobody else
wants the core, it takes what is left over.
"""

import asyncio
from collections.abc import Mapping, Sequence

from serving.errors import Overloaded
from serving.lanes import Done, Job, Lane, LanePool, Result
from serving.runtimes import Session

OWN_LANE_KINDS = frozenset({"decoder"})
"""Kinds of models that get lanes of their own."""
SHARED_NICENESS = 5
"""Of the threads of shared lanes: with every core busy scoring, a refusal and a health check are still answered in
milliseconds, by the thread that reads requests."""
OWN_NICENESS = 15
"""Of lanes of their own: about a tenth of a shared lane's share of a core that both want."""


class Pools:
    """What `LanePool` is, over several of them."""

    def __init__(self, shared: LanePool, own: Mapping[str, LanePool]) -> None:
        """`own` is by model name."""
        self._shared = shared
        self._own = dict(own)

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """Those that small models share."""
        return self._shared.lanes

    @property
    def max_open_jobs(self) -> int:
        """Jobs that may wait or run at once on those."""
        return self._shared.max_open_jobs

    @property
    def is_closed(self) -> bool:
        """Whether none takes more jobs."""
        return all(pool.is_closed for pool in self._all)

    @property
    def open_jobs(self) -> int:
        """Jobs that wait or run, on any lane."""
        return sum(pool.open_jobs for pool in self._all)

    @property
    def open_work_s(self) -> float:
        """How long one lane alone would need for all of them, as expected when they came."""
        return sum(pool.open_work_s for pool in self._all)

    @property
    def sessions(self) -> dict[str, Session]:
        """A session of each single model."""
        return {name: session for pool in self._all for name, session in pool.lanes[0].sessions.items()}

    def has_own_lane(self, name: str) -> bool:
        """Whether this model's jobs wait for nobody else's."""
        return name in self._own

    def require_room(self, flows: Sequence[str] = ()) -> None:
        """As `LanePool.require_room`: of each of these flows, or of none there is on any lane."""
        if flows:
            for pool, places in self._places(flows).items():
                pool.require_room([flows[place] for place in places])
            return
        refusals = []
        for pool in self._all:
            try:
                pool.require_room()
            except Overloaded as refusal:
                refusals.append(refusal)
            else:
                if pool.lanes[0].sessions:
                    return
        if refusals:
            raise min(refusals, key=lambda refusal: refusal.retry_after_s)

    async def run(self, jobs: Sequence[Job[Result]], timeout_s: float) -> list[Done[Result]]:
        """As `LanePool.run`; where one pool has no room, what others took is dropped again."""
        places = self._places([job.model or job.flow for job in jobs])
        if len(places) == 1:
            (pool,) = places
            return await pool.run(jobs, timeout_s)
        opened = {}
        try:
            # The shared lanes first: what they began in vain is short.
            for pool in sorted(places, key=lambda each: each is not self._shared):
                opened[pool] = pool.submit([jobs[place] for place in places[pool]])
            done = await asyncio.gather(*(pool.wait_for(each, timeout_s) for pool, each in opened.items()))
        finally:
            for pool, each in opened.items():
                pool.drop(each)
        results: list[Done[Result] | None] = [None] * len(jobs)
        for pool, found in zip(opened, done, strict=True):
            for place, result in zip(places[pool], found, strict=True):
                results[place] = result
        return [result for result in results if result is not None]

    def close(self) -> None:
        """As `LanePool.close`, of all."""
        for pool in self._all:
            pool.close()

    def _places(self, models: Sequence[str]) -> dict[LanePool, list[int]]:
        """Where in the sequence the models of each pool stand."""
        places: dict[LanePool, list[int]] = {}
        for place, model in enumerate(models):
            places.setdefault(self._own.get(model, self._shared), []).append(place)
        return places

    @property
    def _all(self) -> list[LanePool]:
        return [self._shared, *self._own.values()]
