"""From champions in the object store to verified folders on this machine, each model once.

A folder named by its bundle's digest appears whole or not at all: download into staging, check size and digest, extract
aside, sync, rename; then the zip is deleted. What is there already is checked and not fetched again.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from essays.bundle import Limits, sync_folder, verify_and_extract
from essays.console import human_size, human_time, say
from essays.errors import ArtifactError, InvalidManifest, ObjectMissing
from essays.manifest import MANIFEST_FILE, Manifest, describe_file, read_manifest
from essays.registry import ChampionPointer, list_champions, read_champion
from essays.store import OnProgress, Store
from serving.catalogue import LocalArtifact

# How the process that fetched tells its workers what to load, so that they need no store.
HAND_OVER_VARIABLE = "FAIRMARK_SERVED"
_SIDE_BY_SIDE = 4
_SAY_EVERY_S = 2.0


def acquire(store: Store, models: Sequence[str], root: Path) -> list[LocalArtifact]:
    """The champions of these models (of all, when none is named) and of what an ensemble mixes, as verified folders.

    Raises a StoreError or an ArtifactError, naming what is missing or wrong. Holds a lock on `root` meanwhile, so that
    a second instance waits and then finds everything there.
    """
    try:
        (root / "staging").mkdir(parents=True, exist_ok=True)
        with _locked(root):
            _clear(root / "staging")
            return _acquire(store, models, root)
    except OSError as error:
        raise ArtifactError(
            f"{root}: {error.strerror or error}; models are kept there: make room, or name another folder"
            " (FAIRMARK_SERVICE__ARTIFACT_FOLDER)"
        ) from error


def hand_over(artifacts: Sequence[LocalArtifact]) -> None:
    """Leave the list for worker processes."""
    rows = [{**asdict(artifact), "folder": str(artifact.folder.absolute())} for artifact in artifacts]
    os.environ[HAND_OVER_VARIABLE] = json.dumps(rows)


def handed_over() -> list[LocalArtifact] | None:
    """The list that a parent process left, if there is one."""
    rows = os.environ.get(HAND_OVER_VARIABLE)
    if rows is None:
        return None
    return [LocalArtifact(**{**row, "folder": Path(row["folder"])}) for row in json.loads(rows)]


def _acquire(store: Store, models: Sequence[str], root: Path) -> list[LocalArtifact]:
    names = list(models) or list_champions(store)
    if not names:
        raise ObjectMissing(f"{store.url}: no model has a champion there; publish one first (dvc repro, or make up)")
    artifacts = _fetch_all(store, names, root)
    members = dict.fromkeys(name for artifact in artifacts for name in _member_names(artifact))
    return [*artifacts, *_fetch_all(store, [name for name in members if name not in names], root)]


def _fetch_all(store: Store, names: Sequence[str], root: Path) -> list[LocalArtifact]:
    pointers = [read_champion(store, name).pointer for name in names]
    with ThreadPoolExecutor(max_workers=_SIDE_BY_SIDE) as threads:
        return list(threads.map(lambda pointer: _artifact(store, pointer, root), pointers))


def _artifact(store: Store, pointer: ChampionPointer, root: Path) -> LocalArtifact:
    artifact = LocalArtifact(pointer.name, pointer.version, pointer.sha256, root / pointer.sha256)
    label = f"{pointer.name}@{pointer.version}"
    if artifact.folder.exists():
        if _is_whole(artifact.folder):
            say(f"found {label} in {artifact.folder}")
            return artifact
        say(f"{label}: {artifact.folder} is damaged; fetching it again")
        shutil.rmtree(artifact.folder)
    started = time.monotonic()
    _fetch(store, pointer, artifact.folder, root / "staging", _progress(label))
    took = human_time(time.monotonic() - started)
    say(f"fetched {label}  {human_size(pointer.size_bytes)} in {took}  sha256 {pointer.sha256[:12]}")
    return artifact


def _fetch(store: Store, pointer: ChampionPointer, target: Path, staging: Path, on_progress: OnProgress) -> None:
    archive, aside = staging / f"{pointer.name}-{pointer.version}.zip", staging / pointer.sha256
    store.download(
        pointer.key,
        archive,
        max_bytes=Limits().max_total_bytes,
        size_bytes=pointer.size_bytes,
        on_progress=on_progress,
    )
    manifest = verify_and_extract(archive, pointer.entry, aside)
    _require_same(pointer, manifest)
    aside.rename(target)
    sync_folder(target.parent)
    archive.unlink()


def _require_same(pointer: ChampionPointer, manifest: Manifest) -> None:
    if (manifest.name, manifest.version) != (pointer.name, pointer.version):
        raise InvalidManifest(
            f"{pointer.key}: holds {manifest.name}@{manifest.version}, its pointer says"
            f" {pointer.name}@{pointer.version}; publish {pointer.name} again"
        )


def _is_whole(folder: Path) -> bool:
    """Whether every file is still what the manifest lists: disks forget, and people edit."""
    try:
        files = read_manifest(folder / MANIFEST_FILE).files
        return all(describe_file(folder / name) == entry for name, entry in files.items())
    except (InvalidManifest, FileNotFoundError):
        return False


def _member_names(artifact: LocalArtifact) -> list[str]:
    return [member.name for member in read_manifest(artifact.folder / MANIFEST_FILE).members]


def _progress(label: str) -> OnProgress:
    last_said = time.monotonic()

    def on_progress(done: int, total: int) -> None:
        nonlocal last_said
        if time.monotonic() - last_said >= _SAY_EVERY_S:
            last_said = time.monotonic()
            say(f"fetching {label}  {human_size(done)} of {human_size(total)}")

    return on_progress


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    with (root / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another instance is filling {root}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _clear(staging: Path) -> None:
    """Remove what an interrupted start left: nothing in staging was ever whole."""
    for path in staging.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
