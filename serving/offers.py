"""How a parent process tells its worker of other models to serve, and what the worker made of it: two small files.

    offer.json     written by the parent: which set, or why a changed set was refused before anybody could load it
    taken.json     written by the worker: the last offer it tried, what came of it, and what it serves

Files, because they outlive a worker: the next one serves what the last one served, not what the service began with.
"""

import os
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from serving.catalogue import LocalArtifact

_MAX_TRIES = 2
"""Workers that may end while they load a set; more, and it is the set's fault."""


class _Note(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Offer(_Note):
    """A changed set of champions."""

    number: int
    """1 for the first of a parent process."""
    artifacts: tuple[LocalArtifact, ...] = ()
    refused: str | None = None
    """Why there is nothing to load."""


class Taken(_Note):
    """What a worker made of an offer."""

    number: int
    outcome: Literal["trying", "served", "refused"]
    artifacts: tuple[LocalArtifact, ...]
    """What is served."""
    reason: str | None = None
    num_tries: int = 0


AnyNote = TypeVar("AnyNote", bound=_Note)


class Offers:
    """Both files, in a folder that the two processes share and nobody else."""

    def __init__(self, folder: Path) -> None:
        self._offer, self._taken = folder / "offer.json", folder / "taken.json"

    def offer(self) -> Offer | None:
        """The last one, if there was one."""
        return _read(self._offer, Offer)

    def taken(self) -> Taken | None:
        """What came of the last one that a worker looked at."""
        return _read(self._taken, Taken)

    def make(self, offer: Offer) -> None:
        """Leave an offer, for the parent process."""
        _write(self._offer, offer)

    def take(self, taken: Taken) -> None:
        """Leave what came of one, for the worker."""
        _write(self._taken, taken)

    def begin(self, offer: Offer, served: tuple[LocalArtifact, ...]) -> bool:
        """Note that a worker tries this one; whether it may: not when workers before it ended over it."""
        before = self.taken()
        num_tries = before.num_tries if before and before.number == offer.number else 0
        may = num_tries < _MAX_TRIES
        self.take(
            Taken(
                number=offer.number,
                outcome="trying" if may else "refused",
                artifacts=served,
                reason=None if may else f"{num_tries} worker processes ended while they loaded it",
                num_tries=num_tries + may,
            )
        )
        return may


def _read(path: Path, kind: type[AnyNote]) -> AnyNote | None:
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None


def _write(path: Path, note: _Note) -> None:
    aside = path.with_suffix(f".{os.getpid()}")
    aside.write_text(note.model_dump_json(), "utf-8")
    aside.rename(path)
