"""`make up` for real: object store, pipeline, publication and service, on one small model; and how it stops."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from tests.made_essays import made_essay

PACKAGES = ("essays", "data", "training", "export", "serving", "pipelines", "benchmarks", "deploy", "fairmark")
ESSAY = made_essay(1)


@pytest.fixture(scope="module")
def checkout(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """This tree with the smallest of models, in a folder of its own."""
    folder = tmp_path_factory.mktemp("checkout")
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("raw", "processed", "__pycache__")
        shutil.copytree(root / package, folder / package, ignore=ignored)
    for name in ("pyproject.toml", "dvc.yaml", "params.yaml", ".dvcignore"):
        shutil.copy(root / name, folder)
    (folder / ".dvc").mkdir()
    config = (root / ".dvc" / "config").read_text("utf-8")
    (folder / ".dvc" / "config").write_text(config.replace("[core]", "[core]\n    no_scm = true", 1), "utf-8")
    params = yaml.safe_load((folder / "params.yaml").read_text("utf-8"))
    (folder / "params.yaml").write_text(yaml.safe_dump(with_one_small_model(params)), "utf-8")
    subprocess.run([sys.executable, "-m", "pipelines.dependencies", "--write"], cwd=folder, check=True)
    yield folder
    up = subprocess.run([sys.executable, "-m", "deploy.up", "--down"], cwd=folder, capture_output=True, text=True)
    assert up.returncode == 0, up.stderr


def with_one_small_model(params: dict[str, Any]) -> dict[str, Any]:
    ngrams = {"shortest": 1, "longest": 3, "num_buckets": 4096}
    lexical = {**params["train"]["lexical"], "ngrams": ngrams, "feature_shares": [0.3], "penalties": [1.0]}
    fewer = {
        "gate": {"num_essays": 5},
        "robustness": {"num_essays": 1, "num_essays_of_encoders": 1},
        "evaluate": {"num_resamples": 100},
        "export": {"num_parity_essays": 20},
    }
    changed = {section: params[section] | values for section, values in fewer.items()}
    return {**params, **changed, "models": ["lexical"], "train": {"lexical": lexical}}


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Up:
    """A running `up`, as a terminal would have it: interrupted with its whole process group."""

    def __init__(self, checkout: Path, *options: str, mirror: Path | None = None) -> None:
        environment = {**os.environ, **({"ESSAYS_MIRROR": str(mirror)} if mirror else {})}
        self.log = checkout / "up.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deploy.up", *options],
                cwd=checkout,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def __enter__(self) -> "Up":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.interrupt()
            self.process.wait(60)

    @property
    def said(self) -> str:
        return self.log.read_text("utf-8", errors="replace")

    def interrupt(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def wait_for(self, words: str, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while words not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.1)


def test_a_busy_port_is_refused_at_once_and_its_owner_named(checkout: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        with Up(checkout, "--port", str(number)) as up:
            assert up.process.wait(30) == 1
    assert f"port {number} is taken by process {os.getpid()}" in up.said
    assert f"make up PORT={number + 1}" in up.said


def test_a_typo_in_a_setting_is_named_and_is_a_misuse(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRMARK_STOER__URL", "s3://elsewhere")
    with Up(checkout, "--no-serve") as up:
        assert up.process.wait(30) == 2
    assert "FAIRMARK_STOER__URL" in up.said


@pytest.mark.slow
def test_serving_from_an_empty_store_fails_with_the_reason_and_leaves_nothing(checkout: Path, port: int) -> None:
    with Up(checkout, "--no-pipeline", "--port", str(port)) as up:
        assert up.process.wait(120) == 1
    assert "before it was ready" in up.said
    assert living(checkout) == []


@pytest.mark.slow
def test_up_serves_stops_cleanly_and_is_up_again_without_any_work(checkout: Path, port: int, mirror: Path) -> None:
    with Up(checkout, "--port", str(port), mirror=mirror) as up:
        up.wait_for("ready: open", within_s=420)
        address = f"http://127.0.0.1:{port}"
        assert httpx.get(address).status_code == 200
        scored = httpx.post(f"{address}/score", json={"essay": ESSAY, "prompt_id": "ellipse-overall"}, timeout=30)
        assert scored.status_code == 200, scored.text
        assert scored.json()["model"]["name"] == "ensemble"
        again = subprocess.run(
            [sys.executable, "-m", "deploy.up", "--port", "1"], cwd=checkout, capture_output=True, text=True, timeout=60
        )
        assert again.returncode == 1
        assert f"process {up.process.pid}" in again.stderr
        up.interrupt()
        assert up.process.wait(20) == 0, up.said
    assert living(checkout) == []
    steps = json.loads((checkout / ".make" / "up-times.json").read_text())["seconds"]
    assert {"fetch", "train@lexical-0", "export@lexical", "publish", "dvc push", "service"} <= set(steps)

    with Up(checkout, "--port", str(port), "--exit-when-ready", mirror=mirror) as up:
        assert up.process.wait(120) == 0, up.said
    assert re.findall(r"^Running stage .*", up.said, re.M) == []
    assert living(checkout) == []


@pytest.mark.slow
def test_an_interrupt_during_the_pipeline_stops_the_stage_and_the_store(checkout: Path, mirror: Path) -> None:
    (checkout / "data" / "folds.py").write_text((checkout / "data" / "folds.py").read_text() + "# changed\n")
    with Up(checkout, "--no-serve", mirror=mirror) as up:
        up.wait_for("Running stage 'split'", within_s=120)
        up.interrupt()
        assert up.process.wait(30) == 130, up.said
    assert living(checkout) == []


def living(folder: Path) -> list[str]:
    """Command lines of processes that run in this folder, or on data of it."""
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            if process.status() != psutil.STATUS_ZOMBIE and (process.cwd() == str(folder) or str(folder) in command):
                found.append(command)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found
