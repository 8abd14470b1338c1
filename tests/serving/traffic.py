"""Requests to a service over the wire from many clients at once, with what each was answered."""

import asyncio
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class Answer:
    """One request's."""

    status: int
    took_s: float
    at: float
    """When it came, by the monotonic clock."""
    asked: dict[str, Any]
    body: dict[str, Any]
    retry_after: str | None = None


class ClosedLoop:
    """Clients that each send their next request when the last was answered, until `stop`; in a thread's event loop."""

    def __init__(self, url: str, requests: Iterator[dict[str, Any]], concurrency: int) -> None:
        self.url, self.requests, self.concurrency = url, requests, concurrency
        self.answers: list[Answer] = []
        self.stopped = False

    def stop(self) -> None:
        self.stopped = True

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        limits = httpx.Limits(max_connections=self.concurrency)
        async with httpx.AsyncClient(timeout=60, limits=limits) as client:
            await asyncio.gather(*(self._client(client) for _ in range(self.concurrency)))

    async def _client(self, client: httpx.AsyncClient) -> None:
        while not self.stopped:
            self.answers.append(await ask(client, self.url, next(self.requests)))


async def ask(client: httpx.AsyncClient, url: str, body: dict[str, Any]) -> Answer:
    """One request; status 0 for a connection that failed."""
    started = time.monotonic()
    try:
        answer = await client.post(url, json=body)
    except httpx.TransportError as error:
        return Answer(0, time.monotonic() - started, time.monotonic(), body, {"error": repr(error)})
    took_s = time.monotonic() - started
    return Answer(answer.status_code, took_s, time.monotonic(), body, answer.json(), answer.headers.get("retry-after"))


def endless(bodies: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
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
