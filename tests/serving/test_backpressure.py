"""Requests that must not cost others anything: poison, those nobody waits for, those that take too long."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.catalogue import LocalArtifact
from serving.desk import Desk
from serving.lanes import Job
from tests.page_server import page_served
from tests.serving.traffic import wait_until

ESSAY = (
    "My school is small, and I like it. The teachers know every pupil by name, so when somebody is sad they see it."
    " However we have no laboratory, and I want to learn chemistry. People say a big school has more to offer."
)
GOOD = {"essay": ESSAY, "prompt_id": "ellipse-overall", "model": "tiny"}
RAISES, NO_NUMBER = "zyzzyva", "quagga"
ONNX = "onnxruntime"
Open = Callable[..., Desk]


@contextmanager
def held_lane(desk: Desk) -> Iterator[None]:
    """Its only lane busy with a job that ends when the block does."""
    release = threading.Event()
    pool = desk.scorer().pool
    job: Job[bool] = Job(lambda _: release.wait(20), "held", 1)
    thread = threading.Thread(target=lambda: asyncio.run(pool.run([job], 20)))
    thread.start()
    wait_until(lambda: pool.open_jobs == 1, 10, lambda: "the lane is not held")
    try:
        yield
    finally:
        release.set()
        thread.join()


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
    head = f"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with page_served(desk) as url, held_lane(desk):
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as client:
            client.sendall(head.encode() + body)
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
