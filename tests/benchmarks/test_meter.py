"""CPU time and memory of real processes, children included."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.speed import meter

BURN = "import time\nwhile time.process_time() < {seconds}: pass\n"
PARENT = (
    "import subprocess, sys\n"
    "child = subprocess.Popen([sys.executable, '-c', {code!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
    "print(child.stdout.readline().decode().strip(), flush=True)\n"
    "sys.stdin.readline()\n"
    "child.stdin.close(); child.wait()\n"
    "print('waited', flush=True)\n"
    "sys.stdin.readline()\n"
)
WAIT = "import sys\nprint('done', flush=True)\nsys.stdin.readline()\n"


@contextmanager
def parent_of(code: str) -> Iterator[subprocess.Popen[str]]:
    """A process that did nothing itself, when its child has done what the code says."""
    command = [sys.executable, "-c", PARENT.format(code=code)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline().strip() == "done"
        try:
            yield process
        finally:
            process.kill()


def test_cpu_time_of_a_child_counts_while_it_lives_and_after_it_was_waited_for() -> None:
    with parent_of(BURN.format(seconds=0.4) + WAIT) as process:
        assert len(meter.process_tree(process.pid)) == 2
        alive = meter.cpu_s(process.pid)
        assert 0.38 <= alive <= 1.5
        assert process.stdin
        assert process.stdout
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline().strip() == "waited"
        assert meter.process_tree(process.pid) == [process.pid]
        assert meter.cpu_s(process.pid) >= alive - 0.02


def test_waiting_takes_no_cpu_time() -> None:
    with parent_of(WAIT) as process:
        before = meter.cpu_s(process.pid)
        time.sleep(0.3)
        assert meter.cpu_s(process.pid) - before <= 0.03


def test_memory_of_a_child_counts() -> None:
    with parent_of(WAIT) as small, parent_of("held = bytearray(80_000_000)\n" + WAIT) as large:
        more = meter.pss_mb(large.pid) - meter.pss_mb(small.pid)
    assert more == pytest.approx(80, abs=8)


def test_shared_pages_count_once() -> None:
    # The child is a copy of its parent, which wrote the pages: each has them mapped, memory holds them once.
    code = (
        "import os, sys\n"
        "held = bytearray(80_000_000)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    sys.stdin.readline(); os._exit(0)\n" + WAIT
    )
    with parent_of(code) as process:
        assert len(meter.process_tree(process.pid)) == 3
        assert 80 <= meter.pss_mb(process.pid) <= 140


def test_a_process_that_is_gone_takes_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert meter.pss_mb(process.pid) == 0
    assert meter.cpu_s(process.pid) == 0
