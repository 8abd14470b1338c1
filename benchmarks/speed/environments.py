"""A virtual environment for each kind of peer, made once from its pinned list and made again when the list changes."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from essays.console import human_time, say
from essays.digests import sha256_of
from essays.errors import StageFailed

PEER_FOLDER = Path(__file__).parent / "peers"
OWN = "fairmark"
"""This project's own environment, which is there already."""
_STAMP = "made-from"


def requirements_file(name: str) -> Path:
    """The pinned list of an environment."""
    return PEER_FOLDER / f"{name}.txt"


def python_of(name: str, folder: Path) -> Path:
    """The interpreter of an environment, which is made unless it is there. Raises StageFailed with pip's last words."""
    if name == OWN:
        return Path(sys.executable)
    environment, listed = folder / name, requirements_file(name)
    digest = sha256_of(listed)
    stamp = environment / _STAMP
    if not (stamp.exists() and stamp.read_text("ascii") == digest):
        _make(environment, listed)
        stamp.write_text(digest, "ascii")
    return (environment / "bin" / "python").absolute()


def _make(environment: Path, listed: Path) -> None:
    say(f"environment {environment.name}: installing {listed.name}; once, and minutes where torch is in it")
    started = time.monotonic()
    shutil.rmtree(environment, ignore_errors=True)
    # The interpreter below this one's environment: a venv made from a venv would look into it.
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    _run([str(base if base.exists() else sys.executable), "-m", "venv", str(environment)], environment)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--no-input", "--quiet", "--no-compile"]
    # First by itself: a build for CPUs that is there already keeps pip from choosing one with gigabytes of CUDA.
    if torch := [line for line in listed.read_text("utf-8").splitlines() if line.startswith("torch==")]:
        _run([*pip, *torch], environment)
    _run([*pip, "--requirement", str(listed)], environment)
    say(f"environment {environment.name}: made in {human_time(time.monotonic() - started)}")


def _run(command: list[str], environment: Path) -> None:
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if ended.returncode:
        last = (ended.stderr or ended.stdout).strip().splitlines()[-3:]
        raise StageFailed(f"{environment}: could not be made: {' / '.join(last)[:600]}")
