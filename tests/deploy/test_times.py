"""The table of times is read off what DVC itself prints."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.processes import relay
from deploy.times import StageClock, Times

pytestmark = pytest.mark.slow

PIPELINE = """
stages:
  slow:
    cmd: sleep 0.3 && echo a > a
    outs: [a]
  quick:
    matrix: {item: [one, two]}
    cmd: cat a > ${item.item}
    deps: [a]
    outs: ["${item.item}"]
  broken:
    cmd: sleep 0.2 && false
    deps: [one]
    outs: [never]
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "dvc.yaml").write_text(PIPELINE, "utf-8")
    subprocess.run([Path(sys.executable).with_name("dvc"), "init", "--no-scm", "--quiet"], cwd=tmp_path, check=True)
    return tmp_path


def repro(repository: Path, *targets: str) -> tuple[int, Times]:
    times = Times()
    clock = StageClock(times)
    command = [str(Path(sys.executable).with_name("dvc")), "--cd", str(repository), "repro", *targets]
    with (repository / "log").open("wb") as log:
        code = relay(command, {**os.environ, "PYTHONUNBUFFERED": "1"}, log, clock.line)
    clock.close()
    return code, times


def test_each_stage_that_ran_is_timed(repository: Path) -> None:
    code, times = repro(repository, "quick")
    assert code == 0
    assert list(times.seconds) == ["slow", "quick@one", "quick@two"]
    assert 0.3 <= times.seconds["slow"] < times.total_s


def test_stages_that_did_not_run_have_no_time(repository: Path) -> None:
    repro(repository, "quick")
    (repository / "dvc.yaml").write_text(PIPELINE.replace("cat a >", "cat a a >"), "utf-8")
    code, times = repro(repository, "quick@two")
    assert code == 0
    assert list(times.seconds) == ["quick@two"]


def test_a_stage_that_fails_is_timed_too(repository: Path) -> None:
    code, times = repro(repository, "broken")
    assert code != 0
    assert times.seconds["broken"] >= 0.2


def test_the_table_and_the_file_hold_every_step_and_the_total(tmp_path: Path) -> None:
    times = Times()
    times.seconds = {"environment": 92.04, "fetch": 3.0}
    times.write(tmp_path / "times.json")
    written = json.loads((tmp_path / "times.json").read_text())
    assert written["seconds"] == {"environment": 92.0, "fetch": 3.0}
    assert written["total_s"] == pytest.approx(92.0, abs=1)
    assert [line.split() for line in times.table().splitlines()] == [
        ["environment", "1m32s"],
        ["fetch", "3s"],
        ["total", "1m32s"],
    ]
