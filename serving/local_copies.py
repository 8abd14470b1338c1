"""The folder that holds verified models between starts: what is whole, what was served, who uses it, what may go.

    DIGEST/            a model's files; the name is the sha256 of its zip, and it appears whole or not at all
    compiled/DIGEST/   what runtimes made of a model's graph, for the next start
    staging/           what is under way; nothing in it was ever whole, so the next start clears it
    .state/            known.json: what was served last, by store; DIGEST.sig: signatures; DIGEST.used: locks of users
    .lock              held while the folder is filled

One process fills it at a time; several may use it. A process that is killed leaves no lock behind.
"""

import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import Field, ValidationError

from essays.bundle import sync_folder
from essays.console import say
from essays.errors import ArtifactError, InvalidManifest
from essays.manifest import MANIFEST_FILE, describe_file, read_manifest
from essays.params import Section, section_text
from essays.registry import ChampionPointer

COMPILED_FOLDER = "compiled"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
# Locks of the models that this process uses; they go with it.
_held: dict[Path, int] = {}


class DiskFull(ArtifactError):
    """No room for a model; whoever makes room needs to do nothing else."""


class Known(Section):
    """What was served last from each store, for each list of models that was asked for; and what before that."""

    served: dict[str, tuple[ChampionPointer, ...]] = Field(default_factory=dict)
    before: dict[str, tuple[ChampionPointer, ...]] = Field(default_factory=dict)

    @property
    def digests(self) -> set[str]:
        """Of every model that may be wanted again."""
        sets = [*self.served.values(), *self.before.values()]
        return {pointer.sha256 for pointers in sets for pointer in pointers}


@contextmanager
def filling(root: Path) -> Iterator[Path]:
    """The staging folder, empty, while nobody else fills `root`. Raises DiskFull or ArtifactError for a bad folder."""
    staging = root / "staging"
    try:
        for folder in (staging, _state(root)):
            folder.mkdir(parents=True, exist_ok=True)
        with _locked(root):
            clear(staging)
            yield staging
    except OSError as error:
        if error.errno in _NO_ROOM:
            with suppress(OSError):
                clear(staging)
            raise DiskFull(
                f"disk_full: {root}: {error.strerror}, {shutil.disk_usage(root).free:,} bytes are free; make room:"
                " nothing else is needed"
            ) from error
        raise ArtifactError(
            f"{root}: {error.strerror or error}; models are kept there: make it writable, or name another folder"
            " (FAIRMARK_SERVICE__ARTIFACT_FOLDER)"
        ) from error


def is_whole(folder: Path) -> bool:
    """Whether every file is still what the manifest lists: disks forget, and people edit."""
    try:
        files = read_manifest(folder / MANIFEST_FILE).files
        return all(describe_file(folder / name) == entry for name, entry in files.items())
    except (InvalidManifest, FileNotFoundError, NotADirectoryError):
        return False


def place(aside: Path, target: Path) -> None:
    """Rename a synced folder to its final name, for good."""
    aside.rename(target)
    sync_folder(target.parent)


def discard(folder: Path, staging: Path) -> None:
    """Remove a folder so that nobody ever sees half of it."""
    aside = staging / f"discarded-{folder.name}"
    folder.rename(aside)
    shutil.rmtree(aside)


def clear(staging: Path) -> None:
    """Remove what an interrupted start left."""
    for path in staging.iterdir():
        remove(path)


def remove(path: Path) -> None:
    """A file, or a folder with all that is in it; or nothing, where nothing is."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_state(root: Path, name: str, content: bytes) -> None:
    """Leave a small file in `.state`, whole or not at all."""
    staged = root / "staging" / f"state-{name}"
    with staged.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    staged.rename(_state(root) / name)
    sync_folder(_state(root))


def read_state(root: Path, name: str) -> bytes | None:
    """A small file of `.state`, if it is there."""
    try:
        return (_state(root) / name).read_bytes()
    except FileNotFoundError:
        return None


def known(root: Path) -> Known:
    """What was served last; nothing, where the note is missing or damaged."""
    content = read_state(root, "known.json")
    try:
        return Known.model_validate_json(content) if content else Known()
    except ValidationError:
        say(f"{_state(root) / 'known.json'}: damaged, and begun anew")
        return Known()


def remember(root: Path, asked: str, pointers: Sequence[ChampionPointer]) -> None:
    """Note what is served now for what was asked for."""
    noted = known(root)
    last = noted.served.get(asked, ())
    if last == tuple(pointers):
        return
    before = {**noted.before, asked: last} if last else noted.before
    served = {**noted.served, asked: tuple(pointers)}
    write_state(root, "known.json", section_text(Known(served=served, before=before)).encode())


def asked_for(store_url: str, models: Sequence[str]) -> str:
    """The name under which a set of models is remembered."""
    return json.dumps([store_url, sorted(models)])


def hold(root: Path, digests: Iterable[str]) -> None:
    """Keep these folders from being pruned, until `let_go` or the end of this process."""
    for digest in digests:
        path = _state(root) / f"{digest}.used"
        if path not in _held:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            _held[path] = descriptor


def let_go(root: Path, in_use: Iterable[str]) -> None:
    """Hold only these, what is known to be served, and what was before the last change."""
    wanted = known(root).digests | set(in_use)
    for path in [path for path in _held if path.parent == _state(root) and path.stem not in wanted]:
        os.close(_held.pop(path))


def prune(root: Path, staging: Path) -> list[str]:
    """Remove models that are neither served, nor were before the last change, nor used by a living process.

    Returns their digests. What was compiled of them goes too.
    """
    wanted = known(root).digests
    gone = []
    for folder in sorted(root.iterdir()):
        if _DIGEST.fullmatch(folder.name) and folder.name not in wanted and _is_unused(root, folder.name):
            discard(folder, staging)
            for suffix in (".sig", ".used"):
                (_state(root) / f"{folder.name}{suffix}").unlink(missing_ok=True)
            gone.append(folder.name)
    for compiled in (root / COMPILED_FOLDER).glob("*"):
        if not (root / compiled.name).exists():
            remove(compiled)
    return gone


def _is_unused(root: Path, digest: str) -> bool:
    try:
        descriptor = os.open(_state(root) / f"{digest}.used", os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    with (root / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another instance is filling {root}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _state(root: Path) -> Path:
    return root / ".state"
