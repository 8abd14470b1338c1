"""`fairmark` as a process of its own, against a real server."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from fairmark.client import Client
from fairmark.command import RUNS
from fairmark.options import parser
from serving.desk import Desk
from tests.made_essays import made_essay
from tests.page_server import page_served
from tests.serving.processes import free_port

DOCUMENT = Path("docs/client.md")


def fairmark(*arguments: str | Path, url: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fairmark", *map(str, arguments)],
        env={**os.environ, "FAIRMARK_URL": url},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
    )


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def table(tmp_path: Path, essay: str) -> Path:
    path = tmp_path / "class.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["essay_id", "prompt_id", "essay"])
        writer.writerows([[f"e{n}", "asap-1", made_essay(n)] for n in range(20)])
        writer.writerows(
            [["short", "asap-1", "Too short."], ["lost", "nowhere", essay], ["huge", "asap-1", "a " * 200_000]]
        )
        writer.writerow(["cells"])
    return path


def test_a_table_gets_a_line_for_each_row_and_bad_rows_their_reason(table: Path, address: str) -> None:
    ended = fairmark("score", table, url=address)
    assert ended.returncode == 1
    found = rows(ended.stdout)
    assert [row["essay_id"] for row in found] == [*(f"e{n}" for n in range(20)), "short", "lost", "huge", "cells"]
    assert all(2 <= float(row["score"]) <= 12 and row["model"] == "ensemble" for row in found[:20])
    assert [row["error"] for row in found[20:]] == ["too_short", "unknown_prompt", "body_too_large", "no_prompt"]
    assert not any(row["score"] for row in found[20:])
    assert "24 essays" in ended.stderr
    assert "4 without a score" in ended.stderr


def test_results_are_the_services_and_go_on_in_the_file(table: Path, address: str, tmp_path: Path) -> None:
    out = tmp_path / "scores.jsonl"
    first = fairmark("score", table, "--out", out, "--model", "tiny", url=address)
    assert first.stdout == ""
    whole = out.read_text()
    assert json.loads(whole.splitlines()[0])["result"]["model"]["name"] == "tiny"
    again = fairmark("score", table, "--out", out, "--model", "tiny", url=address)
    assert "24 of them by an earlier run" in again.stderr
    assert out.read_text() == whole
    refused = fairmark("score", table, "--out", out, "--model", "lexical", url=address)
    assert refused.returncode == 2
    assert "--overwrite" in refused.stderr
    assert out.read_text() == whole


def test_an_interrupted_run_says_where_it_stands_and_how_to_go_on(address: str, essay: str, tmp_path: Path) -> None:
    source, out = tmp_path / "class.csv", tmp_path / "scores.csv"
    with source.open("w", newline="") as file:
        csv.writer(file).writerows([["essay"], *([made_essay(n)] for n in range(3000))])
    command = [sys.executable, "-m", "fairmark", "score", source, "--prompt", "asap-1", "--out", out]
    environment = {**os.environ, "FAIRMARK_URL": address}
    with subprocess.Popen(
        command,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a suite in the background ignores it
    ) as running:
        while not out.exists() or out.read_bytes().count(b"\n") < 20:
            assert running.poll() is None
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    done = len(rows(out.read_text()))
    assert f"stopped after {done:,} essays; the same command goes on behind them" in said
    assert "Traceback" not in said


def test_every_model_is_compared(table: Path, address: str) -> None:
    found = rows(fairmark("score", table, "--compare", url=address).stdout)
    assert {"score_lexical", "score_tiny", "score_ensemble"} <= set(found[0])
    scores = [float(found[0][f"score_{name}"]) for name in ("lexical", "tiny", "ensemble")]
    assert (float(found[0]["lowest"]), float(found[0]["highest"])) == (min(scores), max(scores))
    assert found[20]["error"] == "too_short"


def test_files_folders_and_standard_input_need_their_task(address: str, essay: str, tmp_path: Path) -> None:
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "ann.txt").write_text(essay)
    (tmp_path / "class" / "bob.txt").write_text("Nothing.")
    found = rows(fairmark("score", tmp_path / "class", "--prompt", "asap-1", url=address).stdout)
    assert [(row["essay_id"], row["error"]) for row in found] == [("ann.txt", ""), ("bob.txt", "too_short")]
    piped = fairmark("score", "--prompt", "asap-1", url=address, stdin=essay)
    assert piped.returncode == 0
    assert rows(piped.stdout)[0]["score"] == found[0]["score"]
    unsaid = fairmark("score", tmp_path / "class", url=address)
    assert unsaid.returncode == 2
    assert "ellipse-overall, asap-1" in unsaid.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["score", "README.md", "--prompt", "nowhere"], 2, "known: ellipse-overall, asap-1"),
        (["score", "README.md", "--prompt", "asap-1", "--model", "gpt"], 2, "known: lexical, tiny, ensemble"),
        (["score", "nothing.txt"], 2, "no such file or folder"),
        (["score", "README.md", "--out", "nowhere/scores.csv", "--prompt", "asap-1"], 2, "No such file"),
        (["score", "README.md", "--jobs", "0"], 2, "from 1 to 64"),
        (["score", "README.md", "--model", "tiny", "--compare"], 2, "not allowed with"),
        ([], 2, "required"),
    ],
    ids=str,
)
def test_misuse_says_what_was_expected(address: str, arguments: list[str], code: int, reason: str) -> None:
    ended = fairmark(*arguments, url=address)
    assert (ended.returncode, reason in ended.stderr) == (code, True), ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_wrong_address_is_said_at_once() -> None:
    ended = fairmark("score", "README.md", url=f"http://127.0.0.1:{free_port()}")
    assert ended.returncode == 1
    assert "nobody answers at" in ended.stderr
    assert fairmark("models", url="ftp://nowhere").returncode == 1


def test_models_and_prompts_are_tables(address: str) -> None:
    models = fairmark("models", url=address).stdout.splitlines()
    assert models[0].startswith("model\tversion")
    assert any(line.startswith("ensemble (default)\t") for line in models)
    assert "2 to 12 by 1" in fairmark("prompts", url=address).stdout


def marked_table(path: Path, number: int, mark: str = "3") -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["essay_id", "essay", "score", "rater1", "rater2"])
        writer.writerows([[f"e{n}", made_essay(n), 1 + n % 5, 1 + n % 5, 1 + (n + 1) % 5] for n in range(number)])
        writer.writerow(["short", "Too short.", mark, mark, mark])
    return path


def test_a_marked_class_is_answered_and_what_got_no_score_is_named(address: str, tmp_path: Path) -> None:
    table = marked_table(tmp_path / "marked.csv", 36)
    ended = fairmark("validity", table, "--prompt", "ellipse-overall", "--model", "lexical", url=address)
    assert ended.returncode == 0, ended.stderr
    answer, _, head, *bars = ended.stdout.splitlines()
    assert answer.startswith(("No: ", "Not on this evidence: "))
    assert head.split("\t") == ["bar", "verdict", "asked", "found"]
    assert bars[0].startswith("Agrees with you\tmissed")
    assert any(bar.startswith("Agrees nearly as your raters do with each other\t") for bar in bars)
    assert "left out: short: the essay has 2 words" in ended.stderr
    whole = fairmark("validity", table, "--prompt", "ellipse-overall", "--model", "lexical", "--json", url=address)
    assert json.loads(whole.stdout)["num_essays"] == 36


def test_of_a_small_class_the_command_cannot_tell_and_marks_must_be_numbers(address: str, tmp_path: Path) -> None:
    small = marked_table(tmp_path / "small.csv", 5)
    ended = fairmark("validity", small, "--prompt", "ellipse-overall", url=address)
    assert ended.stdout.startswith("Cannot tell: 5 marked essays are too few")
    wrong = fairmark("validity", marked_table(small, 5, "good"), "--prompt", "ellipse-overall", url=address)
    assert wrong.returncode == 2
    assert "essay 'short': its score must be a number" in wrong.stderr


def test_the_help_in_the_documentation_is_the_commands() -> None:
    text = DOCUMENT.read_text("utf-8")
    whole = parser(RUNS)
    (commands,) = (each for each in whole._subparsers._group_actions if each.choices)
    for shown in (whole, *(commands.choices[name] for name in ("score", "batch", "validity", "drift"))):
        assert shown.format_help().strip() in text


@pytest.mark.slow
def test_what_pip_installs_is_a_command_without_models(tmp_path: Path, address: str) -> None:
    installed = tmp_path / "installed"
    quiet = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    source = tmp_path / "source"
    for tree in ("fairmark", "essays"):
        subprocess.run(["cp", "-r", tree, f"{source.mkdir(exist_ok=True) or source}/{tree}"], check=True)
    (source / "pyproject.toml").write_text(Path("pyproject.toml").read_text())
    subprocess.run([sys.executable, "-m", "pip", "install", *quiet, "--target", installed, source], check=True)
    assert {path.name for path in installed.iterdir() if path.suffix != ".dist-info"} == {"bin", "essays", "fairmark"}
    script = (
        "import sys; from fairmark.command import main\n"
        "try: main(['prompts'])\n"
        "finally: print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed), "FAIRMARK_URL": address}
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    assert "asap-1" in ended.stdout
    assert not {"numpy", "boto3", "torch", "tokenizers", "serving", "bentoml"} & set(ended.stderr.split())
    version = subprocess.run(
        [installed / "bin" / "fairmark", "--help"], env=environment, capture_output=True, text=True
    )
    assert version.stdout == parser(RUNS).format_help()


def test_traits_are_columns_where_the_model_scores_them(trait_desk: Desk, essay: str, tmp_path: Path) -> None:
    path = tmp_path / "essay.txt"
    path.write_text(essay)
    with page_served(trait_desk) as url:
        ended = fairmark("score", path, "--prompt", "ellipse-overall", url=url)
        without = fairmark("score", path, "--prompt", "ellipse-overall", "--model", "lexical", url=url)
        with Client(url) as service:
            answer = service.score(essay, "ellipse-overall")
    (row,), (plain,) = rows(ended.stdout), rows(without.stdout)
    assert [each.trait for each in answer.traits] == ["cohesion", "grammar"]
    for each in answer.traits:
        cells = [float(row[f"trait_{each.trait}{end}"]) for end in ("", "_low", "_high")]
        assert cells == [each.score, each.low, each.high]
    assert [name for name in plain if name.startswith("trait_")] == []
