"""`bentoml serve` with three times the essays that it can score: what is refused, what is scored, how it recovers."""

import asyncio
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from essays.settings import StoreSettings
from essays.store import open_store
from tests.serving.processes import bar_now, serving
from tests.serving.traffic import Answer, Bodies, Client, Traffic, closed_loop, percentile

pytestmark = [pytest.mark.slow, pytest.mark.chaos]

CONCURRENCY = 64
TIMES_CAPACITY = 3
TIMEOUT_S = 10.0
MAX_WAIT_S = 0.25
RECOVERY_S = 5.0
SHED_S = 0.05
QUICK_SHED_S = 0.25
"""In a short run the slowest of a hundred is a chance: `--reliability` makes it long enough for the bar."""
SHED = (429, 503)


def essays() -> Bodies:
    """Never the same one twice."""
    for number in itertools.count():
        text = (
            f"My school is small, and I like it. I have thought about it {number} times. The teachers know every pupil"
            " by name, so when somebody is sad they see it. However we have no laboratory, and I want to"
            " learn chemistry."
        )
        yield {"essay": text, "prompt_id": "ellipse-overall", "model": "tiny"}


@pytest.mark.row(25)
def test_three_times_the_capacity_is_shed_at_once_and_what_is_taken_keeps_its_deadline(
    bundles: Any,
    tmp_path: Path,
    figure: Callable[[str], None],
    claim_partly: Callable[[str], None],
    request: pytest.FixtureRequest,
) -> None:
    whole = request.config.getoption("--reliability")
    bar = bar_now(SHED_S if whole else QUICK_SHED_S)
    store = open_store(StoreSettings(url=(tmp_path / "store").as_uri()))
    made = type(bundles)(tmp_path / "bundles")
    made.publish_paths(store, [made.heavy(num_products=1)])
    environment = {
        "FAIRMARK_STORE__URL": store.url,
        "FAIRMARK_SERVICE__ARTIFACT_FOLDER": str(tmp_path / "models"),
        "FAIRMARK_SERVICE__CACHE__STORE": "off",
        "FAIRMARK_SERVICE__RUNTIME": "onnxruntime",
        "FAIRMARK_SERVICE__LANES": "2",
        "FAIRMARK_SERVICE__TIMEOUT_S": str(TIMEOUT_S),
        "FAIRMARK_SERVICE__MAX_WAIT_S": str(MAX_WAIT_S),
    }
    bodies = essays()
    with serving(tmp_path, environment) as service:
        service.wait_until_ready()
        for _ in range(3):  # beside other tests it may be faster than just before, when its capacity was measured
            capacity = _capacity(service.port, bodies, duration_s=10 if whole else 2)
            calm = _alone(service.port, bodies, 10)
            traffic = Traffic(service.port, bodies)
            rate = TIMES_CAPACITY * capacity
            asyncio.run(traffic.open_loop(rate, CONCURRENCY, duration_s=30 if whole else 4))
            shed = [answer for answer in traffic.answers if answer.status in SHED]
            taken = [answer for answer in traffic.answers if answer.status not in SHED]
            others = [answer.body for answer in taken if answer.status not in (200, 504)]
            assert others == []
            if len(shed) > len(taken):
                break
        recovered_s = _normal_since(service.port, bodies, calm) - traffic.ended
        log = service.log
    assert len(shed) > len(taken), "that was no overload"
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in shed)
    shed_p99_s, taken_p99_s = (percentile([each.took_s for each in answers], 0.99) for answers in (shed, taken))
    shed_p50_s = percentile([each.took_s for each in shed], 0.5)
    figure(
        f"capacity {capacity:.0f}/s, sent {rate:.0f}/s ({traffic.num_skipped} not, as {CONCURRENCY} waited):"
        f" {len(shed)} refused, p50 {shed_p50_s * 1000:.0f} ms, p99 {shed_p99_s * 1000:.0f} ms;"
        f" {len(taken)} scored, p99 {taken_p99_s:.2f} s of {TIMEOUT_S:g} s;"
        f" normal again after {recovered_s:.1f} s; {bar}"
    )
    if shed_p99_s >= bar.asked_s:
        claim_partly(f"refusals in 50 ms: {bar}")
    assert taken_p99_s < TIMEOUT_S
    assert recovered_s <= RECOVERY_S
    assert "mistake" not in log
    assert shed_p99_s < bar.allowed_s


def _capacity(port: int, bodies: Bodies, duration_s: float) -> float:
    """Essays a second, with as many clients as lanes."""
    with closed_loop(port, bodies, concurrency=2) as traffic:
        time.sleep(duration_s)
    assert {answer.status for answer in traffic.answers} == {200}
    return len(traffic.answers) / duration_s


def _alone(port: int, bodies: Bodies, number: int) -> list[float]:
    """How long requests take one after the other."""

    async def ask() -> list[Answer]:
        async with Client(port) as client:
            return [await client.score(next(bodies)) for _ in range(number)]

    return [answer.took_s for answer in asyncio.run(ask())]


def _normal_since(port: int, bodies: Bodies, calm: list[float]) -> float:
    """When three requests in a row began that took no longer than the slowest did before, and half as much again."""
    started = time.monotonic()
    while time.monotonic() - started < 60:
        began = time.monotonic()
        if max(_alone(port, bodies, 3)) < 1.5 * max(calm):
            return began
    raise AssertionError("it never recovered")
