"""One contestant from start to stop: ready, first answer, scores, loops, memory."""

import asyncio
import math
import os
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.speed import meter
from benchmarks.speed.callers import http_asker, pipe_asker
from benchmarks.speed.chosen import ChosenEssay, middling
from benchmarks.speed.contestants import Contestant, Launch
from benchmarks.speed.environments import python_of
from benchmarks.speed.load import Ask, Outcome, Unanswered, closed_loop, open_loop
from benchmarks.speed.processes import free_port, started, wait_for_200, wait_for_line
from benchmarks.speed.published import service_variables
from benchmarks.speed.results import Measured, Plan
from benchmarks.speed.subject import Expected, Subject
from benchmarks.speed.verdict import judge
from essays.console import human_time, say
from essays.errors import FairmarkError, StageFailed

READY_TIMEOUT_S = 600.0
_REPEATS = 7
_ROUND = 25
"""Essays that a server scores before it is the bare loop's turn."""
_TICK_MS = 1000 / meter.TICKS_PER_S / _ROUND
"""An essay's part of the step in which the kernel counts processor time."""


@dataclass(frozen=True)
class Bench:
    """What all contestants are measured with."""

    subject: Subject
    essays: Sequence[ChosenEssay]
    expected: Mapping[str, Expected]
    grade: Callable[[str, float], float]
    """From prompt id and raw unit score, by the model's calibration."""
    plan: Plan
    folder: Path
    """For environments, logs and what contestants keep."""


def measure(contestant: Contestant, bench: Bench) -> Measured:
    """All of it. A contestant that cannot be made, started or asked is void, with the reason."""
    found = Measured(contestant.name, precision=contestant.precision)
    found.load_average_before = meter.load_average()
    found.measured_at = datetime.now(UTC).isoformat(timespec="seconds")
    since = time.monotonic()
    try:
        asyncio.run(_measure(contestant, bench, found))
    except FairmarkError as error:
        found.void = str(error)
    found.took_s = round(time.monotonic() - since, 1)
    return found


async def _measure(contestant: Contestant, bench: Bench, found: Measured) -> None:
    if contestant.needs_weights and not (bench.subject.weights / "model.safetensors").exists():
        raise StageFailed(f"{bench.subject.weights}: no checkpoint for torch peers; train it, or name one (--weights)")
    launch = _launch(contestant, bench)
    variables = contestant.environment_for(launch, _outer())
    if contestant.is_service:
        variables |= service_variables(bench.subject, launch.folder, every_model=contestant.serves == "all")
        found.first_start_s = await _first_start(contestant, launch, variables)
    found.runtime = _runtime_of(contestant, launch.python)
    grades: dict[str, float] = {}

    def record(essay_id: str, answer: Any) -> None:
        if contestant.is_service:
            grades[essay_id] = answer["score"]
            _note_runtime(found, answer["model"]["runtime"])

    with _running(contestant, launch, variables, found) as process:
        async with _asker(contestant, launch, process, record) as ask:
            await _first_answers(ask, bench, found)
            await _check(contestant, bench, ask, process.pid, grades, found)
            if found.void is None:
                await _loops(contestant, bench, ask, process.pid, grades, found)
                if contestant.beside is not None:
                    await _beside(contestant.beside, bench, ask, process.pid, found)


def _launch(contestant: Contestant, bench: Bench) -> Launch:
    folder = bench.folder / "peers" / contestant.name
    folder.mkdir(parents=True, exist_ok=True)
    python = python_of(contestant.environment, bench.folder / "environments")
    return Launch(python, free_port(), folder, bench.subject)


async def _first_start(contestant: Contestant, launch: Launch, variables: Mapping[str, str]) -> float:
    """Seconds to the first 200 with nothing fetched or compiled; what follows finds both."""
    say(f"{contestant.name}: first start, with nothing on this disk yet")
    scratch = Measured(contestant.name)
    with _running(contestant, replace(launch, port=free_port()), variables, scratch):
        assert scratch.ready_s is not None
        return scratch.ready_s


@contextmanager
def _running(
    contestant: Contestant, launch: Launch, variables: Mapping[str, str], found: Measured
) -> Iterator[subprocess.Popen[bytes]]:
    """The contestant, ready; how long that took is noted."""
    log = launch.folder / "log"
    log.write_bytes(b"")
    since = time.perf_counter()
    with started(contestant.command(launch), variables, log, pipes=contestant.form is None) as process:
        if contestant.form is not None:
            url = f"http://127.0.0.1:{launch.port}{contestant.form.ready}"
            wait_for_200(url, process, log, READY_TIMEOUT_S)
        elif runtime := wait_for_line(process, log):
            _note_runtime(found, runtime)
        found.ready_s = round(time.perf_counter() - since, 2)
        say(f"{contestant.name}: ready after {found.ready_s:.1f} s")
        yield process


@asynccontextmanager
async def _asker(
    contestant: Contestant, launch: Launch, process: subprocess.Popen[bytes], record: Any
) -> AsyncIterator[Ask]:
    if contestant.form is None:
        async with pipe_asker(process) as ask:
            yield ask
    else:
        async with http_asker(f"http://127.0.0.1:{launch.port}", contestant.form, record=record) as ask:
            yield ask


async def _first_answers(ask: Ask, bench: Bench, found: Measured) -> None:
    """The very first request, then the same essay again: whatever was put off until then shows."""
    essay, times = middling(bench.essays), []
    for _ in range(1 + _REPEATS):
        since = time.perf_counter()
        try:
            await ask(essay)
        except Unanswered as error:
            raise StageFailed(f"no answer to the first requests: {error}") from error
        times.append((time.perf_counter() - since) * 1000)
    first, *others = times
    found.first_ms = round(first, 2)
    found.first_over_usual = round(first / statistics.median(others), 3)


async def _check(
    contestant: Contestant, bench: Bench, ask: Ask, pid: int, grades: dict[str, float], found: Measured
) -> None:
    """Every score before any speed."""
    outcome = await closed_loop(ask, bench.essays, 1)
    if outcome.errors:
        raise StageFailed(f"{len(outcome.errors)} of {len(bench.essays)} essays got no score: {outcome.errors[0]}")
    _judge(contestant, bench, outcome, grades, found)
    found.pss_ready_mb = round(meter.pss_mb(pid), 1)
    say(
        f"{contestant.name}: largest score gap {found.max_score_gap:.1e}{f'; void: {found.void}' if found.void else ''}"
    )


async def _loops(
    contestant: Contestant, bench: Bench, ask: Ask, pid: int, grades: dict[str, float], found: Measured
) -> None:
    for concurrency in bench.plan.concurrencies if contestant.form else (1,):
        part = await _metered(partial(closed_loop, ask, bench.essays, concurrency), pid)
        _judge(contestant, bench, part.outcome, grades, found)
        found.closed.append({"concurrency": concurrency, **part.figures})
        say(f"{contestant.name}: concurrency {concurrency}  {_in_words(part.figures)}")
    capacity = max(row["essays_per_s"] for row in found.closed)
    for share in bench.plan.load_shares if contestant.form and capacity else ():
        rate = share * capacity
        part = await _metered(partial(open_loop, ask, bench.essays, rate), pid)
        _judge(contestant, bench, part.outcome, grades, found)
        found.open.append({"load_share": share, "offered_per_s": round(rate, 3), **part.figures})
        say(f"{contestant.name}: {share:.0%} of capacity  {_in_words(part.figures)}")


async def _beside(loop: Contestant, bench: Bench, ask: Ask, pid: int, found: Measured) -> None:
    """The same essays through the server and a bare loop in turn: where the machine is slower, it is so for both."""
    launch, rounds = _launch(loop, bench), []
    with _running(loop, launch, loop.environment_for(launch, _outer()), Measured(loop.name)) as process:
        async with _asker(loop, launch, process, None) as ask_loop:
            await closed_loop(ask_loop, bench.essays[:_ROUND], 1)
            for start in range(0, len(bench.essays), _ROUND):
                essays, times = bench.essays[start : start + _ROUND], []
                for each, its_pid in ((ask, pid), (ask_loop, process.pid)):
                    part = await _metered(partial(closed_loop, each, essays, 1), its_pid)
                    times.append(part.figures["cpu_ms_per_essay"])
                rounds.append(times)
    found.cpu_over_loop = round(statistics.median(own / max(bare, _TICK_MS) for own, bare in rounds), 3)
    found.cpu_ms_over_loop = round(statistics.median(own - bare for own, bare in rounds), 3)
    say(
        f"{found.server}: {found.cpu_over_loop:.3f} times the bare loop's CPU time, and {found.cpu_ms_over_loop:.1f} ms"
    )


@dataclass(frozen=True)
class _Part:
    outcome: Outcome
    figures: dict[str, Any]


async def _metered(loop: Callable[[], Awaitable[Outcome]], pid: int) -> _Part:
    """A loop, with what the server took for it and what we did."""
    cpu_before, own_before = meter.cpu_s(pid), time.process_time()
    outcome = await loop()
    cpu_s, own_s = meter.cpu_s(pid) - cpu_before, time.process_time() - own_before
    answered = len(outcome.latencies_s)
    figures = {
        "essays_per_s": round(outcome.essays_per_s, 3),
        "p50_ms": _rounded(outcome.percentile_ms(0.5)),
        "p99_ms": _rounded(outcome.percentile_ms(0.99)),
        "cpu_ms_per_essay": _rounded(cpu_s * 1000 / answered) if answered else None,
        "pss_mb": round(meter.pss_mb(pid), 1),
        "num_answers": answered,
        "num_errors": len(outcome.errors),
        "asker_cpu_ms_per_essay": _rounded(own_s * 1000 / answered) if answered else None,
        "took_s": round(outcome.took_s, 2),
        "load_average": round(meter.load_average(), 2),
    }
    return _Part(outcome, figures)


def _judge(contestant: Contestant, bench: Bench, outcome: Outcome, grades: dict[str, float], found: Measured) -> None:
    """As `verdict.judge`; who answers a raw score gets the grade that calibration makes of it."""
    if contestant.answers == "raw":
        prompts = {essay.essay_id: essay.prompt_id for essay in bench.essays}
        scores = [(essay_id, score) for essay_id, score in outcome.scores if math.isfinite(score)]
        grades.update({essay_id: bench.grade(prompts[essay_id], score) for essay_id, score in scores})
    judge(contestant, bench.expected, outcome, grades, found)


def _note_runtime(found: Measured, runtime: str) -> None:
    # `openvino 2026.4.1 cpu fp32`: the precision stands last.
    found.runtime, _, found.precision = runtime.rpartition(" ")


def _runtime_of(contestant: Contestant, python: Path) -> str | None:
    """Versions of what it runs on, asked of its own environment."""
    if not contestant.packages:
        return None
    names = ", ".join(repr(name) for name in contestant.packages)
    code = f"from importlib.metadata import version; print(' + '.join(f'{{n}} {{version(n)}}' for n in [{names}]))"
    ended = subprocess.run([str(python), "-c", code], capture_output=True, text=True)
    return ended.stdout.strip() or None


def _outer() -> dict[str, str]:
    """Our own environment without settings of this project: a contestant gets those that belong to it."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("FAIRMARK_", "AWS_"))}


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 3)


def _in_words(figures: Mapping[str, Any]) -> str:
    errors = f"  {figures['num_errors']} errors" if figures["num_errors"] else ""
    return (
        f"{figures['essays_per_s']:.1f} essays/s  p50 {figures['p50_ms']} ms  p99 {figures['p99_ms']} ms"
        f"  {figures['cpu_ms_per_essay']} CPU ms{errors}  {human_time(figures['took_s'])}"
    )
