"""The thread behind the answers: everything that changes the store, in order, so that no request waits for a disk."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_WAITING = 1_000
"""Scores that wait to be kept; beyond it they are not kept, and computed again when asked for."""
TEND_EVERY_S = 5.0
_AT_ONCE = 64

logger = logging.getLogger("bentoml.fairmark")


@dataclass(frozen=True)
class _Call:
    run: Callable[[], None]
    is_last: bool = False


class Writer(Generic[Item]):
    """Takes items, and keeps them in batches; in between it tends the store."""

    def __init__(self, keep: Callable[[Sequence[Item]], None], tend: Callable[[], None]) -> None:
        self._keep = keep
        self._tend = tend
        self._queue: queue.Queue[Item | _Call] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._work, name="cache-writer", daemon=True)
        self._thread.start()

    def offer(self, item: Item) -> bool:
        """Whether the item was taken."""
        return self._put(item)

    def later(self, work: Callable[[], None]) -> bool:
        """Whether this will be done after everything that was offered before it. Never waits."""
        return self._put(_Call(lambda: self._guarded(work)))

    def call(self, work: Callable[[], Result]) -> "Future[Result]":
        """Do this after everything that was offered before it; waits for room in the queue."""
        future: Future[Result] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the future
                future.set_exception(error)

        self._queue.put(_Call(run))
        return future

    def close(self, timeout_s: float) -> None:
        """Keep what waits, as far as there is time, and end."""
        with suppress(queue.Full):
            self._queue.put(_Call(lambda: None, is_last=True), timeout=timeout_s)
        self._thread.join(timeout_s)

    def _put(self, item: "Item | _Call") -> bool:
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            return False
        return True

    def _work(self) -> None:
        tended = time.monotonic()
        while True:
            items, call = self._next()
            if items:
                self._guarded(lambda batch=tuple(items): self._keep(batch))  # type: ignore[misc]
            if call is not None:
                call.run()
                if call.is_last:
                    return
            if time.monotonic() - tended >= TEND_EVERY_S:
                self._guarded(self._tend)
                tended = time.monotonic()

    def _next(self) -> tuple[list[Item], _Call | None]:
        """What waits, up to the first call: a purge comes after what was offered before it."""
        items: list[Item] = []
        try:
            while len(items) < _AT_ONCE:
                taken = self._queue.get_nowait() if items else self._queue.get(timeout=TEND_EVERY_S / 5)
                if isinstance(taken, _Call):
                    return items, taken
                items.append(taken)
        except queue.Empty:
            pass
        return items, None

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the thread must outlive our mistakes; their text may hold an essay
            logger.error("mistake in the cache's writer: %s", type(error).__name__)
