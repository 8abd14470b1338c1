"""What is published under which key, and which version of a model is its champion.

models/NAME/VERSION.zip       bundles; a key is written once
models/NAME/champion.json     the pointer to the served one, written last and conditionally
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from essays.errors import InvalidManifest, ObjectMissing
from essays.manifest import FileEntry, Manifest, PromptMetrics, describe_file
from essays.params import Section, section_text
from essays.store import OnProgress, Store

_ROOT = "models/"
_CHAMPION_FILE = "champion.json"


class ChampionPointer(Section):
    """Where a published bundle lies, and what its bytes must be."""

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")
    version: str = Field(pattern=r"^[0-9a-f]{12}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(gt=0)
    key: str
    """Of the bundle, in the same store."""
    metrics: tuple[PromptMetrics, ...] = ()
    """The manifest's, so that two versions can be compared without their bundles."""
    prompt_ids: tuple[str, ...] = ()
    """What it scores, measured or not; older pointers name none."""
    members: dict[str, str] = Field(default_factory=dict)
    """Of an ensemble: its members' versions by name."""
    behaviours: dict[str, bool] = Field(default_factory=dict)
    """Which lines of the robustness suite it holds; older pointers, and models without a test part, name none."""
    override: str | None = None
    """Why somebody made it the champion against the promotion gate."""

    @property
    def entry(self) -> FileEntry:
        """Digest and size, as `essays.bundle` checks them."""
        return FileEntry(sha256=self.sha256, size_bytes=self.size_bytes)


@dataclass(frozen=True)
class Champion:
    """A pointer as it was read, with what a conditional write needs."""

    pointer: ChampionPointer
    etag: str


def bundle_key(name: str, version: str) -> str:
    """Where a bundle lies."""
    return f"{_ROOT}{name}/{version}.zip"


def champion_key(name: str) -> str:
    """Where a model's pointer lies."""
    return f"{_ROOT}{name}/{_CHAMPION_FILE}"


def pointer_to(path: Path, manifest: Manifest) -> ChampionPointer:
    """The pointer that would make this bundle its model's champion."""
    entry = describe_file(path)
    return ChampionPointer(
        name=manifest.name,
        version=manifest.version,
        sha256=entry.sha256,
        size_bytes=entry.size_bytes,
        key=bundle_key(manifest.name, manifest.version),
        metrics=manifest.metrics,
        prompt_ids=manifest.prompt_ids,
        members={member.name: member.version for member in manifest.members},
    )


def publish_bundle(store: Store, path: Path, pointer: ChampionPointer, on_progress: OnProgress | None = None) -> bool:
    """Upload a bundle unless the store has these very bytes; whether it was sent. Does not make it the champion."""
    if has_bundle(store, pointer):
        return False
    store.upload(path, pointer.key, pointer.sha256, on_progress)
    return True


def has_bundle(store: Store, pointer: ChampionPointer) -> bool:
    """Whether the store holds the bundle that the pointer promises."""
    try:
        found = store.head(pointer.key)
    except ObjectMissing:
        return False
    return (found.sha256, found.size_bytes) == (pointer.sha256, pointer.size_bytes)


def find_champion(store: Store, name: str) -> Champion | None:
    """As `read_champion`, but none when there is none."""
    return read_champion(store, name) if store.exists(champion_key(name)) else None


def read_champion(store: Store, name: str) -> Champion:
    """The champion of a model. Raises ObjectMissing when it has none, InvalidManifest when the pointer is malformed."""
    key = champion_key(name)
    try:
        blob = store.read(key)
    except ObjectMissing as error:
        raise ObjectMissing(f"{store.url}: {name} has no champion ({key}); publish it first") from error
    try:
        pointer = ChampionPointer.model_validate_json(blob.content)
    except ValidationError as error:
        raise InvalidManifest(f"{store.url}/{key}: no pointer ({error.error_count()} faults); publish again") from error
    if pointer.name != name:
        raise InvalidManifest(f"{store.url}/{key}: points to {pointer.name}, expected {name}; publish {name} again")
    return Champion(pointer, blob.etag)


def champion_etags(store: Store, names: Iterable[str]) -> dict[str, str | None]:
    """What changes when a champion does, by model, without reading the pointers; none where there is no champion."""
    etags: dict[str, str | None] = {}
    for name in names:
        try:
            etags[name] = store.head(champion_key(name)).etag
        except ObjectMissing:
            etags[name] = None
    return etags


def list_champions(store: Store) -> list[str]:
    """Names of the models that have a champion, ascending."""
    keys = [key.removeprefix(_ROOT).split("/") for key in store.list_keys(_ROOT)]
    return [parts[0] for parts in keys if len(parts) == 2 and parts[1] == _CHAMPION_FILE]


def move_champion(store: Store, pointer: ChampionPointer, replacing: Champion | None) -> Champion:
    """Make a published bundle the champion in place of the one that was read before, or of none.

    Raises PreconditionFailed when somebody moved it in between.
    """
    content = section_text(pointer).encode()
    etag = store.put_bytes(
        champion_key(pointer.name),
        content,
        if_match=replacing.etag if replacing else None,
        if_none_match=replacing is None,
    )
    return Champion(pointer, etag)
