"""What was measured already, so that a run that was killed goes on behind it."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.speed.chosen import digest_of
from benchmarks.speed.contestants import Contestant
from benchmarks.speed.machine import describe_machine
from benchmarks.speed.measure import Bench
from benchmarks.speed.results import Measured
from essays.digests import sha256_of


def read_kept(contestant: Contestant, bench: Bench, folder: Path) -> Measured | None:
    """What was measured of the same thing with the same plan on the same machine; None when nothing was."""
    try:
        tree = json.loads(_path(contestant, folder).read_text("utf-8"))
        return Measured(**tree["measured"]) if tree["key"] == key_of(contestant, bench) else None
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def keep(contestant: Contestant, bench: Bench, folder: Path, measured: Measured) -> None:
    """Appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = _path(contestant, folder)
    staging = path.with_suffix(".part")
    tree = {"key": key_of(contestant, bench), "measured": asdict(measured)}
    staging.write_text(json.dumps(tree, indent=1) + "\n", "utf-8")
    staging.replace(path)


def key_of(contestant: Contestant, bench: Bench) -> str:
    """Names everything that a result depends on, this package's own loops left out: `--fresh` is for those."""
    machine = describe_machine()
    parts: Mapping[str, Any] = {
        "contestant": contestant.name,
        "sources": [sha256_of(path) for path in contestant.sources],
        "bundle": bench.subject.digest,
        "weights": _weights_digest(contestant, bench),
        "essays": digest_of(bench.essays),
        "plan": asdict(bench.plan),
        "machine": [machine[name] for name in ("cpu", "cores", "memory_gb", "gpu")],
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _weights_digest(contestant: Contestant, bench: Bench) -> str | None:
    path = bench.subject.weights / "model.safetensors"
    return sha256_of(path) if contestant.needs_weights and path.exists() else None


def _path(contestant: Contestant, folder: Path) -> Path:
    return folder / f"{contestant.name}.json"
