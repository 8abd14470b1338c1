"""`bentoml serve` under faults of its artifacts, its port and its end: real processes, signals and file systems."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from essays.registry import read_champion
from essays.settings import StoreSettings
from essays.store import open_store
from tests.fault_proxy import fault_proxy
from tests.serving.processes import Service, command, environment_for, remount, serving, small_disk, store_at

pytestmark = [pytest.mark.slow, pytest.mark.chaos]

ESSAY = (
    "My school is small, and I like it. The teachers know every pupil by name, so when somebody is sad they see it."
    " However we have no laboratory, and I want to learn chemistry. People say a big school has more to offer."
)
GOOD = {"essay": ESSAY, "prompt_id": "ellipse-overall"}
STEP_TIMEOUT_S = 120
Figure = Callable[[str], None]


def wait_for(service: Service, said: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What `/readyz` says once it says this, with 503, while `/livez` says 200."""
    deadline = time.monotonic() + STEP_TIMEOUT_S
    while time.monotonic() < deadline:
        assert service.process.poll() is None, service.log
        answer = service.get("/readyz")
        if answer is not None:
            readiness: dict[str, Any] = answer.json()
            if answer.status_code == 503 and said(readiness):
                alive = service.get("/livez")
                assert alive
                assert alive.status_code == 200
                return readiness
        time.sleep(0.02)
    raise AssertionError(service.log)


class HalfRequest:
    """A request whose body is not sent to its end, and so in hand until it is."""

    def __init__(self, port: int) -> None:
        self.body = json.dumps({**GOOD, "model": "lexical"}).encode()
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        head = "POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
        self.socket.sendall(f"{head}Content-Length: {len(self.body)}\r\n\r\n".encode() + self.body[:20])
        time.sleep(0.3)  # until the worker has read it

    def finish(self) -> bytes:
        self.socket.sendall(self.body[20:])
        answer = b""
        while more := self.socket.recv(65536):
            answer += more
        self.socket.close()
        return answer


def port_of(service: Service) -> int:
    port = service.http.base_url.port
    assert port
    return port


@pytest.mark.row(1, 10, 16, 19)
def test_a_start_through_every_fault_to_a_drain(s3: Any, bundles: Any, tmp_path: Path, figure: Figure) -> None:
    bucket = s3.make_bucket()
    plain = store_at(s3, bucket)
    bundles.publish(plain)
    plain.put_bytes(read_champion(plain, "tiny").pointer.key, b"no zip")
    with fault_proxy(s3.endpoint) as proxy, small_disk(tmp_path / "disk", "12k") as disk:
        proxy.refuse = True
        environment = {
            **environment_for(s3, bucket, disk),
            "FAIRMARK_STORE__ENDPOINT_URL": proxy.endpoint,
            "FAIRMARK_SERVICE__START_BUDGET_S": "100",
            "FAIRMARK_SERVICE__REQUIRE": "any",
            "FAIRMARK_SERVICE__CACHE__STORE": "off",
        }
        with serving(tmp_path, environment) as service:
            wait_for(service, lambda readiness: "nobody answers" in (readiness["reason"] or ""))
            proxy.refuse = False
            wait_for(service, lambda readiness: (readiness["reason"] or "").startswith("disk_full"))
            remount(disk, "size=16m")
            slowest_s = _watch_until_ready(service)
            states = {model["name"]: model for model in service.http.get("/status").json()["models"]}
            assert {name: model["state"] for name, model in states.items()} == {
                "lexical": "ready",
                "tiny": "failed",
                "ensemble": "failed",
            }
            assert "promised" in states["tiny"]["detail"]
            assert service.http.post("/score", json={**GOOD, "model": "lexical"}).status_code == 200
            for name in ("tiny", "ensemble"):
                answer = service.http.post("/score", json={**GOOD, "model": name})
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
                assert answer.headers["retry-after"]
            _drain(service)
        figure(f"slowest health answer while loading {slowest_s * 1000:.0f} ms")

        proxy.requests.clear()
        started = time.monotonic()
        with serving(tmp_path, {**environment, "FAIRMARK_SERVICE__MODELS": '["lexical"]'}) as again:
            again.wait_until_ready()
            ready_s = time.monotonic() - started
            assert [line for line in proxy.requests if ".zip" in line] == []
            figure(f"restart: no body fetched, ready after {ready_s:.1f} s")
            _force(again)


def _watch_until_ready(service: Service) -> float:
    """The longest that a health check took until the service was ready; none was refused."""
    slowest_s, deadline = 0.0, time.monotonic() + STEP_TIMEOUT_S
    while time.monotonic() < deadline:
        for path in ("/livez", "/readyz"):
            asked = time.monotonic()
            # A connection of its own each time, as probes make it. A refusal would be an error here.
            status = httpx.get(f"http://127.0.0.1:{port_of(service)}{path}", timeout=10).status_code
            slowest_s = max(slowest_s, time.monotonic() - asked)
            if (path, status) == ("/readyz", 200):
                return slowest_s
            assert status == (200 if path == "/livez" else 503)
        time.sleep(0.02)
    raise AssertionError(service.log)


def _drain(service: Service) -> None:
    """A request in hand is finished after SIGTERM, new ones are sent elsewhere, and the end is a success."""
    request = HalfRequest(port_of(service))
    service.process.send_signal(signal.SIGTERM)
    time.sleep(1)
    assert service.process.poll() is None
    refused = httpx.get(f"http://127.0.0.1:{port_of(service)}/readyz", timeout=5)
    assert (refused.status_code, refused.json()["reason"]) == (503, "stopping")
    assert request.finish().startswith(b"HTTP/1.1 200")
    assert service.process.wait(20) == 0, service.log


def _force(service: Service) -> None:
    """A second signal ends it although a request is in hand, and nothing of it is left."""
    workers = psutil.Process(service.process.pid).children(recursive=True)
    request = HalfRequest(port_of(service))
    service.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert service.process.poll() is None
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(3) == 1
    request.socket.close()
    _, alive = psutil.wait_procs(workers, timeout=3)
    assert alive == []
    assert "a second signal" in service.log


@pytest.mark.row(18)
def test_a_busy_port_is_an_error_that_names_its_owner_at_once(tmp_path: Path, figure: Figure) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        before = os.times()
        started = time.monotonic()
        ended = subprocess.run(command(port), capture_output=True, text=True, timeout=60)
        took_s, after = time.monotonic() - started, os.times()
    busy_s = after.children_user + after.children_system - before.children_user - before.children_system
    assert ended.returncode == 1
    assert f"error: port {port} is taken by process {os.getpid()}" in ended.stderr
    assert f"--port {port + 1}" in ended.stderr
    # On a machine that does nothing else the two are the same.
    assert min(took_s, busy_s) < 2.5
    figure(f"{took_s:.1f} s, of which {busy_s:.1f} s on a processor (the rest waited for other programs)")


@pytest.mark.row(16)
def test_a_worker_that_cannot_be_ready_ends_the_service_with_its_reason(
    bundles: Any, tmp_path: Path, figure: Figure
) -> None:
    store = open_store(StoreSettings(url=(tmp_path / "store").as_uri()))
    bundles.publish(store, ["lexical"])
    environment = {
        "FAIRMARK_STORE__URL": store.url,
        "FAIRMARK_SERVICE__ARTIFACT_FOLDER": str(tmp_path / "models"),
        "FAIRMARK_SERVICE__CACHE__STORE": "off",
        "FAIRMARK_SERVICE__LANES": "1",
    }
    with serving(tmp_path, environment) as service:
        service.wait_until_ready()
        parent = psutil.Process(service.process.pid)
        # The next worker finds its model damaged.
        for graph in (tmp_path / "models").glob("*/model.onnx"):
            graph.write_bytes(b"damaged")
        killed = time.monotonic()
        for worker in parent.children():
            worker.kill()
        assert service.process.wait(STEP_TIMEOUT_S) == 1
        figure(f"a killed worker whose model was damaged: ended with code 1 after {time.monotonic() - killed:.0f} s")
        assert "error: " in service.log
        assert "does not load" in service.log


BOUND = """
import signal, sys, time
from serving.stopping import wrap_handlers

signal.signal(signal.SIGTERM, lambda number, frame: print("asked to stop", flush=True))
signal.signal(signal.SIGINT, lambda number, frame: None)
wrap_handlers(float(sys.argv[1]), lambda: print("said so", flush=True))
print("on", flush=True)
time.sleep(30)
"""


def test_requests_that_take_too_long_after_a_signal_are_cut_off() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BOUND, "0.5"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "on\n"
    process.terminate()
    started = time.monotonic()
    out, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert 0.4 < time.monotonic() - started < 5
    assert out.split("\n")[:2] == ["said so", "asked to stop"]
    assert "took longer than" in said
