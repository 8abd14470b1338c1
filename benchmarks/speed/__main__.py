"""`python -m benchmarks.speed`: every contestant in turn, then the table, the plot and the summary."""

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.speed.bars import bars_of
from benchmarks.speed.chosen import ESSAYS_FILE, choose_essays
from benchmarks.speed.contestants import Contestant, choose, contestants
from benchmarks.speed.kept import keep, read_kept
from benchmarks.speed.machine import describe_machine
from benchmarks.speed.measure import Bench, measure
from benchmarks.speed.report import PLOT_FILE, write_report
from benchmarks.speed.results import Measured, Plan
from benchmarks.speed.subject import expect, find_subject, flop_per_essay, grader
from benchmarks.speed.summary import open_rows_of, rows_of, write_summary
from essays.console import run, say, wrote
from essays.errors import BadParams, StageFailed

FULL = Plan(num_essays=500)
QUICK = Plan(num_essays=48, concurrencies=(1, 8), load_shares=(0.8,))
FOLDER = Path("out/bench")
REPORT_FOLDER = Path("reports/bench")
SUMMARY_FILE = "summary.json"
_BUSY = 0.3


def main() -> None:
    """The command line; 0 done, 1 failed, 2 misused. A contestant that is void does not fail the run."""
    options = parse()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    run(lambda: _list(options) if options.list else bench(options))


def bench(options: argparse.Namespace) -> None:
    """Measure what was asked for and write what came of it, after each contestant anew."""
    plan = _plan(options)
    chosen = {each.name for each in choose(options.peers, options.model)}
    subject = find_subject(options.model, options.bundle, options.weights, options.folder / "model")
    essays = choose_essays(options.table, subject.manifest.prompt_ids, plan.num_essays)
    say(f"{subject.name} from {subject.bundle}; {len(essays)} essays; reference scores")
    expected = expect(subject, essays)
    prepared = Bench(subject, essays, expected, grader(subject), plan, options.folder)
    machine = {**describe_machine(), "peak_gflops_per_core": _peak()}
    say(f"{machine['cpu']}, {machine['cores']} cores; peak of one core, GFLOP/s: {machine['peak_gflops_per_core']}")
    if machine["load_average"] > _BUSY * machine["cores"]:
        say(f"warning: load average {machine['load_average']:g}: others use these cores; trust CPU times and ratios")
    kept_folder = options.folder / "kept" / f"{'quick' if options.quick else 'full'}-{plan.num_essays}"
    results: dict[str, Measured] = {}
    for contestant in contestants(options.model):
        if contestant.name in chosen:
            results[contestant.name] = _result(contestant, prepared, kept_folder, fresh=options.fresh)
        elif kept := read_kept(contestant, prepared, kept_folder):
            results[contestant.name] = kept
        write_all(options, prepared, machine, results)
    for name in (SUMMARY_FILE, "README.md", PLOT_FILE):
        wrote(options.out / name)


def write_all(
    options: argparse.Namespace, prepared: Bench, machine: dict[str, Any], results: dict[str, Measured]
) -> None:
    """Summary, page and plot of what there is so far."""
    from benchmarks.speed.plot import draw  # matplotlib takes a second, and `--help` needs none

    known = {each.name: each for each in contestants(options.model) if each.name in results}
    flop = flop_per_essay(prepared.subject, list(prepared.expected.values()))
    rows, open_loop = [], []
    for name, contestant in known.items():
        found = results[name]
        concurrencies = prepared.plan.concurrencies if contestant.form else (1,)
        rows += rows_of(found, concurrencies, arithmetic_share(found, flop, machine["peak_gflops_per_core"]))
        open_loop += open_rows_of(found)
    bars = bars_of(rows)
    tokens = [each.num_tokens for each in prepared.expected.values()]
    measured = {
        "command": f"make bench{'-quick' if options.quick else ''}",
        "model": f"{prepared.subject.name}@{prepared.subject.manifest.version}",
        "bundle_sha256": prepared.subject.digest,
        "num_essays": len(prepared.essays),
        "mean_tokens": round(sum(tokens) / len(tokens), 1),
        "gflop_per_essay": None if flop is None else round(flop / 1e9, 3),
        "git_commit": _git_commit(),
    }
    write_summary(options.out / SUMMARY_FILE, machine, rows, open_loop, bars, measured)
    write_report(options.out / "README.md", machine, rows, open_loop, bars, measured, list(known.values()))
    draw(rows, options.out / PLOT_FILE)


def arithmetic_share(found: Measured, flop: float | None, peaks: dict[str, float]) -> float | None:
    """The share of a core's peak that one essay after the other reaches, over the server's whole CPU time."""
    alone = [row["cpu_ms_per_essay"] for row in found.closed if row["concurrency"] == 1]
    peak = peaks.get(found.precision or "")
    if found.void or flop is None or peak is None or not alone or not alone[0]:
        return None
    return round(flop / (alone[0] / 1000) / (peak * 1e9), 3)


def _result(contestant: Contestant, prepared: Bench, folder: Path, *, fresh: bool) -> Measured:
    kept = None if fresh else read_kept(contestant, prepared, folder)
    if kept is not None and kept.void is None:
        say(f"{contestant.name}: measured already, at {kept.measured_at} (--fresh measures again)")
        return kept
    say(f"{contestant.name}: {contestant.what}")
    found = measure(contestant, prepared)
    if found.void:
        say(f"{contestant.name}: void: {found.void}")
    keep(contestant, prepared, folder, found)
    return found


def _plan(options: argparse.Namespace) -> Plan:
    plan = QUICK if options.quick else FULL
    number = options.essays or plan.num_essays
    if number < 1:
        raise BadParams(f"--essays: {number}; at least 1 is needed")
    return Plan(number, tuple(options.concurrency or plan.concurrencies), plan.load_shares)


def _peak() -> dict[str, float]:
    # In a process of its own: its threads and memory shall not be ours.
    ended = subprocess.run([sys.executable, "-m", "benchmarks.speed.peak"], capture_output=True, text=True)
    if ended.returncode:
        raise StageFailed(f"the CPU's peak could not be measured: {ended.stderr.strip().splitlines()[-1:]}")
    peaks: dict[str, float] = json.loads(ended.stdout)
    return peaks


def _git_commit() -> str | None:
    ended = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    return ended.stdout.strip() or None


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    # As Ctrl-C: a contestant that was left running would be measured with every later one.
    raise KeyboardInterrupt


def _list(options: argparse.Namespace) -> None:
    for each in contestants(options.model):
        print(f"{each.name:22}{each.what}")  # noqa: T201 - stdout is the answer


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for, with its defaults."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description="Fairmark's speed beside its peers, on this machine, with equal scores.",
        epilog="A run that was stopped goes on where it was. Environments are made once and need a package index.",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="few essays, concurrency 1 and 8; written to out/bench/quick")
    add("--peers", nargs="+", default=[], metavar="NAME", help="only these (see --list); others keep their last rows")
    add("--list", action="store_true", help="list the names and leave")
    add("--fresh", action="store_true", help="measure again what was measured already")
    add("--essays", type=int, metavar="N", help=f"number of essays ({FULL.num_essays}; quick {QUICK.num_essays})")
    add("--concurrency", type=int, nargs="+", metavar="N", help="askers at a time, in turn (1 8 64; quick 1 8)")
    add("--model", default="minilm", help="name of an encoder (default: %(default)s)")
    add("--bundle", type=Path, help="its bundle (default: out/bundles/MODEL, else the store's champion)")
    add("--weights", type=Path, help="the checkpoint of its graph (default: out/models/MODEL, the exported fold)")
    add("--table", type=Path, default=ESSAYS_FILE, help="essays (default: %(default)s)")
    add("--folder", type=Path, default=FOLDER, help="environments, logs, kept rows (default: %(default)s)")
    add("--out", type=Path, help=f"report folder (default: {REPORT_FOLDER}; quick {FOLDER / 'quick'})")
    options = parser.parse_args(arguments)
    options.out = options.out or (options.folder / "quick" if options.quick else REPORT_FOLDER)
    return options


if __name__ == "__main__":
    main()
