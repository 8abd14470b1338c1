"""Peers as programs: started in a session of their own, and gone with all their children when the block ends."""

import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.speed.meter import is_alive, process_tree
from deploy.processes import stop
from essays.errors import StageFailed

_PATIENCE_S = 15.0
_ASK_AGAIN_S = 0.02


def free_port() -> int:
    """A TCP port that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def started(
    command: Sequence[str], environment: Mapping[str, str], log: Path, *, pipes: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """The program while the block lasts. What it prints goes to `log`; with `pipes`, its stdout to us instead."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipes else out,
            stderr=out,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            _end(process)


def wait_for_200(url: str, process: subprocess.Popen[bytes], log: Path, timeout_s: float) -> None:
    """Return once the address answers 200. Raises StageFailed with the log's last line."""
    deadline = time.monotonic() + timeout_s
    while not _answers(url):
        _require_alive(process, log)
        if time.monotonic() > deadline:
            raise StageFailed(f"no 200 from {url} within {timeout_s:g} s; see {log}")
        time.sleep(_ASK_AGAIN_S)


def wait_for_line(process: subprocess.Popen[bytes], log: Path) -> str:
    """Return once a loop has said `ready` on its stdout, with what else it said. Raises StageFailed with its log."""
    assert process.stdout is not None
    word, _, rest = process.stdout.readline().decode("utf-8", "replace").strip().partition(" ")
    if word != "ready":
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE_S)
        _require_alive(process, log)
        raise StageFailed(f"said {word!r:.80} in place of `ready`; see {log}")
    return rest


def last_words(log: Path) -> str:
    """The last line of a log that says something."""
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


def _require_alive(process: subprocess.Popen[bytes], log: Path) -> None:
    if process.poll() is not None:
        raise StageFailed(f"ended with code {process.returncode} before it was ready: {last_words(log)}")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own http address
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError, ValueError):
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    tree = process_tree(process.pid) if process.poll() is None else []
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with suppress(OSError):
                pipe.close()
    stop(process)
    # The next contestant shall find their memory free.
    deadline = time.monotonic() + _PATIENCE_S
    while any(map(is_alive, tree)) and time.monotonic() < deadline:
        time.sleep(_ASK_AGAIN_S)
