"""The object store: `s3://` through boto3 (AWS or any other endpoint) and `file://`, behind the same few calls.

Keys are relative to the store's URL. Every failure is a StoreError that names the object and its store, and what to
do; credentials are in none. What is kept under which key is `registry`'s matter.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

from essays.errors import DigestMismatch, StoreError, UnsafeArchive
from essays.settings import StoreSettings

MAX_READ_BYTES = 1 << 20
"""Of an object that is read whole: pointers and signatures have a few thousand."""

OnProgress = Callable[[int, int], None]
"""Told (bytes done, bytes in all) now and then."""


@dataclass(frozen=True)
class ObjectInfo:
    """What the store says of an object without giving it out."""

    key: str
    size_bytes: int
    etag: str
    """Changes with the content; for conditional writes."""
    sha256: str | None
    """As noted by whoever uploaded it; none when nobody did."""


@dataclass(frozen=True)
class Blob:
    """A small object's content."""

    content: bytes
    etag: str


class Store(Protocol):
    """What both kinds of store do. Every call may raise StoreUnreachable or StoreDenied."""

    url: str

    def read(self, key: str) -> Blob:
        """A small object, whole. Raises ObjectMissing, or UnsafeArchive for more than `MAX_READ_BYTES`."""
        ...

    def put_bytes(self, key: str, content: bytes, *, if_match: str | None = None, if_none_match: bool = False) -> str:
        """Write a small object and return its etag.

        `if_match` writes only over the content of that etag, `if_none_match` only where there is nothing. Raises
        PreconditionFailed otherwise.
        """
        ...

    def head(self, key: str) -> ObjectInfo:
        """Size, etag and digest. Raises ObjectMissing."""
        ...

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        ...

    def list_keys(self, prefix: str = "") -> list[str]:
        """Every key that begins with `prefix`, ascending."""
        ...

    def download(
        self,
        key: str,
        path: Path,
        *,
        max_bytes: int,
        size_bytes: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Write an object to `path`, replacing what is there. A broken connection goes on where it broke.

        Raises ObjectMissing; and before a byte is fetched, DigestMismatch for another size than the `size_bytes`
        that were promised and UnsafeArchive for more than `max_bytes`.
        """
        ...

    def upload(self, path: Path, key: str, sha256: str, on_progress: OnProgress | None = None) -> None:
        """Write a file, with its digest noted beside it."""
        ...


def open_store(settings: StoreSettings) -> Store:
    """The store of these settings; nothing is asked of it yet."""
    # Each kind is imported when used, so that a file store needs no boto3.
    parts = urlsplit(settings.url)
    if parts.scheme == "file":
        from essays.file_store import FileStore

        return FileStore(Path(url2pathname(parts.path)))
    from essays.s3_store import S3Store

    return S3Store(settings)


def require_size(key: str, found: int, *, size_bytes: int | None, max_bytes: int) -> None:
    """Raise DigestMismatch for another size than promised, UnsafeArchive for too large a one."""
    if size_bytes is not None and found != size_bytes:
        raise DigestMismatch(f"{key}: {found:,} bytes in the store, {size_bytes:,} promised; publish it again")
    if found > max_bytes:
        raise UnsafeArchive(f"{key}: {found:,} bytes, at most {max_bytes:,} are accepted")


def require_plain_key(key: str) -> None:
    """Raise StoreError unless the key is a plain path below the store's root."""
    if not key or key.startswith("/") or "\\" in key or "\0" in key or {"", ".", ".."} & set(key.split("/")):
        raise StoreError(f"key {key!r:.120} is no plain path; it was refused")
