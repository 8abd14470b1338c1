"""Many essays, a kill in the middle, a service that goes away: each essay is answered exactly once.

`make test` does it with some hundred essays; `make client-kill` with 10,000, and says the rate and the memory.
"""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import pytest

from essays.settings import StoreSettings
from essays.store import open_store
from tests.made_essays import made_essay
from tests.serving.processes import Service, serving

pytestmark = pytest.mark.slow

MILLION = 1_000_000
NUM_ESSAYS = int(os.environ.get("CLIENT_ESSAYS", "400"))
REPORT = Path("out/client-kill.json")
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def environment(bundles: Any, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Of a service with the n-gram model alone, fast enough that the client is what is measured."""
    folder = tmp_path_factory.mktemp("service")
    store = f"file://{folder}/store"
    bundles.publish(open_store(StoreSettings(url=store)), ["lexical"])
    return {
        "FAIRMARK_STORE__URL": store,
        "FAIRMARK_SERVICE__ARTIFACT_FOLDER": str(folder / "models"),
        "FAIRMARK_SERVICE__LANES": "2",
        "FAIRMARK_SERVICE__CACHE__STORE": "off",
    }


@pytest.fixture(scope="module")
def service(environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("log"), environment) as started:
        started.wait_until_ready()
        yield started


def write_essays(path: Path, number: int) -> None:
    """Essays of 80 to 300 words or so; every hundredth is too short to be scored."""
    chance = random.Random(11)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["essay_id", "essay"])
        for place in range(number):
            text = "It is too short." if place % 100 == 99 else made_essay(place, chance.randint(7, 20))
            writer.writerow([f"essay-{place}", text])


class Run:
    """A `fairmark score` at work, with its memory watched."""

    def __init__(self, table: Path, out: Path, url: str, *more: str) -> None:
        command = [sys.executable, "-m", "fairmark", "score", str(table), "--prompt", "ellipse-overall"]
        command += ["--model", "lexical", "--out", str(out), *more]
        self.out = out
        self.log = out.with_suffix(".log")
        self.memory: list[tuple[int, int]] = []
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env={**os.environ, "FAIRMARK_URL": url}, stderr=log)

    def lines(self) -> int:
        return self.out.read_bytes().count(b"\n") - 1 if self.out.exists() else 0

    def watch(self, until: int | None = None) -> None:
        """Note lines and resident bytes, until so many essays are done or the run has ended."""
        watched = psutil.Process(self.process.pid)
        while self.process.poll() is None and (until is None or self.lines() < until):
            try:
                self.memory.append((self.lines(), watched.memory_info().rss))
            except psutil.NoSuchProcess:
                break
            time.sleep(0.005)

    def growth_bytes(self) -> float:
        """How much more it holds in its last fifth than in the second one, of the time in which it wrote lines."""
        first, last = self.memory[0][0], self.memory[-1][0]
        at_work = [rss for lines, rss in self.memory if first < lines < last]
        fifth = len(at_work) // 5
        assert fifth, f"only {len(at_work)} looks at its memory"
        return median(at_work[-fifth:]) - median(at_work[fifth : 2 * fifth])


@pytest.mark.row(54)
def test_a_killed_run_goes_on_and_each_essay_is_there_once(service: Service, tmp_path: Path) -> None:
    table, out, url = tmp_path / "essays.csv", tmp_path / "scores.csv", str(service.http.base_url)
    write_essays(table, NUM_ESSAYS)
    killed = Run(table, out, url)
    killed.watch(until=NUM_ESSAYS // 2)
    killed.process.send_signal(signal.SIGKILL)
    assert killed.process.wait() == -signal.SIGKILL
    done = killed.lines()
    assert NUM_ESSAYS // 2 <= done < NUM_ESSAYS
    with out.open("ab") as file:  # what a kill inside a write leaves
        file.write(b"essay-half,ellipse-over")

    started = time.monotonic()
    resumed = Run(table, out, url)
    resumed.watch()
    took_s = time.monotonic() - started
    assert resumed.process.wait() == 1, resumed.log.read_text()
    with out.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["essay_id"] for row in found] == [f"essay-{place}" for place in range(NUM_ESSAYS)]
    assert {row["essay_id"] for row in found if row["error"]} == {f"essay-{n}" for n in range(99, NUM_ESSAYS, 100)}
    assert all(bool(row["score"]) != bool(row["error"]) for row in found)
    assert f"{done:,} of them by an earlier run" in resumed.log.read_text()
    growth = max(killed.growth_bytes(), resumed.growth_bytes())
    assert growth < 4 * MEGABYTE
    report = {
        "essays": NUM_ESSAYS,
        "done_at_kill": done,
        "resumed_essays_per_s": round((NUM_ESSAYS - done) / took_s, 1),
        "memory_growth_mb": round(growth / MEGABYTE, 2),
        "memory_mb": round(max(rss for _, rss in resumed.memory) / MEGABYTE, 1),
        "load_average": os.getloadavg()[0],
    }
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=1) + "\n")


def write_bad_rows(path: Path, number: int) -> None:
    """As spreadsheets write: BOM, CRLF, names that are formulas; each row but every 10,000th has a cell too many."""
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        file.write("essay_id,essay\r\n")
        for place in range(number):
            rest = made_essay(place) if place % 10_000 == 0 else "a cell,and one too many"
            file.write(f"=cmd({place}),{rest}\r\n")


@pytest.mark.row(54)
def test_a_long_table_of_bad_rows_is_answered_row_by_row_with_memory_flat_and_goes_on_after_a_kill(
    service: Service,
    tmp_path: Path,
    figure: Callable[[str], None],
    claim_nothing: Callable[[], None],
    request: pytest.FixtureRequest,
) -> None:
    number = request.config.getoption("--table-rows")
    if number < MILLION:
        claim_nothing()
    table, out, url = tmp_path / "rows.csv", tmp_path / "scores.csv", str(service.http.base_url)
    write_bad_rows(table, number)
    killed = Run(table, out, url)
    killed.watch(until=number // 2)
    killed.process.send_signal(signal.SIGKILL)
    killed.process.wait()
    done = killed.lines()
    assert number // 2 <= done < number
    resumed = Run(table, out, url)
    resumed.watch()
    assert resumed.process.wait() == 1, resumed.log.read_text()
    num_scores = 0
    with out.open(newline="") as file:
        for place, row in enumerate(csv.DictReader(file)):
            assert row["essay_id"] == f"'=cmd({place})"
            assert row["error"] == ("" if row["score"] else "bad_row")
            num_scores += bool(row["score"])
    assert place == number - 1
    assert num_scores == -(-number // 10_000)
    growth = max(killed.growth_bytes(), resumed.growth_bytes())
    assert growth < 8 * MEGABYTE
    figure(
        f"{number:,} rows, killed after {done:,} and gone on: each answered once, memory {growth / MEGABYTE:+.1f} MB"
    )


def test_a_service_that_is_killed_and_comes_back_costs_nothing_but_time(
    environment: Mapping[str, str], tmp_path: Path
) -> None:
    table, out = tmp_path / "essays.csv", tmp_path / "scores.csv"
    write_essays(table, 400)
    with serving(tmp_path, environment) as started:
        started.wait_until_ready()
        run = Run(table, out, str(started.http.base_url), "--patience", "600")
        run.watch(until=100)
        for worker in psutil.Process(started.process.pid).children(recursive=True):
            worker.send_signal(signal.SIGKILL)
        run.watch()
        assert run.process.wait() == 1, run.log.read_text()
    with out.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["essay_id"] for row in found] == [f"essay-{place}" for place in range(400)]
    assert [row["error"] for row in found if row["error"]] == ["too_short"] * 4


def test_patience_that_ends_leaves_what_is_done_and_says_how_to_go_on(
    environment: Mapping[str, str], tmp_path: Path
) -> None:
    table, out = tmp_path / "essays.csv", tmp_path / "scores.csv"
    write_essays(table, 400)
    with serving(tmp_path, environment) as started:
        started.wait_until_ready()
        run = Run(table, out, str(started.http.base_url), "--patience", "2")
        run.watch(until=100)
    assert run.process.wait(120) == 1
    said = run.log.read_text()
    assert "does not answer any more" in said
    assert "the same command goes on behind them" in said
    assert 100 <= run.lines() < 400
