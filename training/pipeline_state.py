"""What a run of the pipeline started from: parameters, data and code, each by its digest."""

import hashlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from data.tables import ESSAYS_FILE, FOLDS_FILE
from essays.digests import sha256_of
from essays.errors import StageFailed
from essays.params import PARAMS_FILE

UNKNOWN = "unknown"
# What stages write into the work tree while the pipeline runs; it does not make the code another one.
_WRITTEN_BY_STAGES = (":!reports", ":!dvc.lock")


@dataclass(frozen=True)
class PipelineState:
    """Two runs with the same digest had the same parameters and data; their code may differ."""

    parameters: Mapping[str, str]
    """params.yaml, flattened: `train.minilm.learning_rate`."""
    digests: Mapping[str, str]
    """sha256 of the parameters and of each data file."""
    git_commit: str
    """`unknown` outside a git checkout."""
    git_dirty: bool
    """Whether tracked files differed from the commit."""

    @property
    def digest(self) -> str:
        """sha256 over all digests."""
        return hashlib.sha256(json.dumps(dict(self.digests), sort_keys=True).encode()).hexdigest()


def read_state(
    params_file: Path = PARAMS_FILE, data_files: tuple[Path, ...] = (ESSAYS_FILE, FOLDS_FILE)
) -> PipelineState:
    """The state of this checkout. Raises StageFailed when a data file is missing."""
    parameters = yaml.safe_load(params_file.read_text(encoding="utf-8"))
    digests = {"params": hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()}
    for path in data_files:
        if not path.is_file():
            raise StageFailed(f"{path}: no such file; run `dvc repro`, or the stage that writes it")
        digests[path.name] = sha256_of(path)
    return PipelineState(dict(flattened(parameters)), digests, *git_state())


def git_state(folder: Path = Path()) -> tuple[str, bool]:
    """The commit of a checkout, `unknown` outside git; and whether tracked files differ from it.

    Reports and dvc.lock do not count: the pipeline that asks is about to write them.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".", *_WRITTEN_BY_STAGES)
    return commit or UNKNOWN, bool(changes)


def flattened(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Each value of nested sections under its dotted key, as text; lists stay whole."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def _git(folder: Path, *arguments: str) -> str:
    """What git prints, or nothing where there is no git or no checkout."""
    command = ["git", *arguments]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
