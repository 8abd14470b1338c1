"""Packages that only some tests need: installed once, each list into its own folder, never into the environment."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from essays.digests import sha256_of

ROOT = Path(__file__).parents[1]


def installed(name: str, *options: str) -> Path:
    """The folder to import requirements/NAME.txt from; made on first use, and again when the list changes.

    Skips the test where pip cannot get the packages.
    """
    listed, folder = ROOT / "requirements" / f"{name}.txt", ROOT / ".make" / name
    stamp = folder / "made-from"
    if not (stamp.exists() and stamp.read_text("ascii") == sha256_of(listed)):
        shutil.rmtree(folder, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "--no-input", "--quiet", "--no-compile", *options]
        ended = subprocess.run([*pip, "--target", folder, "--requirement", listed], capture_output=True, text=True)
        if ended.returncode:
            pytest.skip(f"{listed.name} cannot be installed here: {(ended.stderr.splitlines() or ['?'])[-1][:200]}")
        stamp.write_text(sha256_of(listed), "ascii")
    return folder
