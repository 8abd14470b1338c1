"""What the parent process answers while no worker does, to callers who mean no good."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import httpx
import pytest

from serving.front import LOCK_VARIABLE, Front
from tests.serving.processes import free_port

SLOW_CALLERS = 12
"""More than are answered at a time."""


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setenv(LOCK_VARIABLE, "")  # a front sets it; what it was comes back
    front = Front(("127.0.0.1", chosen := free_port()))
    yield chosen
    front.clean_up()  # from here on it answers nobody


def test_callers_who_send_byte_by_byte_keep_no_health_check_waiting(port: int) -> None:
    over = threading.Event()

    def trickle(callers: list[socket.socket]) -> None:
        while not over.wait(0.1):
            for caller in callers:
                with suppress(OSError):
                    caller.sendall(b"x")

    with ExitStack() as stack:
        callers = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(SLOW_CALLERS)]
        trickling = threading.Thread(target=trickle, args=(callers,))
        trickling.start()
        started = time.monotonic()
        try:
            answers = [httpx.get(f"http://127.0.0.1:{port}{path}", timeout=30) for path in ("/livez", "/readyz")]
        finally:
            over.set()
            trickling.join()
    assert [answer.status_code for answer in answers] == [200, 503]
    assert answers[1].json()["reason"] == "starting"
    assert time.monotonic() - started < 10
