"""The table for readers: `README.md` beside `summary.json`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed.bars import FAIRMARK, Bar
from benchmarks.speed.contestants import Contestant
from benchmarks.speed.environments import OWN
from benchmarks.speed.machine import NOT_MEASURED
from benchmarks.speed.summary import MEANINGS, Row

PLOT_FILE = "speed.svg"
METHOD = """\
Every server gets the same essays, drawn by a hash of their ids, of natural lengths and in normal form. First each of
them is scored: a server whose scores are more than 0.001 from the fp32 graph in ONNX Runtime, one essay at a time, is
void and has no figures. (A precision below fp32 may differ by more, as long as 99.5 % of the grades stay; its gap is in
the table, and `fairmark-onnxruntime` runs the same service at the bundle's own precision.) Then a closed loop: so many
askers, each of whom waits for an answer before asking again. Then an open loop with independent arrivals at a share of
the most that any closed loop got; there an answer's time counts from when it was due. CPU time and memory are those of
the server's whole process tree, from /proc; memory is PSS after the loop. Ready is the time from starting the program
to its first 200, with everything on this disk and mostly in the page cache. Fairmark runs as in production, from
bundles in a store, but without its cache (`fairmark-all` has it, and is asked with `no-store`): every score is
computed. Bare loops have no server: a line on a pipe for each essay, on one thread. PyTorch attends as `transformers`
does by default (fused, not spelt out). Askers share the machine's cores with the server."""


def write_report(
    path: Path,
    machine: Mapping[str, Any],
    rows: Sequence[Row],
    open_loop: Sequence[Row],
    bars: Sequence[Bar],
    measured: Mapping[str, Any],
    contestants: Sequence[Contestant],
) -> None:
    """Replace the page."""
    parts = [
        "# Speed",
        f"Written by `{measured['command']}`; the numbers are in `summary.json`. {_machine(machine)}",
        f"{measured['num_essays']} essays of {measured['mean_tokens']:.0f} tokens on average: {measured['model']}.",
        f"![Essays a second, latency and CPU time of each server]({PLOT_FILE})",
        "## Closed loop",
        _table(_CLOSED, rows, _reference(rows)),
        "Ratios are essays/s over Fairmark's at the same concurrency: below 1 is slower than Fairmark.",
        *_void_lines(rows),
        "## Open loop",
        _table(_OPEN, open_loop, {}) if open_loop else "Not measured.",
        "## Bars",
        _bars(bars),
        _gpu(machine["gpu"]),
        "## Servers",
        "\n".join(f"- `{each.name}`: {each.what}. {_environment(each)}" for each in contestants),
        "## Method",
        METHOD,
        "Extra keys of a row in `summary.json`:",
        "\n".join(f"- `{key}`: {meaning}." for key, meaning in MEANINGS.items()),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(parts) + "\n", "utf-8")


_CLOSED = {
    "server": lambda row, _: row["server"],
    "runtime": lambda row, _: f"{row['runtime'] or '?'} {row['precision'] or ''}".strip(),
    "askers": lambda row, _: str(row["concurrency"]),
    "essays/s": lambda row, _: _number(row["essays_per_s"], 1),
    "ratio": lambda row, reference: _number(_over(row, reference), 2),
    "p50 ms": lambda row, _: _number(row["p50_ms"], 1),
    "p99 ms": lambda row, _: _number(row["p99_ms"], 1),
    "CPU ms": lambda row, _: _number(row["cpu_ms_per_essay"], 1),
    "of peak": lambda row, _: _percent(row["arithmetic_share"]),
    "PSS MB": lambda row, _: _number(row["pss_mb"], 0),
    "ready s": lambda row, _: _number(row["ready_s"], 1),
    "score gap": lambda row, _: "–" if row["max_score_gap"] is None else f"{row['max_score_gap']:.0e}",
    "errors": lambda row, _: "void" if row["void"] else str(row["num_errors"]),
    "load": lambda row, _: _number(row["load_average"], 1),
}
_OPEN = {
    "server": lambda row, _: row["server"],
    "load": lambda row, _: _percent(row["load_share"]),
    "offered/s": lambda row, _: _number(row["offered_per_s"], 1),
    "essays/s": lambda row, _: _number(row["essays_per_s"], 1),
    "p50 ms": lambda row, _: _number(row["p50_ms"], 1),
    "p99 ms": lambda row, _: _number(row["p99_ms"], 1),
    "CPU ms": lambda row, _: _number(row["cpu_ms_per_essay"], 1),
    "errors": lambda row, _: str(row["num_errors"]),
}


def _machine(machine: Mapping[str, Any]) -> str:
    peak = ", ".join(f"{precision} {value:g}" for precision, value in machine["peak_gflops_per_core"].items())
    return (
        f"Measured on {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']:g} GB"
        f" ({', '.join(machine['instructions']) or 'no vector extensions named'}), {machine['system']}, Python"
        f" {machine['python']}, load average {machine['load_average']:g} before. Peak of one core, measured in the same"
        f" run, GFLOP per CPU second: {peak or 'unknown'}."
    )


def _gpu(gpu: str) -> str:
    if gpu == NOT_MEASURED:
        return f"GPU: {NOT_MEASURED}."
    return f"GPU: {gpu}; rows whose runtime names cuda or tensorrt ran on it, and no others."


def _table(columns: Mapping[str, Any], rows: Sequence[Row], reference: Mapping[int, Row]) -> str:
    lines = [list(columns), ["---"] * len(columns)]
    lines += [[cell(row, reference) for cell in columns.values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _bars(bars: Sequence[Bar]) -> str:
    words = {True: "met", False: "**missed**", None: "not measured"}
    lines = ["| what | bound | found | |", "| --- | --- | --- | --- |"]
    for bar in bars:
        sign = "≤" if bar.at_most else "≥"
        lines.append(f"| {bar.what} | {sign} {bar.bound:.3g} | {_number(bar.found, 3)} | {words[bar.met]} |")
    return "\n".join(lines)


def _void_lines(rows: Sequence[Row]) -> list[str]:
    reasons = {row["server"]: row["void"] for row in rows if row["void"]}
    return ["\n".join(f"- `{server}` is void: {reason}" for server, reason in reasons.items())] if reasons else []


def _environment(contestant: Contestant) -> str:
    if contestant.environment == OWN:
        return "In this project's environment."
    return f"In an environment made from `benchmarks/speed/peers/{contestant.environment}.txt`."


def _reference(rows: Sequence[Row]) -> dict[int, Row]:
    return {row["concurrency"]: row for row in rows if row["server"] == FAIRMARK and row["void"] is None}


def _over(row: Row, reference: Mapping[int, Row]) -> float | None:
    own = reference.get(row["concurrency"])
    return row["essays_per_s"] / own["essays_per_s"] if own and own["essays_per_s"] and row["essays_per_s"] else None


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
