"""What stands in a store: an essay's print, runs of models on it, and their packed, sealed form."""

import math
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.cache.keys import Keyring
from serving.inference import Run

_VALUE = struct.Struct("<dIBdd")
_TRAIT = struct.Struct("<d")


@dataclass(frozen=True)
class Space:
    """What a run depends on besides the essay."""

    key: bytes
    """Digest of all that follows, of the runtime and of the schema."""
    model: str
    digest: str
    """sha256 of the artifact."""
    prompt_id: str


@dataclass(frozen=True)
class RunRow:
    """A model's run on an essay."""

    print_id: int
    space: bytes
    essay_key: bytes
    value: bytes
    created: float
    seal: bytes


@dataclass(frozen=True)
class PrintRow:
    """An essay, unreadable."""

    print_id: int
    essay_key: bytes
    prompt_id: str
    salt: bytes
    words: bytes
    """Digests of its tokens, in order."""
    seal: bytes

    @property
    def word_digests(self) -> NDArray[np.uint32]:
        """As an array, (N,)."""
        return np.frombuffer(self.words, dtype="<u4")


@dataclass(frozen=True)
class NewEntry:
    """A print with one run, to be stored."""

    space: Space
    essay_key: bytes
    salt: bytes
    words: bytes
    vector: NDArray[np.float32]
    print_seal: bytes
    input_key: bytes
    value: bytes
    created: float
    run_seal: bytes


def pack_run(run: Run) -> bytes:
    """A run's numbers, those of its traits behind the others."""
    value = _VALUE.pack(run.raw_unit_score, run.tokens_used, run.truncated, run.tokenize_ms, run.infer_ms)
    return value + b"".join(map(_TRAIT.pack, run.raw_trait_scores))


def unpack_run(value: bytes) -> Run:
    """What `pack_run` packed. Raises ValueError when it is no run, or not a finite one."""
    try:
        score, tokens_used, truncated, tokenize_ms, infer_ms = _VALUE.unpack(value[: _VALUE.size])
        traits = tuple(trait for (trait,) in _TRAIT.iter_unpack(value[_VALUE.size :]))
    except struct.error as error:
        raise ValueError(f"{len(value)} bytes, a run has {_VALUE.size} and {_TRAIT.size} for each trait") from error
    if not all(map(math.isfinite, (score, tokenize_ms, infer_ms, *traits))):
        raise ValueError("a run's numbers are not finite")
    return Run(score, tokens_used, bool(truncated), tokenize_ms, infer_ms, traits)


def run_seal(keyring: Keyring, space: bytes, essay_key: bytes, value: bytes, created: float) -> bytes:
    """What proves that this run was stored for this essay in this space."""
    return keyring.seal(b"run", space, essay_key, value, struct.pack("<d", created))


def print_seal(keyring: Keyring, essay_key: bytes, prompt_id: str, salt: bytes, words: bytes) -> bytes:
    """What proves that these words were stored for this essay."""
    return keyring.seal(b"print", essay_key, prompt_id.encode(), salt, words)
