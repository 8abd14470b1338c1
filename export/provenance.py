"""Where an artifact came from: the commit, and the part of dvc.lock that led to it."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from training.pipeline_state import UNKNOWN, git_state

_COMMON_STAGES = {"fetch", "prepare", "split", "synthesize"}
_MODEL_STAGES = {"train", "calibrate", "traits", "export"}


def git_commit(folder: Path = Path()) -> str:
    """The commit of the checkout, with `-dirty` behind it when tracked code differs; `unknown` outside git."""
    commit, is_dirty = git_state(folder)
    return f"{commit}-dirty" if is_dirty else commit


def pipeline_digest(models: Sequence[str], lock: Path = Path("dvc.lock")) -> str:
    """sha256 of the lock's entries upstream of these models' packaging; `unknown` without a lock.

    What packaging and publishing themselves leave there is left out, so that packaging twice gives the same bytes.
    """
    if not lock.exists():
        return UNKNOWN
    stages: dict[str, Any] = yaml.safe_load(lock.read_text(encoding="utf-8")).get("stages", {})
    upstream = {name: entry for name, entry in stages.items() if _leads_to(name, models)}
    return hashlib.sha256(json.dumps(upstream, sort_keys=True).encode()).hexdigest()


def _leads_to(stage: str, models: Sequence[str]) -> bool:
    name, _, item = stage.partition("@")
    if name in _COMMON_STAGES:
        return True
    if name == "ensemble":
        return "ensemble" in models
    return name in _MODEL_STAGES and any(item == model or item.startswith(f"{model}-") for model in models)
