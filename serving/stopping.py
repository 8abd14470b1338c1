"""How the service ends: requests in hand are finished first, within a bound; a second signal ends it at once.

BentoML's process manager (circus) takes over SIGTERM and SIGINT, and waits a day for its workers.
"""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import psutil

from essays.console import EXIT_FAILED, human_time, say

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
Handler = Callable[[int, FrameType | None], object]


def wrap_handlers(drain_s: float, on_stop: Callable[[], None]) -> None:
    """Bound what the handlers that are in place now do; in the main thread alone."""
    stopping = threading.Event()

    def wrapped(inner: Handler) -> Handler:
        def handle(number: int, frame: FrameType | None) -> None:
            if stopping.is_set():
                _force("a second signal")
            stopping.set()
            say(f"stopping: requests in hand are finished, within {human_time(drain_s)}; a second signal ends them")
            timer = threading.Timer(drain_s, _force, args=(f"some request took longer than {human_time(drain_s)}",))
            timer.daemon = True
            timer.start()
            on_stop()
            inner(number, frame)

        return handle

    for number in _STOP_SIGNALS:
        inner = signal.getsignal(number)
        assert callable(inner), "circus has its handlers before it binds its sockets"
        signal.signal(number, wrapped(inner))


def _force(why: str) -> None:
    say(f"error: ended at once: {why}")
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(EXIT_FAILED)
