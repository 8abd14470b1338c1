"""One run for essays that are scored at the same moment: the first computes, the others wait for it."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

Result = TypeVar("Result")


class LeaderGone(Exception):
    """Who computed was cancelled; whoever waited computes."""


class Flights(Generic[Result]):
    """Work in hand by key, for one event loop; `drop` may be called by any thread."""

    def __init__(self) -> None:
        self._open: dict[bytes, asyncio.Future[Result]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def take(self, keys: Iterable[bytes]) -> tuple[list[bytes], dict[bytes, "asyncio.Future[Result]"]]:
        """The keys that the caller must compute, and `land` and `drop`, or `crash`; and the others' futures."""
        leading, following = [], {}
        for key in keys:
            if key in self._open:
                following[key] = self._open[key]
            else:
                self._open[key] = asyncio.get_running_loop().create_future()
                leading.append(key)
        return leading, following

    def land(self, results: Mapping[bytes, Result]) -> None:
        """Give these to whoever waits, and to whoever comes before `drop`."""
        for key, result in results.items():
            future = self._open[key]
            if not future.done():
                future.set_result(result)

    def drop(self, keys: Iterable[bytes]) -> None:
        """What landed is found elsewhere from now on."""
        for key in keys:
            self._open.pop(key, None)

    def crash(self, keys: Iterable[bytes]) -> None:
        """There will be no result from this caller."""
        for key in keys:
            future = self._open.pop(key)
            if not future.done():
                future.set_exception(LeaderGone())
                # Nobody may be waiting, and that is no mistake.
                future.exception()
