"""A queue that gives each flow its fair share of time (start-time fair queueing: Goyal, Vin and Cheng, 1996).

Within a flow, first come first served. Between flows, the one that got least time lately goes first, so that a flow
with short work does not wait behind all the work of a flow with long. A flow that was idle gets no credit for it.
"""

from collections import deque
from contextlib import suppress
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """For one thread at a time: whoever shares it holds a lock."""

    def __init__(self) -> None:
        self._flows: dict[str, deque[tuple[Item, float]]] = {}
        self._clocks: dict[str, float] = {}
        self._now = 0.0

    def __len__(self) -> int:
        return sum(map(len, self._flows.values()))

    def put(self, flow: str, item: Item, cost: float) -> None:
        """Add an item; `cost` is what taking it charges its flow with."""
        waiting = self._flows.setdefault(flow, deque())
        if not waiting:
            self._clocks[flow] = max(self._clocks.get(flow, 0.0), self._now)
        waiting.append((item, cost))

    def take(self) -> Item:
        """The next item. Raises IndexError when there is none."""
        backlogged = [flow for flow, waiting in self._flows.items() if waiting]
        if not backlogged:
            raise IndexError("nothing waits")
        flow = min(backlogged, key=lambda name: self._clocks[name])
        item, cost = self._flows[flow].popleft()
        self._now = self._clocks[flow]
        self._clocks[flow] += cost
        return item

    def discard(self, flow: str, item: Item) -> bool:
        """Take an item out of the queue, uncharged; whether it was still there."""
        waiting = self._flows.get(flow, deque())
        with suppress(StopIteration):
            place = next(place for place, (each, _) in enumerate(waiting) if each is item)
            del waiting[place]
            return True
        return False
