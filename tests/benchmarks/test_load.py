"""Both loops against a real server on loopback."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from benchmarks.speed.callers import HttpForm, http_asker
from benchmarks.speed.chosen import ChosenEssay
from benchmarks.speed.load import Ask, Outcome, arrivals, closed_loop, open_loop

FORM = HttpForm("/score", lambda essay: {"id": essay.essay_id}, lambda answer: answer["score"], "/ready")


class Server:
    """Answers after a while, and remembers when it was asked and how many waited at once."""

    def __init__(self, answer: Callable[[str], Awaitable[web.Response]]) -> None:
        self.answer = answer
        self.asked_at: list[float] = []
        self.waiting = self.most_waiting = 0

    async def handle(self, request: web.Request) -> web.Response:
        self.asked_at.append(time.perf_counter())
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        try:
            return await self.answer((await request.json())["id"])
        finally:
            self.waiting -= 1


@asynccontextmanager
async def asking(server: Server) -> AsyncIterator[Ask]:
    app = web.Application()
    app.router.add_post("/score", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with http_asker(_address(runner), FORM) as ask:
            yield ask
    finally:
        await runner.cleanup()


def _address(runner: web.AppRunner) -> str:
    host, port = runner.addresses[0][:2]
    return f"http://{host}:{port}"


def run(server: Server, loop: Callable[[Ask], Awaitable[Outcome]]) -> Outcome:
    async def whole() -> Outcome:
        async with asking(server) as ask:
            return await loop(ask)

    return asyncio.run(whole())


def after(seconds: float) -> Callable[[str], Awaitable[web.Response]]:
    async def answer(_: str) -> web.Response:
        await asyncio.sleep(seconds)
        return web.json_response({"score": 0.5})

    return answer


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_closed_loop_keeps_so_many_waiting_and_no_more(essays: list[ChosenEssay], concurrency: int) -> None:
    server = Server(after(0.01))
    outcome = run(server, lambda ask: closed_loop(ask, essays, concurrency))
    assert server.most_waiting == concurrency
    assert sorted(essay_id for essay_id, _ in outcome.scores) == sorted(essay.essay_id for essay in essays)
    assert outcome.essays_per_s == pytest.approx(len(essays) / outcome.took_s)
    assert outcome.took_s >= 0.01 * len(essays) / concurrency


def test_percentiles_are_those_of_what_the_server_did(essays: list[ChosenEssay]) -> None:
    async def answer(essay_id: str) -> web.Response:
        await asyncio.sleep(0.4 if essay_id == "essay-7" else 0.02)
        return web.json_response({"score": 0.5})

    outcome = run(Server(answer), lambda ask: closed_loop(ask, essays, 4))
    assert 20 <= outcome.percentile_ms(0.5) < 200
    assert outcome.percentile_ms(1.0) >= 400
    assert outcome.percentile_ms(0.5) <= outcome.percentile_ms(0.99) <= outcome.percentile_ms(1.0)


def test_percentiles_of_known_latencies() -> None:
    outcome = Outcome(latencies_s=[number / 1000 for number in range(1, 102)])
    assert outcome.percentile_ms(0.5) == pytest.approx(51)
    assert outcome.percentile_ms(0.99) == pytest.approx(100)


def test_an_open_loop_asks_on_time_however_slow_the_server(essays: list[ChosenEssay]) -> None:
    rate_per_s = 100.0
    server = Server(after(0.5))
    outcome = run(server, lambda ask: open_loop(ask, essays, rate_per_s))
    due = arrivals(len(essays), rate_per_s)
    start = server.asked_at[0] - due[0]
    late = sorted(asked - start - wanted for asked, wanted in zip(sorted(server.asked_at), due, strict=True))
    assert late[len(late) // 2] < 0.1
    # Nobody waited for an answer before the next was sent.
    assert server.most_waiting > 20
    assert len(outcome.latencies_s) == len(essays)


def test_an_open_loop_counts_the_wait_from_when_the_request_was_due(essays: list[ChosenEssay]) -> None:
    one_at_a_time = asyncio.Lock()

    async def answer(_: str) -> web.Response:
        async with one_at_a_time:
            await asyncio.sleep(0.02)
        return web.json_response({"score": 0.5})

    # Twice what it can do: the last ones wait for about half the run.
    outcome = run(Server(answer), lambda ask: open_loop(ask, essays, 100.0))
    assert outcome.percentile_ms(1.0) >= 300


def test_arrivals_offer_the_rate_that_they_say_and_are_the_same_each_time() -> None:
    due = arrivals(200, 50.0)
    assert due == arrivals(200, 50.0)
    assert due == sorted(due)
    assert due[-1] == pytest.approx(200 / 50.0)
    gaps = [later - earlier for earlier, later in itertools.pairwise(due)]
    # Exponential: about as spread as they are long.
    assert 0.01 < sum(gaps) / len(gaps) < 0.03
    assert min(gaps) < 0.002
    assert max(gaps) > 0.05


def test_errors_are_counted_and_are_no_latency(essays: list[ChosenEssay]) -> None:
    odd = {
        "essay-1": web.json_response({"error": "busy"}, status=429),
        "essay-2": web.Response(text="not JSON"),
        "essay-3": web.json_response({"grade": 3}),
        "essay-4": web.json_response({"score": None}),
    }

    async def answer(essay_id: str) -> web.Response:
        return odd.get(essay_id) or web.json_response({"score": 0.5})

    outcome = run(Server(answer), lambda ask: closed_loop(ask, essays, 4))
    assert len(outcome.errors) == 4
    assert "status 429" in outcome.errors
    assert len(outcome.latencies_s) == len(outcome.scores) == len(essays) - 4
    assert outcome.essays_per_s == pytest.approx((len(essays) - 4) / outcome.took_s)


def test_a_server_that_is_gone_is_an_error_for_each_essay(essays: list[ChosenEssay]) -> None:
    async def whole() -> Outcome:
        async with http_asker("http://127.0.0.1:9", FORM) as ask:
            return await closed_loop(ask, essays, 4)

    outcome = asyncio.run(whole())
    assert len(outcome.errors) == len(essays)
    assert outcome.essays_per_s == 0
    assert outcome.percentile_ms(0.5) != outcome.percentile_ms(0.5)
