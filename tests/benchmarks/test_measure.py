"""Contestants that are real programs: right, wrong, broken, and kept between runs."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.speed import meter
from benchmarks.speed.callers import HttpForm
from benchmarks.speed.contestants import Contestant, Launch
from benchmarks.speed.environments import OWN
from benchmarks.speed.kept import keep, read_kept
from benchmarks.speed.measure import Bench, measure
from benchmarks.speed.processes import started
from benchmarks.speed.results import Plan
from benchmarks.speed.verdict import void_reason

LOOP = (
    "from benchmarks.speed.peers import loop\n"
    "loop.serve(lambda text, prompt_id, index: len(text.split()) / 100 + {off}, 'abacus 1 cpu fp32')\n"
)
SERVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    def do_GET(self):
        self.answer({})
    def do_POST(self):
        text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"]
        self.answer({"score": len(text.split()) / 100})
    def answer(self, tree):
        body = json.dumps(tree).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
FORM = HttpForm("/score", lambda essay: {"text": essay.text}, lambda answer: answer["score"], "/ready")


def contestant(
    code: str, form: HttpForm | None = None, name: str = "ours", beside: Contestant | None = None
) -> Contestant:
    def command(launch: Launch) -> list[str]:
        return [str(launch.python), "-c", code, str(launch.port)]

    return Contestant(
        name=name, what="ours", environment=OWN, precision="fp32", command=command, form=form, beside=beside
    )


def test_a_loop_with_the_right_scores_has_figures(make_bench: Callable[..., Bench]) -> None:
    found = measure(contestant(LOOP.format(off=0.0005)), make_bench())
    assert found.void is None
    assert found.runtime == "abacus 1 cpu"
    assert found.precision == "fp32"
    assert found.max_score_gap == pytest.approx(0.0005)
    (row,) = found.closed
    assert row["num_answers"] == 40
    assert row["num_errors"] == 0
    assert 0 < row["p50_ms"] <= row["p99_ms"]
    assert 2 < row["pss_mb"] < 200
    assert found.ready_s
    assert found.first_over_usual


def test_a_server_and_its_bare_loop_score_the_same_essays_in_turn(make_bench: Callable[..., Bench]) -> None:
    busy = SERVER.replace("self.answer({", "sum(range(10**6)); self.answer({", 2)
    found = measure(contestant(busy, FORM, beside=contestant(LOOP.format(off=0), name="loop")), make_bench())
    assert found.void is None
    assert found.cpu_ms_over_loop is not None
    assert found.cpu_ms_over_loop > 5
    assert found.cpu_over_loop
    assert found.cpu_over_loop > 5
    assert len(found.closed) == 2, "rounds are no rows"


def test_a_server_is_measured_in_both_loops(make_bench: Callable[..., Bench]) -> None:
    found = measure(contestant(SERVER, FORM), make_bench())
    assert found.void is None
    assert [row["concurrency"] for row in found.closed] == [1, 4]
    assert [row["load_share"] for row in found.open] == [0.5]
    assert found.open[0]["offered_per_s"] == pytest.approx(
        0.5 * max(row["essays_per_s"] for row in found.closed), rel=1e-3
    )


def test_other_scores_make_it_void_before_any_speed_is_measured(make_bench: Callable[..., Bench]) -> None:
    found = measure(contestant(LOOP.format(off=0.0015)), make_bench())
    assert found.void
    assert "0.0015" in found.void
    assert found.max_score_gap == pytest.approx(0.0015)
    assert found.closed == []


def test_a_loop_below_fp32_is_judged_by_the_grades_of_its_scores(make_bench: Callable[..., Bench]) -> None:
    code = LOOP.format(off=0.0015).replace("fp32", "bf16")
    same = measure(contestant(code), make_bench())
    assert same.void is None
    assert same.precision == "bf16"
    assert same.same_grade_share == 1.0
    other = measure(contestant(code), replace(make_bench(), grade=lambda _, raw: 4.0 if raw > 0.5 else 3.0))
    assert other.void
    assert "grades are the same" in other.void


def test_a_score_that_is_no_number_makes_it_void(make_bench: Callable[..., Bench]) -> None:
    found = measure(contestant(LOOP.format(off="float('nan')")), make_bench())
    assert found.void
    assert found.max_score_gap == float("inf")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; sys.exit('no such library')", "ended with code 1 before it was ready: no such library"),
        ("print('hello', flush=True); import time; time.sleep(0.2)", "ended with code 0"),
        ("print('ready', flush=True)", "no answer to the first requests"),
    ],
    ids=["ends", "says something else", "answers nothing"],
)
def test_one_that_does_not_start_or_answer_is_void_with_the_reason(
    make_bench: Callable[..., Bench], code: str, reason: str
) -> None:
    found = measure(contestant(code), make_bench())
    assert found.void
    assert reason in found.void


def test_without_the_checkpoint_a_torch_peer_is_void(make_bench: Callable[..., Bench]) -> None:
    found = measure(replace(contestant(LOOP.format(off=0)), needs_weights=True), make_bench())
    assert found.void
    assert "no checkpoint" in found.void


@pytest.mark.parametrize(
    ("precision", "gap", "same_grades", "void"),
    [
        ("fp32", 0.001, None, False),
        ("fp32", 0.0011, None, True),
        ("fp32", 0.0011, 1.0, True),
        ("bf16", 0.004, 0.996, False),
        ("bf16", 0.004, 0.994, True),
        ("int8", 0.004, None, True),
        (None, 0.0011, 1.0, True),
        ("fp32", float("inf"), None, True),
    ],
)
def test_below_fp32_the_grades_decide(precision: str | None, gap: float, same_grades: float | None, void: bool) -> None:
    assert (void_reason(precision, gap, same_grades) is not None) is void


def test_what_was_measured_is_kept_for_the_same_plan_alone(make_bench: Callable[..., Bench], tmp_path: Path) -> None:
    ours, bench = contestant(LOOP.format(off=0)), make_bench()
    found = measure(ours, bench)
    keep(ours, bench, tmp_path / "kept", found)
    assert read_kept(ours, bench, tmp_path / "kept") == found
    assert read_kept(ours, make_bench(Plan(40, (1,), ())), tmp_path / "kept") is None
    assert read_kept(contestant("", name="another"), bench, tmp_path / "kept") is None
    (tmp_path / "kept" / "ours.json").write_text("{")
    assert read_kept(ours, bench, tmp_path / "kept") is None


def test_nothing_of_a_contestant_is_left_when_its_block_ends(tmp_path: Path) -> None:
    child = "import time; time.sleep(60)"
    code = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True)\n"
        "print(child.pid, flush=True); time.sleep(60)\n"
    )
    with started([sys.executable, "-c", code], {}, tmp_path / "log", pipes=True) as process:
        assert process.stdout
        grandchild = int(process.stdout.readline())
        assert meter.is_alive(grandchild)
    assert process.poll() is not None
    assert not meter.is_alive(grandchild)
