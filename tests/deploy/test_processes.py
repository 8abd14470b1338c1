"""Programs are stopped as a whole, and what holds a port or a lock is named."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from deploy.processes import UpFailed, end, left_behind, only_one, relay, running, wait_until_answers
from essays.ports import owner_of_port
from tests.serving.processes import free_port

# A parent with a child in the same group, a grandchild in a session of its own, as BentoML's workers are.
FAMILY = """
import subprocess, sys, time
code = "import time; time.sleep(60)"
command = [sys.executable, "-c", code]
children = [subprocess.Popen(command), subprocess.Popen(command, start_new_session=True)]
print(*(child.pid for child in children), flush=True)
time.sleep(60)
"""


def test_stopping_a_program_stops_its_children_in_other_sessions_too() -> None:
    with running([sys.executable, "-c", FAMILY], os.environ, output=-1) as process:
        assert process.stdout is not None
        children = [int(pid) for pid in process.stdout.readline().split()]
        assert all(map(psutil.pid_exists, children))
    deadline = time.monotonic() + 5
    while any(map(_alive, children)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(_alive, children))


def test_a_program_that_ignores_the_request_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.processes.PATIENCE_S", 0.2)
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"
    )
    with running([sys.executable, "-c", stubborn], os.environ, output=-1) as process:
        assert process.stdout is not None
        process.stdout.readline()
    assert process.returncode == -signal.SIGKILL


def test_relay_passes_output_on_and_returns_the_exit_code(tmp_path: Path) -> None:
    lines: list[str] = []
    script = "import sys; print('one'); print('two', file=sys.stderr); sys.exit(3)"
    with (tmp_path / "out").open("wb") as into:
        assert relay([sys.executable, "-u", "-c", script], os.environ, into, lines.append) == 3
    assert lines == ["one", "two"]
    assert (tmp_path / "out").read_text() == "one\ntwo\n"


def test_who_ends_or_is_silent_before_it_answers_is_named_with_where_to_look() -> None:
    silent = f"http://127.0.0.1:{free_port()}/health"
    over = pytest.raises(UpFailed, match=r"^store ended with code 7 before it was ready; see store\.log$")
    with over, running([sys.executable, "-c", "raise SystemExit(7)"], os.environ) as process:
        wait_until_answers("store", silent, process.poll, timeout_s=30, last_words="see store.log")
    with pytest.raises(UpFailed, match=rf"^store is not ready at {re.escape(silent)} after .*; see store\.log$"):
        wait_until_answers("store", silent, lambda: None, timeout_s=0.01, last_words="see store.log")


def test_the_owner_of_a_port_is_named() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert f"process {os.getpid()}" in str(owner_of_port(port))
    assert owner_of_port(port) is None


def test_a_second_holder_of_the_lock_is_told_who_has_it(tmp_path: Path) -> None:
    lock = tmp_path / "up.lock"
    with only_one(lock), pytest.raises(UpFailed, match=f"process {os.getpid()} "), only_one(lock):
        pytest.fail("held twice")
    with only_one(lock):
        assert lock.read_text() == str(os.getpid())


def test_what_was_left_behind_in_a_folder_is_found_and_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)  # bentoml"]
    process = subprocess.Popen(command, cwd=tmp_path)
    deadline = time.monotonic() + 5
    while left_behind("bentoml", tmp_path) != [process.pid] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left_behind("bentoml", tmp_path) == [process.pid]
    end(process.pid)
    process.wait(5)
    assert left_behind("bentoml", tmp_path) == []


def _alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
