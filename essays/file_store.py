"""A store in a folder, for one machine and for shared disks: the same promises as S3, kept with locks and renames."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from essays.errors import ObjectMissing, PreconditionFailed, StoreDenied, StoreError
from essays.store import MAX_READ_BYTES, Blob, ObjectInfo, OnProgress, require_plain_key, require_size

_LOCK_FILE = ".lock"
_CHUNK_BYTES = 1 << 20


class FileStore:
    """Objects are files below `root`; an etag is the content's sha256."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = root.as_uri()

    def read(self, key: str) -> Blob:
        """See `Store`."""
        with self._explained(key):
            require_size(key, self._path(key).stat().st_size, size_bytes=None, max_bytes=MAX_READ_BYTES)
            content = self._path(key).read_bytes()
        return Blob(content, hashlib.sha256(content).hexdigest())

    def put_bytes(self, key: str, content: bytes, *, if_match: str | None = None, if_none_match: bool = False) -> str:
        """See `Store`."""
        with self._explained(key), self._locked():
            found = self.head(key).etag if self.exists(key) else None
            if (if_none_match and found is not None) or (if_match is not None and found != if_match):
                raise PreconditionFailed(f"{self.url}/{key}: somebody else wrote it first; look at it and try again")
            with self._replacing(self._path(key)) as staging:
                staging.write_bytes(content)
        return hashlib.sha256(content).hexdigest()

    def head(self, key: str) -> ObjectInfo:
        """See `Store`."""
        with self._explained(key), self._path(key).open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return ObjectInfo(key, os.fstat(file.fileno()).st_size, etag=sha256, sha256=sha256)

    def exists(self, key: str) -> bool:
        """See `Store`."""
        return self._path(key).is_file()

    def list_keys(self, prefix: str = "") -> list[str]:
        """See `Store`; a folder that is not there yet is an empty store."""
        files = (path.relative_to(self.root) for path in self.root.rglob("*") if path.is_file())
        # Dotted names are the lock and writes under way.
        return sorted(p.as_posix() for p in files if p.as_posix().startswith(prefix) and not p.name.startswith("."))

    def download(
        self,
        key: str,
        path: Path,
        *,
        max_bytes: int,
        size_bytes: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        """See `Store`."""
        with self._explained(key), self._path(key).open("rb") as source:
            total = os.fstat(source.fileno()).st_size
            require_size(key, total, size_bytes=size_bytes, max_bytes=max_bytes)
            with path.open("wb") as target:
                while chunk := source.read(_CHUNK_BYTES):
                    target.write(chunk)
                    if on_progress:
                        on_progress(target.tell(), total)

    def upload(self, path: Path, key: str, sha256: str, on_progress: OnProgress | None = None) -> None:
        """See `Store`; the digest is that of the file itself, so `sha256` is not kept."""
        with self._explained(key), self._replacing(self._path(key)) as staging:
            shutil.copyfile(path, staging)
        if on_progress:
            on_progress(path.stat().st_size, path.stat().st_size)

    def _path(self, key: str) -> Path:
        require_plain_key(key)
        return self.root / key

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / _LOCK_FILE).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _replacing(self, path: Path) -> Iterator[Path]:
        """A file beside `path` that takes its place when the block ends well: readers see the old or the new."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".put-", dir=path.parent) as folder:
            staging = Path(folder) / path.name
            yield staging
            with staging.open("rb") as file:
                os.fsync(file.fileno())
            staging.replace(path)

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise ObjectMissing(f"{self.url}/{key}: there is no such object; publish it first") from error
        except PermissionError as error:
            raise StoreDenied(f"{self.url}/{key}: this user may not read or write it ({error.strerror})") from error
        except (NotADirectoryError, IsADirectoryError) as error:
            raise StoreError(f"{self.url}/{key}: {error.strerror}; the store's folder holds something else") from error
