"""Bundles: one zip per published model, written the same byte for byte each time, and opened with suspicion.

Opening checks in this order: size and digest of the zip, every name and size in its directory, the manifest, then
each file's digest while it is written into a staging folder. Nothing is parsed before its digest was right, and nothing
is written outside the staging folder. Renaming that folder into place is the caller's step.
"""

import hashlib
import os
import stat
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from essays.digests import sha256_of
from essays.engines import EngineManifest
from essays.errors import DigestMismatch, InvalidManifest, UnsafeArchive
from essays.manifest import MANIFEST_FILE, FileEntry, Manifest, parse_manifest
from essays.params import Section, section_text

# Fixed, so that time and user do not reach the bytes; 1980 is the oldest year that zip knows.
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)
_MODE = stat.S_IFREG | 0o644
_CHUNK_BYTES = 1 << 20
_MAX_NAME_CHARACTERS = 100
_MAX_MANIFEST_BYTES = 1 << 20
# Of one entry in the archive's directory: its name, and what writers add.
_MAX_ENTRY_BYTES = 1024
# The end of a zip: with large files a record and its locator, then always the record of the classic form.
_LARGE_DIRECTORY_END = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_BYTES = 20
_DIRECTORY_END = struct.Struct("<4s4H2LH")


class Limits(Section):
    """What an archive may ask for; far above any model of ours and far below what would hurt."""

    max_files: int = 64
    """Entries."""
    max_total_bytes: int = 64 << 30
    """Extracted size of all files."""
    max_ratio: float = 200.0
    """Extracted size over archived size, of any one file larger than a megabyte."""


def bundle_name(name: str, version: str) -> str:
    """`NAME-VERSION.zip`."""
    return f"{name}-{version}.zip"


def write_bundle(folder: Path, manifest: Manifest | EngineManifest, out_folder: Path) -> Path:
    """Zip the files that the manifest lists, with it, into `out_folder`; the same bytes for the same content.

    Raises DigestMismatch when a file in `folder` is not what the manifest says.
    """
    out_folder.mkdir(parents=True, exist_ok=True)
    path = out_folder / bundle_name(manifest.name, manifest.version)
    staging = path.with_suffix(".part")
    with zipfile.ZipFile(staging, "w") as archive:
        _add(archive, MANIFEST_FILE, section_text(manifest).encode())
        for name, entry in sorted(manifest.files.items()):
            content = (folder / name).read_bytes()
            _require_content(content, entry, f"{folder / name}")
            _add(archive, name, content)
    staging.replace(path)
    return path


def read_bundle_manifest(path: Path) -> Manifest:
    """The manifest of a bundle that we made ourselves; for anything that was downloaded use `verify_and_extract`."""
    with zipfile.ZipFile(path) as archive:
        return parse_manifest(archive.read(MANIFEST_FILE), str(path))


def verify_and_extract(path: Path, expected: FileEntry, staging: Path, limits: Limits | None = None) -> Manifest:
    """Check a bundle and extract it into `staging`, which must not exist yet; files and folder are synced to disk.

    Raises DigestMismatch, UnsafeArchive or InvalidManifest, naming bundle and file; then `staging` may hold a part and
    is the caller's to remove.
    """
    require_digest(path, expected)
    limits = limits or Limits()
    _require_small_directory(path, limits)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _checked_entries(path, archive, limits)
            manifest = _read_manifest(path, archive)
            _require_same_files(path, entries, manifest)
            staging.mkdir(parents=True)
            for entry in entries:
                _extract(path, archive, entry, staging, manifest.files.get(entry.filename))
    except (zipfile.BadZipFile, struct.error, NotImplementedError, EOFError) as error:
        raise UnsafeArchive(f"{path.name}: not a readable zip: {error}; publish the model again") from error
    sync_folder(staging)
    return manifest


def require_digest(path: Path, expected: FileEntry) -> None:
    """Raise DigestMismatch unless the file has this size and sha256."""
    size_bytes = path.stat().st_size
    if size_bytes != expected.size_bytes:
        raise DigestMismatch(
            f"{path.name}: {size_bytes:,} bytes, {expected.size_bytes:,} promised; download or publish it again"
        )
    found = sha256_of(path)
    if found != expected.sha256:
        raise DigestMismatch(
            f"{path.name}: sha256 {found[:12]}…, {expected.sha256[:12]}… promised; download or publish it again"
        )


def sync_folder(folder: Path) -> None:
    """Make a folder's entries survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, _TIMESTAMP)
    info.external_attr = _MODE << 16
    info.create_system = 3  # Unix, wherever it was written
    # Not deflated: another machine's zlib packs to other bytes, and weights hardly shrink.
    info.compress_type = zipfile.ZIP_STORED
    archive.writestr(info, content)


def _require_content(content: bytes, entry: FileEntry, where: str) -> None:
    if len(content) != entry.size_bytes or hashlib.sha256(content).hexdigest() != entry.sha256:
        raise DigestMismatch(f"{where}: not the file that the manifest lists; package the model again")


def _require_small_directory(path: Path, limits: Limits) -> None:
    """Refuse a directory that would take long to read: zipfile makes an object for each of its entries first.

    A directory that says it is small and is not ends the same way: zipfile reads as many bytes as it says.
    """
    ending_bytes = _DIRECTORY_END.size + _LOCATOR_BYTES + _LARGE_DIRECTORY_END.size
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - ending_bytes))
        ending = file.read().rjust(ending_bytes, b"\0")
    large, end = ending[: _LARGE_DIRECTORY_END.size], ending[-_DIRECTORY_END.size :]
    if not end.startswith(b"PK\5\6"):
        raise UnsafeArchive(f"{path.name}: not a readable zip: it ends otherwise than ours; publish the model again")
    size_bytes = _DIRECTORY_END.unpack(end)[5]
    if large.startswith(b"PK\6\6"):
        size_bytes = _LARGE_DIRECTORY_END.unpack(large)[8]
    if size_bytes > limits.max_files * _MAX_ENTRY_BYTES:
        raise UnsafeArchive(f"{path.name}: a directory of {size_bytes:,} bytes, far more than {limits.max_files} files")


def _checked_entries(path: Path, archive: zipfile.ZipFile, limits: Limits) -> Sequence[zipfile.ZipInfo]:
    """The archive's entries, after its directory alone was looked at."""
    entries = archive.infolist()
    if len(entries) > limits.max_files:
        raise UnsafeArchive(f"{path.name}: {len(entries)} entries, at most {limits.max_files} are accepted")
    for entry in entries:
        _require_safe(path, entry, limits)
    folded = [entry.filename.casefold() for entry in entries]
    if doubled := sorted({name for name in folded if folded.count(name) > 1}):
        raise UnsafeArchive(f"{path.name}: names that collide: {', '.join(doubled)}")
    total = sum(entry.file_size for entry in entries)
    if total > limits.max_total_bytes:
        raise UnsafeArchive(f"{path.name}: {total:,} bytes extracted, at most {limits.max_total_bytes:,} are accepted")
    _require_apart(path, entries)
    return entries


def _require_safe(path: Path, entry: zipfile.ZipInfo, limits: Limits) -> None:
    # zipfile cuts a name at NUL and rewrites separators; `orig_filename` is what the archive says.
    name = entry.orig_filename
    plain = name == entry.filename and name.isascii() and name.isprintable() and len(name) <= _MAX_NAME_CHARACTERS
    if not plain or any(mark in name for mark in '/\\:*?"<>|') or name.strip(". ") != name or not name:
        raise UnsafeArchive(f"{path.name}: entry {name!r:.120} is no plain file name")
    mode = entry.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise UnsafeArchive(f"{path.name}: entry {name} is a link, folder or device, not a file")
    if entry.flag_bits & 0x1:
        raise UnsafeArchive(f"{path.name}: entry {name} is encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnsafeArchive(f"{path.name}: entry {name} is packed by method {entry.compress_type}, expected deflate")
    if entry.file_size > 1_000_000 and entry.file_size > limits.max_ratio * max(entry.compress_size, 1):
        raise UnsafeArchive(f"{path.name}: entry {name} would grow more than {limits.max_ratio:g} times")


def _require_apart(path: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    """Entries that share bytes of the archive make small bombs large (Fifield, 2019)."""
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            raise UnsafeArchive(f"{path.name}: entry {entry.filename} overlaps another")
        end = entry.header_offset + entry.compress_size


def _read_manifest(path: Path, archive: zipfile.ZipFile) -> Manifest:
    try:
        entry = archive.getinfo(MANIFEST_FILE)
    except KeyError as error:
        raise InvalidManifest(f"{path.name}: no {MANIFEST_FILE} inside; publish the model again") from error
    if entry.file_size > _MAX_MANIFEST_BYTES:
        raise InvalidManifest(f"{path.name}: {MANIFEST_FILE} has {entry.file_size:,} bytes, too many for a list")
    return parse_manifest(archive.read(entry), f"{path.name}: {MANIFEST_FILE}")


def _require_same_files(path: Path, entries: Sequence[zipfile.ZipInfo], manifest: Manifest) -> None:
    there = {entry.filename for entry in entries} - {MANIFEST_FILE}
    if missing := sorted(set(manifest.files) - there):
        raise InvalidManifest(f"{path.name}: listed in its manifest and not there: {', '.join(missing)}")
    if surplus := sorted(there - set(manifest.files)):
        raise UnsafeArchive(f"{path.name}: there and not listed in its manifest: {', '.join(surplus)}")


def _extract(
    path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, staging: Path, expected: FileEntry | None
) -> None:
    digest, size_bytes = hashlib.sha256(), 0
    with archive.open(entry) as source, (staging / entry.filename).open("xb") as target:
        while chunk := source.read(_CHUNK_BYTES):
            size_bytes += len(chunk)
            # The directory's size was checked; a stream that goes beyond it lies.
            if size_bytes > entry.file_size:
                raise UnsafeArchive(f"{path.name}: entry {entry.filename} is larger than its directory says")
            digest.update(chunk)
            target.write(chunk)
        _sync_file(target)
    if expected and (size_bytes != expected.size_bytes or digest.hexdigest() != expected.sha256):
        raise DigestMismatch(f"{path.name}: {entry.filename} is not the file that its manifest lists")


def _sync_file(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
