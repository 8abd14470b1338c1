"""nginx as a program of this machine: found, checked, run and told to read its files again."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from deploy.nginx.site import Site
from deploy.processes import UpFailed, running

_SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin")
_START_S = 10.0


@contextmanager
def nginx_running(site: Site, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A site served by nginx, which listens, while the block lasts. Raises UpFailed with what nginx says."""
    command = [_program(environment), "-c", str(site.config_file), "-e", str(site.folder / "error.log")]
    checked = subprocess.run([*command, "-t", "-q"], capture_output=True, text=True, env=dict(environment))
    if checked.returncode:
        raise UpFailed(f"nginx refuses {site.config_file}: {checked.stderr.strip()}")
    with running([*command, "-g", "daemon off;"], environment, stop_signal=signal.SIGQUIT) as process:
        _wait_until_it_listens(site, process)
        yield process


def reload(site: Site) -> None:
    """Let nginx read its files again; requests in hand are finished by the processes that have them."""
    with suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int(site.pid_file.read_text("utf-8")), signal.SIGHUP)


def _program(environment: Mapping[str, str]) -> str:
    # Debian keeps it where only root looks.
    path = os.pathsep.join([environment.get("PATH", ""), *_SYSTEM_FOLDERS])
    found = shutil.which("nginx", path=path)
    if found is None:
        raise UpFailed("there is no nginx here; on Debian: apt-get install nginx")
    return found


def _wait_until_it_listens(site: Site, process: subprocess.Popen[bytes]) -> None:
    host = site.listen_hosts[0].strip("[]").replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - asked, not bound
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection((host, site.https_port), timeout=1):
            return
        time.sleep(0.02)
    raise UpFailed(f"nginx does not listen on port {site.https_port}; see {site.folder / 'error.log'}")
