"""Programs that a command starts, awaits and must not leave behind: each in a process group of its own, stopped whole.

A terminal's Ctrl-C reaches only the foreground group, so a child hears of it from us, in the order that we choose.
"""

import fcntl
import http.client
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil

from essays.console import human_time, say
from essays.errors import FairmarkError
from essays.ports import describe

PATIENCE_S = 15.0
"""How long a program may take to end by itself once asked."""


class UpFailed(FairmarkError):
    """A step of `make up` failed."""


@contextmanager
def running(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    stop_signal: signal.Signals = signal.SIGTERM,
    output: int | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """The program while the block lasts; afterwards nothing of it is alive. `output` goes to Popen's stdout, stderr."""
    process = subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        stop(process, stop_signal)
        if process.stdout:
            process.stdout.close()


def stop(process: subprocess.Popen[bytes], stop_signal: signal.Signals = signal.SIGTERM) -> None:
    """Ask a program to end, wait, then end whatever is left of its group and its descendants."""
    descendants = _descendants(process.pid)
    if process.poll() is None:
        # An interrupt is for the whole group, as from a terminal; a request to end is for the program in charge of it.
        with suppress(ProcessLookupError):
            (os.killpg if stop_signal == signal.SIGINT else os.kill)(process.pid, stop_signal)
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for descendant in descendants:
        with suppress(psutil.NoSuchProcess):
            descendant.kill()


def relay(command: Sequence[str], environment: Mapping[str, str], into: IO[bytes], line: Callable[[str], None]) -> int:
    """Run a program, pass its output on as it comes, hand each full line to `line`; its exit code."""
    with running(command, environment, stop_signal=signal.SIGINT, output=subprocess.PIPE) as process:
        assert process.stdout is not None
        for raw in process.stdout:
            into.write(raw)
            into.flush()
            line(raw.decode("utf-8", "replace").rstrip())
        return process.wait()


def wait_until_answers(
    name: str, url: str, ended: Callable[[], int | None], *, timeout_s: float, last_words: str
) -> None:
    """Return when a program's health check answers 200, saying every five seconds that it does not yet.

    `ended` gives its exit code once it has one, `last_words` tells where they stand. Raises UpFailed.
    """
    started = said = time.monotonic()
    while not answers(url, timeout_s=2):
        if (code := ended()) is not None:
            raise UpFailed(f"{name} ended with code {code} before it was ready; {last_words}")
        now = time.monotonic()
        if now - started > timeout_s:
            raise UpFailed(f"{name} is not ready at {url} after {human_time(timeout_s)}; {last_words}")
        if now - said >= 5:
            said = now
            say(f"{name}: not ready yet, {human_time(now - started)}")
        time.sleep(0.1)


def answers(url: str, timeout_s: float) -> bool:
    """Whether this address of ours answers 200 within this time."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:  # noqa: S310 - our own address
            return bool(answer.status == http.HTTPStatus.OK)
    except (OSError, http.client.HTTPException):
        return False


def left_behind(word: str, folder: Path) -> list[int]:
    """Processes that run in this folder and have the word in their command line; not we ourselves."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.cwd() == str(folder) and word in " ".join(process.cmdline()) and process.pid != os.getpid():
                found.append(process.pid)
    return found


def end(pid: int) -> None:
    """Ask a process that is not our child to end; kill it when it does not."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except psutil.TimeoutExpired:
            process.kill()


@contextmanager
def only_one(lock_file: Path) -> Iterator[None]:
    """Hold this lock while the block lasts. Raises UpFailed naming the process that holds it."""
    with lock_file.open("a+") as lock:
        lock.seek(0)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = lock.read().strip()
            who = describe(int(holder)) if holder else "another process"
            raise UpFailed(f"{who} does this already; stop it first") from None
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
