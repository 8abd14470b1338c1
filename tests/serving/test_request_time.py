"""A request's time is bounded, and nothing of one that was answered is kept until that time is over."""

import asyncio
import gc
import json
import subprocess
import sys
import weakref
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
import uvloop
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from serving.request_time import RequestTime

HELD: ContextVar["Held"] = ContextVar("held")


class Held:
    """What a request's context holds on to, such as its trace."""


def ask(app: Any, path: str = "/") -> list[dict[str, Any]]:
    """The messages of one answer."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def one() -> None:
        await app({"type": "http", "method": "GET", "path": path, "headers": []}, asyncio.Queue().get, send)

    asyncio.run(one())
    return sent


def test_an_answered_request_leaves_nothing_behind() -> None:
    kept: list[weakref.ref[Held]] = []

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        held = Held()
        HELD.set(held)
        kept.append(weakref.ref(held))
        await PlainTextResponse("yes")(scope, receive, send)

    async def one_of_many() -> list[int]:
        app = RequestTime(answer, timeout=240)

        async def send(_: Any) -> None:
            pass

        for _ in range(3):
            await asyncio.create_task(app({"type": "http", "headers": []}, asyncio.Queue().get, send))
        await asyncio.sleep(0.01)  # the loop closes the last one's timer
        gc.collect()
        return [number for number, ref in enumerate(kept) if ref() is not None]

    # The loop that serves; asyncio's own keeps cancelled timers until there are a hundred.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(one_of_many()) == []


def test_one_that_never_ends_is_told_so_in_the_one_form() -> None:
    async def hang(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(60)

    start, body = ask(RequestTime(hang, timeout=0.05))
    assert start["status"] == 504
    assert json.loads(body["body"])["error"]["code"] == "deadline_passed"


def test_an_answer_that_has_begun_is_broken_off() -> None:
    async def stall(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        ask(RequestTime(stall, timeout=0.05))


def test_the_service_runs_with_it(root: Path) -> None:
    script = (
        "import serving.service; from bentoml._internal.server.http import traffic as t; print(t.TimeoutMiddleware)"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True)
    assert "serving.request_time.RequestTime" in ended.stdout, ended.stderr
