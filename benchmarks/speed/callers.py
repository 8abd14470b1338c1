"""Two ways to ask a peer: HTTP for servers, a line each way over pipes for bare loops."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import aiohttp

from benchmarks.speed.chosen import ChosenEssay
from benchmarks.speed.load import Ask, Unanswered

# Longer than 64 askers on a slow peer wait; whoever takes longer is counted as an error.
TIMEOUT_S = 120.0
_MOST_CONNECTIONS = 1024


@dataclass(frozen=True)
class HttpForm:
    """How a server wants to be asked, and where its answer holds the score."""

    path: str
    body: Callable[[ChosenEssay], Mapping[str, Any]]
    score: Callable[[Any], float]
    """From the answer's JSON. May raise LookupError, TypeError or ValueError."""
    ready: str
    """The path that answers 200 once requests may come."""
    headers: Mapping[str, str] = field(default_factory=dict)


@asynccontextmanager
async def http_asker(
    address: str, form: HttpForm, *, record: Callable[[str, Any], None] | None = None
) -> AsyncIterator[Ask]:
    """Asks over connections that are kept open. `record` gets each essay's id and whole answer."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    connector = aiohttp.TCPConnector(limit=_MOST_CONNECTIONS)
    async with aiohttp.ClientSession(address, timeout=timeout, connector=connector) as session:

        async def ask(essay: ChosenEssay) -> float:
            try:
                async with session.post(form.path, json=form.body(essay), headers=form.headers) as response:
                    if response.status != 200:
                        raise Unanswered(f"status {response.status}")
                    answer = await response.json(content_type=None)
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                raise Unanswered(type(error).__name__) from error
            if record:
                record(essay.essay_id, answer)
            return _score_in(answer, form.score)

        yield ask


@asynccontextmanager
async def pipe_asker(process: subprocess.Popen[bytes]) -> AsyncIterator[Ask]:
    """Asks a loop on its standard input, one essay at a time: a second asker waits for the first."""
    assert process.stdin is not None
    assert process.stdout is not None
    into, out, turn = process.stdin, process.stdout, asyncio.Lock()

    def exchange(line: bytes) -> bytes:
        into.write(line)
        into.flush()
        return out.readline()

    async def ask(essay: ChosenEssay) -> float:
        async with turn:
            try:
                answer = await asyncio.to_thread(exchange, json.dumps(asdict(essay)).encode() + b"\n")
                return _score_in(json.loads(answer), lambda found: float(found["score"]))
            except (OSError, ValueError) as error:
                raise Unanswered(f"the loop ended ({type(error).__name__})") from error

    yield ask


def _score_in(answer: Any, score: Callable[[Any], float]) -> float:
    try:
        return float(score(answer))
    except (LookupError, TypeError, ValueError) as error:
        raise Unanswered(f"an answer without a score ({type(error).__name__})") from error
