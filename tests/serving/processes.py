"""`bentoml serve` as a process of its own, for tests of it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from essays.settings import StoreSettings
from essays.store import Store, open_store

# Seconds on a free machine; much longer beside a training run.
START_TIMEOUT_S = 300
PROGRAMS_OF_A_TEST = 3
"""Its own, a service of two processes and who asks it."""


class Service:
    """A `bentoml serve` that was started, with what it printed."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.log_path = log
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        self.started = time.monotonic()
        self.alive_after_s = 0.0
        """From its start to its first answer to a health check."""
        self.ready_after_s = 0.0
        self.health_s: list[float] = []
        """How long each health check took that was answered while it was not ready."""

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def get(self, path: str) -> httpx.Response | None:
        try:
            return self.http.get(path, timeout=5)
        except httpx.TransportError:
            return None

    def wait_until_ready(self) -> list[tuple[int, str]]:
        """Every answer of `/readyz` until it is 200; `/livez` is 200 from the first one on."""
        seen: list[tuple[int, str]] = []
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log
            asked = time.monotonic()
            answer = self.get("/readyz")
            if answer is not None:
                self.health_s.append(time.monotonic() - asked)
                self.alive_after_s = self.alive_after_s or time.monotonic() - self.started
                alive = self.get("/livez")
                assert alive
                assert alive.status_code == 200
                seen.append((answer.status_code, answer.text))
                if answer.status_code == 200:
                    self.ready_after_s = time.monotonic() - self.started
                    return seen
            time.sleep(0.01)
        raise AssertionError(f"not ready: {self.log}")


def command(port: int) -> list[str]:
    serve = ["-m", "bentoml", "serve", "serving.service:EssayScoring", "--host", "127.0.0.1", "--port", str(port)]
    return [sys.executable, *serve]


@dataclass(frozen=True)
class Bar:
    """Seconds that something may take on a machine with room for it, and how busy this one was."""

    asked_s: float
    load: float
    """Programs that wanted to run, on average over the minute before."""
    processors: int

    @property
    def is_strict(self) -> bool:
        """Whether there was a processor for one program more."""
        return self.programs_each <= 1

    @property
    def allowed_s(self) -> float:
        """The bar itself on a quiet machine; where programs share a processor, each is as much slower."""
        return self.asked_s * max(self.programs_each, 1)

    @property
    def programs_each(self) -> float:
        """That want to run, one more than before, for each processor."""
        return (self.load + 1) / self.processors

    def __str__(self) -> str:
        how = "as asked" if self.is_strict else f"times {self.programs_each:.1f} on a busy machine"
        return f"bar {self.asked_s:g} s {how} (load {self.load:.1f}, {self.processors} processors)"


def bar_now(asked_s: float) -> Bar:
    """A bar for what begins now."""
    # Other test processes may begin in the same second; the average over a minute would not know.
    beside = PROGRAMS_OF_A_TEST * (int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) - 1)
    return Bar(asked_s, max(os.getloadavg()[0], beside), len(os.sched_getaffinity(0)))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def serving(folder: Path, environment: Mapping[str, str], port: int | None = None) -> Iterator[Service]:
    port = port or free_port()
    log = folder / f"log-{port}"
    with log.open("ab") as out:
        process = subprocess.Popen(command(port), env={**os.environ, **environment}, stdout=out, stderr=out)
    service = Service(process, port, log)
    try:
        yield service
    finally:
        service.http.close()
        process.terminate()
        process.wait(30)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of this size, for tests of what happens when it is full."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "fairmark-test", str(folder)])
    if mounted.returncode:
        pytest.skip("a file system of one's own needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)


def end_of(environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """A start that fails, with what it said."""
    return subprocess.run(
        command(free_port()), env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )


def environment_for(s3: Any, bucket: str, folder: Path) -> dict[str, str]:
    return {
        "FAIRMARK_STORE__URL": f"s3://{bucket}",
        "FAIRMARK_STORE__ENDPOINT_URL": s3.endpoint,
        "FAIRMARK_STORE__ACCESS_KEY_ID": s3.access_key,
        "FAIRMARK_STORE__SECRET_ACCESS_KEY": s3.secret_key,
        "FAIRMARK_STORE__MAX_ATTEMPTS": "1",
        "FAIRMARK_SERVICE__ARTIFACT_FOLDER": str(folder / "models"),
        "FAIRMARK_SERVICE__LANES": "2",
        "FAIRMARK_SERVICE__START_BUDGET_S": "2",
        "FAIRMARK_SERVICE__CACHE__FOLDER": str(folder / "cache"),
    }


def store_at(s3: Any, bucket: str) -> Store:
    settings = {"endpoint_url": s3.endpoint, "access_key_id": s3.access_key, "secret_access_key": s3.secret_key}
    return open_store(StoreSettings.model_validate({"url": f"s3://{bucket}", **settings}))
