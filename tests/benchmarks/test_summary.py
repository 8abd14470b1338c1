"""`summary.json` in its promised form, void rows without figures, bars from rows."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speed.bars import Bar, bars_of
from benchmarks.speed.contestants import contestants
from benchmarks.speed.plot import draw
from benchmarks.speed.report import write_report
from benchmarks.speed.results import Measured
from benchmarks.speed.summary import MEANINGS, open_rows_of, rows_of, write_summary

PROMISED = (
    "server",
    "runtime",
    "precision",
    "concurrency",
    "essays_per_s",
    "p50_ms",
    "p99_ms",
    "cpu_ms_per_essay",
    "pss_mb",
    "ready_s",
    "max_score_gap",
)
SPEED = PROMISED[4:10]
MACHINE = {
    "cpu": "abacus",
    "cores": 2,
    "instructions": ["avx2"],
    "memory_gb": 8.0,
    "system": "Linux 6",
    "python": "3.11.7",
    "load_average": 0.1,
    "gpu": "not measured: no NVIDIA GPU on this machine",
    "peak_gflops_per_core": {"fp32": 100.0},
}
MEASURED = {"command": "make bench", "model": "minilm@0", "num_essays": 500, "mean_tokens": 400.0}


def figures(essays_per_s: float, cpu_ms: float) -> dict[str, Any]:
    return {
        "essays_per_s": essays_per_s,
        "p50_ms": 1000 / essays_per_s,
        "p99_ms": 2000 / essays_per_s,
        "cpu_ms_per_essay": cpu_ms,
        "pss_mb": 400.0,
        "num_answers": 500,
        "num_errors": 0,
        "asker_cpu_ms_per_essay": 0.4,
        "took_s": 9.0,
        "load_average": 2.0,
    }


def measured(server: str, essays_per_s: float, cpu_ms: float, concurrencies: tuple[int, ...] = (1, 8, 64)) -> Measured:
    closed = [{"concurrency": each, **figures(essays_per_s * min(each, 2), cpu_ms)} for each in concurrencies]
    share = {"load_share": 0.5, "offered_per_s": essays_per_s, **figures(essays_per_s, cpu_ms)}
    return Measured(
        server, "abacus 1", "fp32", max_score_gap=1e-6, ready_s=3.0, first_over_usual=1.2, closed=closed, open=[share]
    )


def void(server: str) -> Measured:
    found = measured(server, 1000.0, 1.0)
    found.void, found.max_score_gap = "scores differ from the fp32 reference by up to 0.2", 0.2
    return found


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """Fairmark twice as fast as one peer, another void, and a loop."""
    results = [measured("fairmark", 20.0, 50.0), measured("litserve", 8.0, 110.0), void("infinity-emb")]
    results[0].cpu_over_loop, results[0].cpu_ms_over_loop = 1.04, 2.0
    loop = measured("raw-fairmark", 21.0, 48.0, (1,))
    return [row for found in [*results, loop] for row in rows_of(found, (1, 8, 64), 0.7)]


def by_what(bars: list[Bar]) -> dict[str, Bar]:
    return {bar.what: bar for bar in bars}


def test_the_summary_has_the_promised_form(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "bench" / "summary.json"
    write_summary(path, MACHINE, rows, open_rows_of(measured("fairmark", 20.0, 50.0)), bars_of(rows), MEASURED)
    tree = json.loads(path.read_text())
    assert list(tree)[:2] == ["machine", "rows"]
    assert len(tree["rows"]) == 10
    for row in tree["rows"]:
        assert tuple(row)[: len(PROMISED)] == PROMISED
        assert set(row) - set(PROMISED) == set(MEANINGS), "every extra key is explained"
    assert tree["open_loop"][0]["load_share"] == 0.5
    assert list(tmp_path.rglob("*.part")) == []


def test_a_void_row_names_its_gap_and_has_no_figure_of_speed() -> None:
    rows = rows_of(void("infinity-emb"), (1, 8))
    assert [row["concurrency"] for row in rows] == [1, 8]
    for row in rows:
        assert {row[key] for key in SPEED} == {None}
        assert row["max_score_gap"] == 0.2
        assert "0.2" in row["void"]
    assert open_rows_of(void("infinity-emb")) == []


def test_a_gap_without_a_number_is_still_json(tmp_path: Path) -> None:
    found = void("infinity-emb")
    found.max_score_gap = float("inf")
    write_summary(tmp_path / "s.json", MACHINE, rows_of(found, (1,)), [], [], MEASURED)
    assert json.loads((tmp_path / "s.json").read_text())["rows"][0]["max_score_gap"] is None


def test_bars_compare_what_counts(rows: list[dict[str, Any]]) -> None:
    bars = by_what(bars_of(rows))
    litserve = bars["essays/s at 8 / litserve"]
    assert (litserve.found, litserve.bound, litserve.met) == (pytest.approx(2.5), 2.0, True)
    own = bars["CPU ms per essay / raw loop of the same runtime"]
    assert (own.found, own.met) == (1.04, True)
    assert bars["server's own CPU ms per request"].found == pytest.approx(2.0)
    assert bars["p99 / p50 at concurrency 8"].met is True


def test_a_bar_misses(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        row["first_over_usual"] = 1.6
    assert by_what(bars_of(rows))["first request / its usual time"].met is False


def test_against_a_void_or_a_missing_peer_nothing_is_measured(rows: list[dict[str, Any]]) -> None:
    bars = by_what(bars_of(rows))
    assert bars["essays/s at 8 / infinity-emb"].met is None
    assert bars["p50 at concurrency 1 / fastapi-pytorch-512"].met is None
    assert {bar.met for bar in bars_of([])} == {None}


def test_the_page_says_what_is_void_and_what_was_not_measured(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    open_loop = open_rows_of(measured("fairmark", 20.0, 50.0))
    write_report(path, MACHINE, rows, open_loop, bars_of(rows), MEASURED, contestants("minilm"))
    text = path.read_text()
    assert "`infinity-emb` is void: scores differ" in text
    assert "GPU: not measured: no NVIDIA GPU on this machine." in text
    assert "| litserve | abacus 1 fp32 | 8 | 16.0 | 0.40 |" in text
    assert "| essays/s at 8 / infinity-emb | ≥ 1.8 | – | not measured |" in text


def test_the_plot_is_the_same_for_the_same_numbers(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        draw(rows, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "litserve" in (tmp_path / "a.svg").read_text()


def test_a_plot_of_nothing_is_drawn(tmp_path: Path) -> None:
    draw([], tmp_path / "none.svg")
    assert (tmp_path / "none.svg").exists()
