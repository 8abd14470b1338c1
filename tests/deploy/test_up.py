"""`make up` for real, on a prompt of one's own as docs/adding-a-prompt.md walks: store, pipeline, publication and
service, on one small model of fifty marked essays; and how it stops.
"""

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

from essays.errors import InvalidManifest
from export.bundles import find_bundle
from pipelines.dependencies import root_packages
from pipelines.extracted import extracted
from serving.catalogue import read_model
from tests.made_essays import made_essay, marked_table

TITLE, LICENCE = "A letter about our town", "ours; may be passed on"
ESSAY = made_essay(9100, 16)


@pytest.fixture(scope="module")
def checkout(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """This tree in a folder of its own, with a prompt that was added to it and the smallest of models."""
    folder = tmp_path_factory.mktemp("checkout")
    for package in root_packages():
        ignored = shutil.ignore_patterns("raw", "processed", "__pycache__")
        shutil.copytree(root / package, folder / package, ignore=ignored)
    for name in ("pyproject.toml", "dvc.yaml", "params.yaml", ".dvcignore"):
        shutil.copy(root / name, folder)
    (folder / ".dvc").mkdir()
    config = (root / ".dvc" / "config").read_text("utf-8")
    (folder / ".dvc" / "config").write_text(config.replace("[core]", "[core]\n    no_scm = true", 1), "utf-8")
    params = yaml.safe_load((folder / "params.yaml").read_text("utf-8"))
    (folder / "params.yaml").write_text(yaml.safe_dump(with_small_numbers(params)), "utf-8")
    marked_table(folder / "town.csv")
    add = [sys.executable, "-m", "pipelines.add_prompt", "--csv", "town.csv", "--prompt-id", "town-1"]
    add += ["--title", TITLE, "--low", "0", "--high", "6", "--licence", LICENCE, "--train", "lexical"]
    subprocess.run(add, cwd=folder, check=True, capture_output=True)
    yield folder
    up = subprocess.run([sys.executable, "-m", "deploy.up", "--down"], cwd=folder, capture_output=True, text=True)
    assert up.returncode == 0, up.stderr


def with_small_numbers(params: dict[str, Any]) -> dict[str, Any]:
    ngrams = {"shortest": 1, "longest": 3, "num_buckets": 4096}
    small = {"ngrams": ngrams, "feature_shares": [0.3], "penalties": [1.0], "num_averaged": 1}
    params["train"]["lexical"] |= small
    params["export"]["num_parity_essays"] = 20
    params["gate"]["num_essays"] = 20
    params["robustness"] |= {"num_essays": 2, "num_essays_of_encoders": 2}
    params["evaluate"]["num_resamples"] = 100
    return params


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Up:
    """A running `up`, as a terminal would have it: interrupted with its whole process group."""

    def __init__(self, checkout: Path, *options: str) -> None:
        self.log = checkout / "up.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deploy.up", *options],
                cwd=checkout,
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
def test_up_serves_stops_cleanly_and_is_up_again_without_any_work(checkout: Path, port: int) -> None:
    with Up(checkout, "--port", str(port)) as up:
        up.wait_for("ready: open", within_s=420)
        address = f"http://127.0.0.1:{port}"
        assert httpx.get(address).status_code == 200
        (prompt,) = httpx.get(f"{address}/prompts").json()["prompts"]
        assert (prompt["prompt_id"], prompt["title"]) == ("town-1", TITLE)
        scored = httpx.post(f"{address}/score", json={"essay": ESSAY, "prompt_id": "town-1"}, timeout=30)
        assert scored.status_code == 200, scored.text
        score = scored.json()
        assert score["model"]["name"] == "ensemble"
        assert score["score_range"] == {"low": 0.0, "high": 6.0, "step": 1.0}
        # Sixteen sentences are a four in what it learned from.
        assert 3 <= score["score"] <= 5
        cards = [model["card"] for model in httpx.get(f"{address}/models").json()["models"]]
        assert all(f"town-1: {LICENCE}" in card for card in cards)
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

    with Up(checkout, "--port", str(port), "--exit-when-ready") as up:
        assert up.process.wait(120) == 0, up.said
    assert re.findall(r"^Running stage .*", up.said, re.M) == []
    assert living(checkout) == []


@pytest.mark.slow
def test_a_checkout_that_does_not_know_the_prompt_refuses_its_models(checkout: Path, tmp_path: Path) -> None:
    (elsewhere,) = extracted([find_bundle("lexical", checkout / "out/bundles")], tmp_path)
    with pytest.raises(InvalidManifest, match=r"essays/prompts\.toml has no town-1; serve from the checkout"):
        read_model(elsewhere)


@pytest.mark.slow
def test_an_interrupt_during_the_pipeline_stops_the_stage_and_the_store(checkout: Path) -> None:
    (checkout / "data" / "folds.py").write_text((checkout / "data" / "folds.py").read_text() + "# changed\n")
    with Up(checkout, "--no-serve") as up:
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
