"""`summary.json`: the machine, a row for each server and concurrency, and what follows from them.

`machine` and `rows` are what other programs read. A row has `server`, `runtime`, `precision`, `concurrency`,
`essays_per_s`, `p50_ms`, `p99_ms`, `cpu_ms_per_essay`, `pss_mb`, `ready_s` and `max_score_gap`; of a void one only
the names and the gap are numbers, and `void` says why. Extra keys of a row: `MEANINGS`; beside the rows stand
`open_loop` (rows by `load_share` in place of `concurrency`), `bars`, and `measured` (model, essays, plan).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed.bars import Bar
from benchmarks.speed.results import Measured

Row = dict[str, Any]

SPEED_KEYS = ("essays_per_s", "p50_ms", "p99_ms", "cpu_ms_per_essay", "pss_mb")
EXTRA_KEYS = ("num_answers", "num_errors", "asker_cpu_ms_per_essay", "took_s", "load_average")
START_KEYS = ("first_start_s", "first_ms", "first_over_usual", "pss_ready_mb", "same_grade_share", "measured_at")
LOOP_KEYS = ("cpu_over_loop", "cpu_ms_over_loop")
MEANINGS = {
    "void": "why the row's speed does not count; null when it does",
    "arithmetic_share": "share of one core's peak for the precision that the essays' matrix products make up, of the"
    " server's CPU time; null where the peak or the model's shape is not known",
    "num_answers": "essays that got a score in this loop",
    "num_errors": "essays that got something else; they count in no latency and no rate",
    "asker_cpu_ms_per_essay": "CPU time of the load generator, which shares the cores",
    "took_s": "length of the loop",
    "load_average": "of the last minute, after the loop: what else ran counts here too",
    "first_start_s": "of Fairmark: start to the first 200 with nothing fetched or compiled yet",
    "first_ms": "the first request's time after the first 200, an essay of median length",
    "first_over_usual": "that time over the median of seven more requests with the same essay",
    "pss_ready_mb": "memory after the score check, before load",
    "cpu_over_loop": "CPU time per essay over the bare loop's where both scored the same essays in turn, one at a time;"
    " the median of rounds of 25",
    "cpu_ms_over_loop": "the difference of the two, likewise",
    "same_grade_share": "essays with the reference's grade",
    "measured_at": "when this server was measured (UTC)",
}


def rows_of(found: Measured, concurrencies: Sequence[int], arithmetic_share: float | None = None) -> list[Row]:
    """A row for each concurrency; of a void contestant without any figure of speed."""
    if found.void is not None:
        return [_row(found, {"concurrency": each}, None) for each in concurrencies]
    return [_row(found, part, arithmetic_share) for part in found.closed]


def open_rows_of(found: Measured) -> list[Row]:
    """A row for each load; none of a void contestant."""
    names = {"server": found.server, "runtime": found.runtime, "precision": found.precision}
    return [] if found.void is not None else [{**names, **part} for part in found.open]


def write_summary(
    path: Path,
    machine: Mapping[str, Any],
    rows: Sequence[Row],
    open_loop: Sequence[Row],
    bars: Sequence[Bar],
    measured: Mapping[str, Any],
) -> None:
    """Replace the file in one step."""
    tree = {
        "machine": dict(machine),
        "rows": list(rows),
        "open_loop": list(open_loop),
        "bars": [bar.as_tree() for bar in bars],
        "measured": dict(measured),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_suffix(".part")
    staging.write_text(json.dumps(tree, indent=1, allow_nan=False) + "\n", "utf-8")
    staging.replace(path)


def _row(found: Measured, part: Mapping[str, Any], arithmetic_share: float | None) -> Row:
    counts = found.void is None
    return {
        "server": found.server,
        "runtime": found.runtime,
        "precision": found.precision,
        "concurrency": part["concurrency"],
        **{key: part[key] if counts else None for key in SPEED_KEYS},
        "ready_s": found.ready_s if counts else None,
        "max_score_gap": _finite(found.max_score_gap),
        "void": found.void,
        "arithmetic_share": arithmetic_share,
        **{key: part[key] if counts else None for key in EXTRA_KEYS},
        **{key: getattr(found, key) for key in (*START_KEYS, *LOOP_KEYS)},
    }


def _finite(gap: float | None) -> float | None:
    # JSON has no infinity: a score that is no number is void, and says so.
    return None if gap is None or gap == float("inf") else gap
