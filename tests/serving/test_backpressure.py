"""Requests that must not cost others anything: poison, those nobody waits for, those that take too long."""

import asyncio
import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from serving.catalogue import LocalArtifact
from serving.desk import Desk
from serving.routes import create_app
from tests.page_server import page_served
from tests.serving.conftest import held_lane
from tests.serving.traffic import head_for, wait_until

ESSAY = (
    "My school is small, and I like it. The teachers know every pupil by name, so when somebody is sad they see it."
    " However we have no laboratory, and I want to learn chemistry. People say a big school has more to offer."
)
GOOD = {"essay": ESSAY, "prompt_id": "ellipse-overall", "model": "tiny"}
RAISES, NO_NUMBER = "zyzzyva", "quagga"
ONNX = "onnxruntime"
Open = Callable[..., Desk]


@pytest.mark.row(29)
def test_a_poison_essay_fails_alone_among_others_at_the_same_time_and_in_one_batch(
    bundles: Any, extract: Any, open_desk: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = type(bundles)(tmp_path / "bundles")
    desk = open_desk(extract([made.poisoned(RAISES, NO_NUMBER)], tmp_path / "extracted"), runtime=ONNX, lanes=2)
    essays = [f"{ESSAY} {('', RAISES, '', NO_NUMBER)[number % 4]}" for number in range(16)]
    healthy = [200 if number % 2 == 0 else 500 for number in range(16)]
    with page_served(desk) as url:

        async def all_at_once() -> list[httpx.Response]:
            async with httpx.AsyncClient(base_url=url, timeout=30) as client:
                bodies = ({**GOOD, "essay": essay} for essay in essays)
                return list(await asyncio.gather(*(client.post("/score", json=body) for body in bodies)))

        answers = asyncio.run(all_at_once())
        assert [answer.status_code for answer in answers] == healthy
        good = {answer.json()["unit_score"] for answer in answers if answer.status_code == 200}
        assert len(good) == 1
        # As advice: in a batch they would be near-duplicates of each other.
        bodies = [{**GOOD, "essay": each, "advisory": True} for each in essays]
        batch = httpx.post(f"{url}/score_batch", json={"essays": bodies})
        results = batch.json()["results"]
        assert [item["error"]["code"] if item["error"] else 200 for item in results] == [
            200 if status == 200 else "internal_error" for status in healthy
        ]
        assert {item["result"]["unit_score"] for item in results if item["result"]} == good
    assert RAISES not in caplog.text
    assert "mistake while answering one essay of a batch" in caplog.text


@pytest.mark.row(26)
def test_an_essay_whose_client_left_is_dropped_from_the_queue_and_counted(
    artifacts: list[LocalArtifact], open_desk: Open
) -> None:
    desk = open_desk(artifacts, runtime=ONNX)
    pool = desk.scorer().pool
    body = json.dumps(GOOD).encode()
    with page_served(desk) as url, held_lane(desk):
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as client:
            client.sendall(head_for(body) + body)
            wait_until(lambda: pool.open_jobs == 2, 10, lambda: "it does not wait")
        wait_until(lambda: pool.open_jobs == 1, 10, lambda: "it still waits")
        text = httpx.get(f"{url}/metrics").text
        assert "fairmark_dropped_jobs_total 1.0" in text
        assert 'fairmark_requests_total{route="/score",status="499"} 1.0' in text
        assert 'fairmark_infer_seconds_count{model="tiny"}' not in text


@pytest.mark.row(27)
def test_a_graph_that_runs_over_time_is_answered_504_and_keeps_its_lane_until_it_ends(
    bundles: Any, extract: Any, open_desk: Open, tmp_path: Path
) -> None:
    made = type(bundles)(tmp_path / "bundles")
    desk = open_desk(extract([made.heavy(num_products=5)], tmp_path / "extracted"), runtime=ONNX, timeout_s=0.02)
    pool = desk.scorer().pool
    with page_served(desk) as url:
        answer = httpx.post(f"{url}/score", json=GOOD, timeout=30)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_passed")
        assert pool.open_jobs == 1
        behind = httpx.post(f"{url}/score", json={**GOOD, "essay": f"{ESSAY} And so on."}, timeout=30)
        assert behind.status_code == 504
        wait_until(lambda: pool.open_jobs == 0, 60, lambda: "the lane never came free")
        text = httpx.get(f"{url}/metrics").text
        assert "fairmark_dropped_jobs_total 1.0" in text


def test_a_refused_request_says_when_there_will_be_room(artifacts: list[LocalArtifact], open_desk: Open) -> None:
    desk = open_desk(artifacts, runtime=ONNX, max_wait_s=0.01)
    with ThreadPoolExecutor(1) as threads, page_served(desk) as url, held_lane(desk):
        waiting = threads.submit(httpx.post, f"{url}/score", json={**GOOD, "essay": f"{ESSAY} Yes."}, timeout=30)
        wait_until(lambda: desk.scorer().pool.open_jobs == 2, 10, lambda: "it does not wait")
        answer = httpx.post(f"{url}/score", json=GOOD)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "overloaded")
        assert int(answer.headers["retry-after"]) >= 1
        assert not waiting.done()


async def refused(app: ASGIApp, body: bytes | None) -> int:
    """The status that a request gets over ASGI; None as its body is one that never comes."""
    statuses: list[int] = []
    to_come = [] if body is None else [body]

    async def receive() -> dict[str, Any]:
        if not to_come:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": to_come.pop(), "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/score", "headers": headers, "query_string": b""}
    async with asyncio.timeout(10):
        await app({**scope, "http_version": "1.1"}, receive, send)
    return statuses[0]


def busy_s_of(refuse: Callable[[], int]) -> float:
    """Processor time of the quickest of some refusals."""
    times = []
    for _ in range(10):
        before = time.process_time()
        assert refuse() == 429
        times.append(time.process_time() - before)
    return min(times)


@pytest.mark.row(25)
def test_a_refusal_costs_no_reading_where_all_is_full_and_no_gate_where_its_model_is(
    artifacts: list[LocalArtifact], open_desk: Open, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    essay = " ".join([ESSAY] * 250)
    body = json.dumps({**GOOD, "essay": essay}).encode()
    full = open_desk(artifacts, runtime=ONNX, max_open_jobs=1)
    with held_lane(full):
        app = create_app(lambda: full, tmp_path)
        unread_s = busy_s_of(lambda: asyncio.run(refused(app, None)))
    one_full = open_desk(artifacts, runtime=ONNX, max_wait_s=0.01)
    with ThreadPoolExecutor(1) as threads, held_lane(one_full):
        waiting = threads.submit(asyncio.run, one_full.scorer().score(ESSAY, "asap-1", "tiny"))
        wait_until(lambda: one_full.scorer().pool.open_jobs == 2, 10, lambda: "it does not wait")
        one_full.scorer().pool.require_room()  # another model's essay would be taken
        app_of_one = create_app(lambda: one_full, tmp_path)
        read_s = busy_s_of(lambda: asyncio.run(refused(app_of_one, body)))
    assert waiting.result().unit_score > 0
    before = time.process_time()
    full.catalogue().gate.findings(essay, GOOD["prompt_id"])
    gate_s = time.process_time() - before
    assert max(unread_s, read_s) < gate_s / 3
    figure(
        f"processor time of a refusal: {unread_s * 1000:.1f} ms unread, {read_s * 1000:.1f} ms with {len(essay):,}"
        f" characters read; the gate alone takes {gate_s * 1000:.0f} ms for these"
    )
