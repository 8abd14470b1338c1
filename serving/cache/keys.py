"""What stands in the store in place of a text: keyed digests that nobody without the key can make.

A whole essay becomes one digest (HMAC-SHA-256). The guard needs the order of its words, so each word becomes a digest
under a key that is the entry's own: equal words of two entries look different, so no table of frequencies over many
essays can be made. Words take keyed BLAKE2b (RFC 7693): as good a secret, in a third of the time.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from essays.encoding import Arrays

KEY_BYTES = 32
DIGEST_BYTES = 16
SALT_BYTES = 16
_WORD_DIGEST_BYTES = 4


class Keyring:
    """One secret key and the digests made with it."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def essay_key(self, text: str) -> bytes:
        """Of a normalized essay."""
        return self._digest(b"essay", text.encode())

    def space(self, *parts: str) -> bytes:
        """Of what an answer depends on besides the essay: model, artifact, runtime, prompt, schema of the answer."""
        return self._digest(b"space", *(part.encode() for part in parts))

    def input_key(self, arrays: Arrays) -> bytes:
        """Of everything that a graph is given: names, kinds, shapes and values."""
        parts = [
            part
            for name in sorted(arrays)
            for part in (f"{name}{arrays[name].dtype}{arrays[name].shape}".encode(), arrays[name].tobytes())
        ]
        return self._digest(b"input", *parts)

    def seal(self, *parts: bytes) -> bytes:
        """Of a row, so that a changed one, or one that was moved to another essay, is not believed."""
        return self._digest(b"row", *parts)

    def sketch_key(self, prompt_id: str) -> bytes:
        """What sketches of one prompt are made with; sketches of two prompts have nothing in common."""
        return self._digest(b"sketch", prompt_id.encode())

    def word_digests(self, salt: bytes, tokens: Sequence[str]) -> NDArray[np.uint32]:
        """Of each token, in order, under the entry's own key, (N,)."""
        own = self._digest(b"words", salt)
        known = token_digests(own, tokens, _WORD_DIGEST_BYTES)
        return np.frombuffer(b"".join(known[token] for token in tokens), dtype="<u4")

    def _digest(self, purpose: bytes, *parts: bytes) -> bytes:
        # Lengths between the parts: ("ab", "c") and ("a", "bc") must differ.
        message = b"".join(len(part).to_bytes(8, "little") + part for part in (purpose, *parts))
        return hmac.digest(self._key, message, "sha256")[:DIGEST_BYTES]


def token_digests(key: bytes, tokens: Iterable[str], size_bytes: int) -> Mapping[str, bytes]:
    """Of each distinct token, under this key of at most 64 bytes."""
    keyed = hashlib.blake2b(key=key, digest_size=size_bytes)
    known = {}
    for token in set(tokens):
        # A copy has the key taken in already.
        own = keyed.copy()
        own.update(token.encode())
        known[token] = own.digest()
    return known


def new_key() -> bytes:
    """A random key."""
    return secrets.token_bytes(KEY_BYTES)


def new_salt() -> bytes:
    """A random salt for one entry."""
    return secrets.token_bytes(SALT_BYTES)


def key_in(path: Path) -> bytes:
    """The key in this file, which only its owner may read; made by whoever comes first. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(new_key())
        # A link appears whole or not at all, and not over another's.
        path.hardlink_to(aside)
    except FileExistsError:
        pass
    finally:
        aside.unlink()
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        path.unlink()
        raise OSError(f"{path}: {len(key)} bytes, a key has {KEY_BYTES}; removed")
    return key
