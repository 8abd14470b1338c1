"""The essays that are chosen, the list of contestants, and the command line."""

import importlib.util
import random
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.speed.__main__ import bench, parse
from benchmarks.speed.chosen import ChosenEssay, choose_essays, digest_of, middling
from benchmarks.speed.contestants import Launch, choose, contestants
from benchmarks.speed.environments import OWN, requirements_file
from benchmarks.speed.subject import Expected, Subject, flop_per_essay
from essays.errors import BadParams

ALL = contestants("minilm")
ESSAY = ChosenEssay("asap-1-7", "asap-1", 1, "some words")


def write_essays(path: Path, order: int) -> Path:
    rows = [
        {"essay_id": f"e{number}", "prompt_id": f"asap-{number % 3}", "text": f"Number {number}. " + "word " * 25}
        for number in range(60)
    ]
    rows.append({"essay_id": "short", "prompt_id": "asap-1", "text": "Too short."})
    random.Random(order).shuffle(rows)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_the_same_essays_are_chosen_whatever_their_order(tmp_path: Path) -> None:
    first = choose_essays(write_essays(tmp_path / "a.parquet", 1), ["asap-2", "asap-1"], 40)
    again = choose_essays(write_essays(tmp_path / "b.parquet", 2), ["asap-2", "asap-1"], 40)
    assert first == again
    assert digest_of(first) == digest_of(again)
    assert {essay.prompt_id: essay.prompt_index for essay in first} == {"asap-2": 0, "asap-1": 1}
    assert "short" not in {essay.essay_id for essay in first}


def test_fewer_essays_are_the_first_of_more(tmp_path: Path) -> None:
    path = write_essays(tmp_path / "a.parquet", 1)
    assert choose_essays(path, ["asap-1"], 20)[:5] == choose_essays(path, ["asap-1"], 5)


def test_too_few_essays_are_said(tmp_path: Path) -> None:
    path = write_essays(tmp_path / "a.parquet", 1)
    with pytest.raises(BadParams, match="20 essays of asap-1; 21 were asked for"):
        choose_essays(path, ["asap-1"], 21)
    with pytest.raises(BadParams, match="no such file"):
        choose_essays(tmp_path / "none.parquet", ["asap-1"], 1)


def test_the_first_request_is_of_median_length(essays: list[ChosenEssay]) -> None:
    assert len(middling(essays).text.split()) == 40


def test_contestants_are_chosen_by_name_in_the_order_of_tables() -> None:
    assert [each.name for each in choose(["litserve", "fairmark"], "minilm")] == ["fairmark", "litserve"]
    assert [each.name for each in choose([], "minilm")] == [each.name for each in ALL]
    with pytest.raises(BadParams, match="no torchserve; known: fairmark"):
        choose(["torchserve"], "minilm")


@pytest.mark.parametrize("name", sorted({each.environment for each in ALL} - {OWN}))
def test_an_environment_is_pinned_to_the_last_package(name: str) -> None:
    lines = [line for line in requirements_file(name).read_text("utf-8").splitlines() if not line.startswith("#")]
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)] == []


@pytest.mark.parametrize("contestant", ALL, ids=lambda each: each.name)
def test_the_program_of_a_contestant_is_there(contestant: Any) -> None:
    subject = cast(Subject, SimpleNamespace(folder=Path("model"), weights=Path("weights")))
    launch = Launch(Path("bin/python"), 3000, Path("folder"), subject)
    command = contestant.command(launch)
    modules = [part.partition(":")[0] for part in command if re.match(r"(benchmarks|serving)\.", part)]
    assert [importlib.util.find_spec(module) is not None for module in modules] == [True]
    assert contestant.environment_for(launch, {})["HF_HUB_OFFLINE"] == "1"
    assert all(path.exists() for path in contestant.sources)


def test_fairmark_is_asked_to_compute_and_a_kept_score_is_no_answer() -> None:
    (fairmark, *_) = ALL
    assert fairmark.form
    assert fairmark.form.headers == {"Cache-Control": "no-store"}
    asked = {"essay": "some words", "prompt_id": "asap-1", "model": "minilm", "advisory": True}
    assert fairmark.form.body(ESSAY) == asked
    assert fairmark.form.score({"cache": {"tier": "bypass"}, "unit_score": 0.25}) == 0.25
    with pytest.raises(ValueError, match="from the cache"):
        fairmark.form.score({"cache": {"tier": "exact"}, "unit_score": 0.25})


def test_arithmetic_of_a_forward_pass_by_hand(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(
        '{"shape": {"backbone": {"hidden_size": 2, "intermediate_size": 8, "num_hidden_layers": 3}}}'
    )
    subject = cast(Subject, SimpleNamespace(weights=tmp_path))
    # A layer for 5 tokens: 4 products of 2×2 and 2 of 2×8 for each token, and 2 with 5 tokens of width 2; twice that.
    by_hand = 3 * 2 * (5 * (4 * 2 * 2 + 2 * 2 * 8) + 2 * 5 * 5 * 2)
    assert flop_per_essay(subject, [Expected(0.5, 0.5, 3.0, 5)]) == by_hand
    assert flop_per_essay(cast(Subject, SimpleNamespace(weights=tmp_path / "none")), []) is None


def test_the_list_needs_nothing() -> None:
    ended = subprocess.run([sys.executable, "-m", "benchmarks.speed", "--list"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert [line.split()[0] for line in ended.stdout.splitlines()] == [each.name for each in ALL]


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--help"])
    assert ended.value.code == 0
    assert set(re.findall(r"--[a-z]+", capsys.readouterr().out)) >= {"--quick", "--peers", "--fresh", "--essays"}


def test_a_quick_run_leaves_the_committed_report_alone() -> None:
    assert parse([]).out == Path("reports/bench")
    assert parse(["--quick"]).out == Path("out/bench/quick")


def test_a_misspelt_contestant_is_said_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(BadParams, match="known: fairmark"):
        bench(parse(["--peers", "torchserve", "--folder", str(tmp_path)]))
