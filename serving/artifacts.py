"""From champions in the object store to verified folders on this machine, each model once.

In this order: the signature, where a key is trusted; download into staging; size and digest; only then is the zip
opened and extracted aside; sync, rename to the digest's name, and the zip is deleted. What is there already is checked
and not fetched again. When nobody answers at the store, the set that was served last is served again, and said.
"""

import json
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from essays.backoff import Backoff, tries
from essays.bundle import Limits, verify_and_extract
from essays.console import human_size, human_time, say
from essays.errors import ArtifactError, DigestMismatch, FairmarkError, InvalidManifest, ObjectMissing, StoreUnreachable
from essays.manifest import MANIFEST_FILE, Manifest, read_manifest
from essays.registry import ChampionPointer, list_champions, read_champion
from essays.signatures import SignatureRefused, TrustedKey, read_signature, require_signature
from essays.store import OnProgress, Store
from serving import local_copies
from serving.catalogue import LocalArtifact
from serving.local_copies import DiskFull
from serving.schemas import ModelState

# How the process that fetched tells its workers what to load, so that they need no store.
HAND_OVER_VARIABLE = "FAIRMARK_SERVED"
REFUSED_VARIABLE = "FAIRMARK_REFUSED"
_SIDE_BY_SIDE = 4
_SAY_EVERY_S = 2.0

Report = Callable[[ModelState], None]
OnRefused = Callable[[str, FairmarkError], None]


def acquire(
    store: Store,
    models: Sequence[str],
    root: Path,
    *,
    trusted: TrustedKey | None = None,
    report: Report = lambda state: None,
    on_refused: OnRefused | None = None,
) -> list[LocalArtifact]:
    """The champions of these models (of all, when none is named) and of what an ensemble mixes, as verified folders.

    Raises a StoreError or an ArtifactError, naming what is missing or wrong; with `on_refused`, a model that is wrong
    by itself is told there instead and left out. Holds a lock on `root` meanwhile, so that a second instance waits and
    then finds everything there; the folders stay as long as this process serves them.
    """
    with local_copies.filling(root) as staging:
        fetching = _Fetching(store, root, staging, trusted, report, on_refused)
        asked = local_copies.asked_for(store.url, models)
        try:
            pointers = fetching.set_of(models)
        except StoreUnreachable as error:
            pointers = [*local_copies.known(root).served.get(asked, ())]
            if not pointers:
                raise
            artifacts = [replace(fetching.kept(pointer), stale=True) for pointer in pointers]
            names = ", ".join(f"{pointer.name}@{pointer.version}" for pointer in pointers)
            say(f"warning: serving stale_artifacts, the verified copies of {names}: {error}")
        else:
            artifacts = [fetching.artifact(pointer) for pointer in pointers]
            local_copies.remember(root, asked, pointers)
        local_copies.hold(root, [artifact.digest for artifact in artifacts])
        _prune(root, staging)
        return artifacts


def fetch_changed(
    store: Store, models: Sequence[str], root: Path, *, trusted: TrustedKey | None, on_refused: OnRefused | None
) -> tuple[list[LocalArtifact], list[ChampionPointer]]:
    """As `acquire`, for a set beside the one that is served: never a stale one, and not remembered until `settle`."""
    with local_copies.filling(root) as staging:
        fetching = _Fetching(store, root, staging, trusted, lambda state: None, on_refused)
        pointers = fetching.set_of(models)
        artifacts = [fetching.artifact(pointer) for pointer in pointers]
        local_copies.hold(root, [artifact.digest for artifact in artifacts])
        return artifacts, pointers


def settle(
    store: Store, models: Sequence[str], root: Path, changed: Sequence[ChampionPointer], in_use: Collection[str]
) -> None:
    """Remember what is served now, if it changed. Of the folders that this process held, the rest goes.

    What stays are those of these digests, of the set that is served and of the one before.
    """
    with local_copies.filling(root) as staging:
        if changed:
            local_copies.remember(root, local_copies.asked_for(store.url, models), changed)
        local_copies.let_go(root, in_use)
        _prune(root, staging)


def acquire_within(
    budget_s: float, attempt: Callable[[], list[LocalArtifact]], say_why: Callable[[FairmarkError], None]
) -> list[LocalArtifact]:
    """What `attempt` gives, tried again while it is the outside that fails: nobody answers, or the disk is full.

    Pauses grow and are drawn at random. Raises the last error when the budget is spent.
    """
    for pause_s in tries(budget_s, Backoff(base_s=0.5, cap_s=10.0)):
        try:
            return attempt()
        except (StoreUnreachable, DiskFull) as error:
            say_why(error)
            say(f"{error}; trying again in {human_time(pause_s)}")
            time.sleep(pause_s)
    return attempt()


def hand_over(artifacts: Sequence[LocalArtifact], refused: dict[str, str] | None = None) -> None:
    """Leave the list for worker processes, and why other models are not in it."""
    rows = [{**asdict(artifact), "folder": str(artifact.folder.absolute())} for artifact in artifacts]
    os.environ[HAND_OVER_VARIABLE] = json.dumps(rows)
    os.environ[REFUSED_VARIABLE] = json.dumps(refused or {})


def handed_over() -> list[LocalArtifact] | None:
    """The list that a parent process left, if there is one."""
    rows = os.environ.get(HAND_OVER_VARIABLE)
    if rows is None:
        return None
    return [LocalArtifact(**{**row, "folder": Path(row["folder"])}) for row in json.loads(rows)]


def refused_before() -> dict[str, str]:
    """Why the parent process left models out, by name."""
    return dict(json.loads(os.environ.get(REFUSED_VARIABLE, "{}")))


@dataclass(frozen=True)
class _Fetching:
    """One filling of the folder."""

    store: Store
    root: Path
    staging: Path
    trusted: TrustedKey | None
    report: Report
    on_refused: OnRefused | None

    def set_of(self, models: Sequence[str]) -> list[ChampionPointer]:
        """Where the champions are, after fetching them: these, then the ones that an ensemble among them mixes."""
        names = list(models) or list_champions(self.store)
        if not names:
            raise ObjectMissing(
                f"{self.store.url}: no model has a champion there; publish one first (dvc repro, or make up)"
            )
        pointers = self._fetch_all(names)
        members = dict.fromkeys(name for pointer in pointers for name in self._member_names(pointer))
        return [*pointers, *self._fetch_all([name for name in members if name not in names])]

    def artifact(self, pointer: ChampionPointer) -> LocalArtifact:
        return LocalArtifact(pointer.name, pointer.version, pointer.sha256, self.root / pointer.sha256)

    def kept(self, pointer: ChampionPointer) -> LocalArtifact:
        """What was served before, checked without the store. Raises ArtifactError when it is no longer so."""
        artifact = self.artifact(pointer)
        if self.trusted:
            _require_kept_signature(self.root, pointer, self.trusted)
        if not local_copies.is_whole(artifact.folder):
            raise ArtifactError(f"{artifact.folder}: damaged, and nobody answers at {self.store.url} to fetch it again")
        return artifact

    def _fetch_all(self, names: Sequence[str]) -> list[ChampionPointer]:
        champions = {}
        for name in names:
            self.report(ModelState(name=name, state="fetching"))
            with self._refusing(name):
                champions[name] = read_champion(self.store, name).pointer
        with ThreadPoolExecutor(max_workers=_SIDE_BY_SIDE) as threads:
            return [pointer for pointer in threads.map(self._fetch_one, champions.values()) if pointer]

    def _fetch_one(self, pointer: ChampionPointer) -> ChampionPointer | None:
        with self._refusing(pointer.name):
            try:
                self._bring(pointer)
            except DigestMismatch as error:
                say(f"{error}; fetching it once more")
                # The champion may have moved meanwhile, or its object been replaced.
                pointer = read_champion(self.store, pointer.name).pointer
                self._bring(pointer)
            return pointer
        return None

    @contextmanager
    def _refusing(self, name: str) -> Iterator[None]:
        try:
            yield
        except (ArtifactError, ObjectMissing) as error:
            self.report(ModelState(name=name, state="failed", detail=str(error)))
            if self.on_refused is None or isinstance(error, DiskFull):
                raise
            self.on_refused(name, error)

    def _bring(self, pointer: ChampionPointer) -> None:
        folder = self.root / pointer.sha256
        label = f"{pointer.name}@{pointer.version}"
        if self.trusted:
            self._require_signed(pointer, self.trusted)
        if folder.exists():
            if local_copies.is_whole(folder):
                say(f"found {label} in {folder}")
                return
            say(f"{label}: {folder} is damaged; fetching it again")
            local_copies.discard(folder, self.staging)
        started = time.monotonic()
        self._download(pointer, folder, _progress(label))
        took = human_time(time.monotonic() - started)
        say(f"fetched {label}  {human_size(pointer.size_bytes)} in {took}  sha256 {pointer.sha256[:12]}")

    def _download(self, pointer: ChampionPointer, target: Path, on_progress: OnProgress) -> None:
        archive = self.staging / f"{pointer.name}-{pointer.version}.zip"
        aside = self.staging / pointer.sha256
        try:
            self.store.download(
                pointer.key,
                archive,
                max_bytes=Limits().max_total_bytes,
                size_bytes=pointer.size_bytes,
                on_progress=on_progress,
            )
            _require_same(pointer, verify_and_extract(archive, pointer.entry, aside))
            local_copies.place(aside, target)
        finally:
            archive.unlink(missing_ok=True)
            local_copies.remove(aside)

    def _require_signed(self, pointer: ChampionPointer, trusted: TrustedKey) -> None:
        """Ask the signature that was kept first, then the store's: a key may have been changed, and all signed anew."""
        try:
            _require_kept_signature(self.root, pointer, trusted)
        except SignatureRefused:
            signature = read_signature(self.store, pointer.key)
            require_signature(signature, pointer.key, pointer.sha256, trusted)
            local_copies.write_state(self.root, f"{pointer.sha256}.sig", signature)

    def _member_names(self, pointer: ChampionPointer) -> list[str]:
        return [member.name for member in read_manifest(self.root / pointer.sha256 / MANIFEST_FILE).members]


def _prune(root: Path, staging: Path) -> None:
    for digest in local_copies.prune(root, staging):
        say(f"removed {root / digest}, which nothing uses any more")


def _require_kept_signature(root: Path, pointer: ChampionPointer, trusted: TrustedKey) -> None:
    signature = local_copies.read_state(root, f"{pointer.sha256}.sig")
    if signature is None:
        raise SignatureRefused(f"{pointer.key}: no signature of it is kept in {root}; trusted is {trusted.key_id}")
    require_signature(signature, pointer.key, pointer.sha256, trusted)


def _require_same(pointer: ChampionPointer, manifest: Manifest) -> None:
    if (manifest.name, manifest.version) != (pointer.name, pointer.version):
        raise InvalidManifest(
            f"{pointer.key}: holds {manifest.name}@{manifest.version}, its pointer says"
            f" {pointer.name}@{pointer.version}; publish {pointer.name} again"
        )


def _progress(label: str) -> OnProgress:
    last_said = time.monotonic()

    def on_progress(done: int, total: int) -> None:
        nonlocal last_said
        if time.monotonic() - last_said >= _SAY_EVERY_S:
            last_said = time.monotonic()
            say(f"fetching {label}  {human_size(done)} of {human_size(total)}")

    return on_progress
