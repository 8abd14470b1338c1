"""Requests to a service over the wire from many clients at once, with what each was answered.

Plain streams instead of an HTTP library, whose own time on a processor would be most of what is measured.
"""

import asyncio
import itertools
import json
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

Bodies = Iterator[dict[str, Any]]


@dataclass(frozen=True)
class Answer:
    """One request's."""

    status: int
    """0 for a connection that failed."""
    took_s: float
    at: float
    """When it came, by the monotonic clock."""
    asked: dict[str, Any]
    body: dict[str, Any]
    headers: dict[str, str]


def head_for(content: bytes, more: str = "") -> bytes:
    """Of a request for a score with this body; `more` are header lines."""
    head = f"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{more}"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode()


class Client:
    """One connection, opened again when it was closed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def score(self, asked: dict[str, Any]) -> Answer:
        content = json.dumps(asked).encode()
        started = time.monotonic()
        try:
            status, headers, body = await self._send(head_for(content) + content)
        except (OSError, asyncio.IncompleteReadError) as error:
            await self.close()
            status, headers, body = 0, {}, json.dumps({"error": repr(error)}).encode()
        now = time.monotonic()
        return Answer(status, now - started, now, asked, json.loads(body), headers)

    async def close(self) -> None:
        if self._streams:
            self._streams[1].close()
            with suppress(OSError):
                await self._streams[1].wait_closed()
        self._streams = None

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _send(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self._streams
        writer.write(request)
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            await self.close()
        return int(first.split()[1]), headers, body


class HalfRequest:
    """A request whose body is not sent to its end, and so in hand until it is."""

    def __init__(self, port: int, asked: dict[str, Any]) -> None:
        self.body = json.dumps(asked).encode()
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.sendall(head_for(self.body, "Connection: close\r\n") + self.body[:20])
        time.sleep(0.3)  # until the worker has read it

    def finish(self) -> bytes:
        self.socket.sendall(self.body[20:])
        answer = b""
        while more := self.socket.recv(65536):
            answer += more
        self.socket.close()
        return answer


class Traffic:
    """Many clients in a thread of their own; `answers` grows."""

    def __init__(self, port: int, bodies: Bodies) -> None:
        self.port, self.bodies = port, bodies
        self.answers: list[Answer] = []
        self.num_skipped = 0
        """Of an open loop: requests that were due while every client waited for its answer."""
        self.stopped = False
        self.ended = 0.0
        """When an open loop sent its last request."""

    async def closed_loop(self, concurrency: int) -> None:
        """Each client sends its next request when its last was answered, until `stopped`."""

        async def one() -> None:
            async with Client(self.port) as client:
                while not self.stopped:
                    self.answers.append(await client.score(next(self.bodies)))

        await asyncio.gather(*(one() for _ in range(concurrency)))

    async def open_loop(self, per_second: float, concurrency: int, duration_s: float) -> None:
        """Requests at a fixed rate, each on a connection of its own, unless so many wait for their answer already."""
        tasks: set[asyncio.Task[None]] = set()

        async def one() -> None:
            async with Client(self.port) as client:
                self.answers.append(await client.score(next(self.bodies)))

        started = time.monotonic()
        for number in range(int(per_second * duration_s)):
            await asyncio.sleep(max(started + number / per_second - time.monotonic(), 0))
            if len(tasks) < concurrency:
                task = asyncio.create_task(one())
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            else:
                self.num_skipped += 1
        self.ended = time.monotonic()
        await asyncio.gather(*tasks)


@contextmanager
def closed_loop(port: int, bodies: Bodies, concurrency: int) -> Iterator[Traffic]:
    """Traffic while the block lasts."""
    traffic = Traffic(port, bodies)
    thread = threading.Thread(target=lambda: asyncio.run(traffic.closed_loop(concurrency)))
    thread.start()
    try:
        yield traffic
    finally:
        traffic.stopped = True
        thread.join(60)


def endless(bodies: Sequence[dict[str, Any]]) -> Bodies:
    """These bodies, again and again."""
    return itertools.cycle(bodies)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def wait_until(holds: Callable[[], bool], timeout_s: float, what: Callable[[], str]) -> float:
    """How long it took until this held, in seconds."""
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < timeout_s, what()
        time.sleep(0.02)
    return time.monotonic() - started
