"""A worker that was killed is replaced at once: by itself, circus looks only every ten seconds (BentoML's setting)."""

import signal

from circus.arbiter import Arbiter
from circus.exc import ConflictError

_AGAIN_S = 0.2


def heed_ended_children() -> None:
    """Let the process manager that BentoML is about to make look after its workers whenever a child ends."""
    initialize = Arbiter.initialize

    def initialize_and_heed(arbiter: Arbiter) -> None:
        initialize(arbiter)
        signal.signal(signal.SIGCHLD, lambda *_: arbiter.loop.add_callback_from_signal(_look_after, arbiter))

    Arbiter.initialize = initialize_and_heed


async def _look_after(arbiter: Arbiter) -> None:
    try:
        await arbiter.manage_watchers()
    except ConflictError:
        # It is starting or stopping them just now.
        arbiter.loop.call_later(_AGAIN_S, _look_after, arbiter)
