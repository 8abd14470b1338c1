"""`bentoml serve` under faults of its artifacts, its port and its end: real processes, signals and file systems."""

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
import pytest

from essays.registry import read_champion
from tests.fault_proxy import fault_proxy
from tests.serving.processes import Service, bar_now, command, environment_for, remount, serving, small_disk, store_at
from tests.serving.traffic import HalfRequest, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.chaos]

ESSAY = (
    "My school is small, and I like it. The teachers know every pupil by name, so when somebody is sad they see it."
    " However we have no laboratory, and I want to learn chemistry. People say a big school has more to offer."
)
GOOD = {"essay": ESSAY, "prompt_id": "ellipse-overall"}
STEP_TIMEOUT_S = 120
BUSY_PORT_S = 2.0
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


@pytest.mark.row(1, 10, 16)
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


def _watch_until_ready(service: Service) -> float:
    """The longest that a health check took until the service was ready; none was refused."""
    slowest_s, deadline = 0.0, time.monotonic() + STEP_TIMEOUT_S
    while time.monotonic() < deadline:
        for path in ("/livez", "/readyz"):
            asked = time.monotonic()
            # A connection of its own each time, as probes make it. A refusal would be an error here.
            status = httpx.get(f"http://127.0.0.1:{service.port}{path}", timeout=10).status_code
            slowest_s = max(slowest_s, time.monotonic() - asked)
            if (path, status) == ("/readyz", 200):
                return slowest_s
            assert status == (200 if path == "/livez" else 503)
        time.sleep(0.02)
    raise AssertionError(service.log)


def _drain(service: Service) -> None:
    """A request in hand is finished after SIGTERM, new ones are sent elsewhere, and the end is a success."""
    request = HalfRequest(service.port, {**GOOD, "model": "lexical"})
    service.process.send_signal(signal.SIGTERM)

    def refused() -> bool:
        try:
            answer = httpx.get(f"http://127.0.0.1:{service.port}/readyz", timeout=5)
        except httpx.TransportError:  # at the moment when the worker gives the port up
            return False
        return answer.status_code == 503 and answer.json()["reason"] == "stopping"

    wait_until(refused, STEP_TIMEOUT_S, lambda: service.log)
    assert service.process.poll() is None
    assert request.finish().startswith(b"HTTP/1.1 200")
    assert service.process.wait(20) == 0, service.log


@pytest.mark.row(18)
def test_a_busy_port_is_an_error_within_two_seconds_that_names_its_owner(
    figure: Figure, claim_partly: Callable[[str], None]
) -> None:
    bar = bar_now(BUSY_PORT_S)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        before = os.times()
        started = time.monotonic()
        ended = subprocess.run(command(port), capture_output=True, text=True, timeout=60)
        took_s, after = time.monotonic() - started, os.times()
    busy_s = after.children_user + after.children_system - before.children_user - before.children_system
    figure(f"{took_s:.1f} s, of which {busy_s:.1f} s on a processor; {bar}")
    if took_s >= bar.asked_s:
        claim_partly(f"two seconds by the clock: {bar}")
    assert ended.returncode == 1
    assert f"error: port {port} is taken by process {os.getpid()}" in ended.stderr
    assert f"--port {port + 1}" in ended.stderr
    assert took_s < bar.allowed_s


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
