"""Bundles: the same bytes each time, and nothing accepted that is not exactly what was promised."""

import copy
import hashlib
import io
import json
import resource
import stat
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from essays.bundle import Limits, verify_and_extract, write_bundle
from essays.errors import ArtifactError, DigestMismatch, InvalidManifest, UnsafeArchive
from essays.manifest import MANIFEST_FILE, FileEntry, Manifest, content_version, describe_file

CONTENT = {
    "model.onnx": b"graph bytes " * 2000,
    "calibration.json": b"{}",
    "golden.json": b"{}",
    "card.md": b"# tiny\n",
}


def make_manifest(files: dict[str, bytes]) -> Manifest:
    tensor = {"name": "input_ids", "dtype": "int64", "shape": ["batch", "length"]}
    listed = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        for name, content in files.items()
    }
    manifest = Manifest.model_validate_json(
        json.dumps(
            {
                "name": "tiny",
                "version": "0" * 12,
                "kind": "lexical",
                "prompt_ids": ["asap-1"],
                "encoding": {"kind": "ngrams", "shortest": 1, "longest": 3, "num_buckets": 8},
                "graphs": [{"file": "model.onnx", "precision": "fp32", "inputs": [tensor], "outputs": [tensor]}],
                "metrics": [],
                "corpora": [],
                "git_commit": "unknown",
                "pipeline_digest": "unknown",
                "files": listed,
            }
        )
    )
    return manifest.model_copy(update={"version": content_version(manifest)})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for name, content in CONTENT.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def bundle(source: Path, tmp_path: Path) -> Path:
    return write_bundle(source, make_manifest(CONTENT), tmp_path / "out")


def craft(path: Path, fill: Callable[[zipfile.ZipFile], None], manifest: Manifest | None = None) -> Path:
    """A zip as an attacker would write it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of duplicate names, which are the point
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(MANIFEST_FILE, (manifest or make_manifest(CONTENT)).model_dump_json())
            for name, content in CONTENT.items():
                archive.writestr(name, content)
            fill(archive)
    return path


def refusal(path: Path, tmp_path: Path, limits: Limits | None = None) -> ArtifactError:
    staging = tmp_path / "inside" / "staging"
    with pytest.raises(ArtifactError) as caught:
        verify_and_extract(path, describe_file(path), staging, limits)
    outside = [each for each in (tmp_path / "inside").rglob("*") if not each.is_relative_to(staging)]
    assert outside == []
    assert path.name in str(caught.value)
    return caught.value


def test_two_bundles_of_the_same_content_are_the_same_bytes(source: Path, tmp_path: Path) -> None:
    first = write_bundle(source, make_manifest(CONTENT), tmp_path / "one")
    (source / "card.md").touch()
    second = write_bundle(source, make_manifest(CONTENT), tmp_path / "two")
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


def test_the_version_follows_the_content() -> None:
    changed = make_manifest({**CONTENT, "card.md": b"# other\n"})
    assert changed.version != make_manifest(CONTENT).version
    assert content_version(changed) == changed.version


def test_what_was_written_comes_out_again(bundle: Path, tmp_path: Path) -> None:
    manifest = verify_and_extract(bundle, describe_file(bundle), tmp_path / "staging")
    assert manifest == make_manifest(CONTENT)
    found = {path.name: path.read_bytes() for path in (tmp_path / "staging").iterdir()}
    assert found.keys() == {*CONTENT, MANIFEST_FILE}
    assert all(found[name] == content for name, content in CONTENT.items())


def test_a_file_that_changed_after_the_manifest_is_not_packed(source: Path, tmp_path: Path) -> None:
    (source / "card.md").write_text("# changed\n")
    with pytest.raises(DigestMismatch, match=r"card\.md"):
        write_bundle(source, make_manifest(CONTENT), tmp_path / "out")
    assert list((tmp_path / "out").glob("*.zip")) == []


@pytest.mark.row(5)
def test_a_zip_with_a_changed_byte_is_refused_before_it_is_opened(bundle: Path, tmp_path: Path) -> None:
    expected = describe_file(bundle)
    raw = bytearray(bundle.read_bytes())
    raw[len(raw) // 2] ^= 1
    bundle.write_bytes(raw)
    with pytest.raises(DigestMismatch, match=expected.sha256[:12]):
        verify_and_extract(bundle, expected, tmp_path / "staging")
    assert not (tmp_path / "staging").exists()


@pytest.mark.row(5)
def test_a_truncated_zip_is_refused(bundle: Path, tmp_path: Path) -> None:
    expected = describe_file(bundle)
    bundle.write_bytes(bundle.read_bytes()[:-1])
    with pytest.raises(DigestMismatch, match="promised"):
        verify_and_extract(bundle, expected, tmp_path / "staging")


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny-1.zip"
    path.write_bytes(b"<html>not found</html>")
    assert "not a readable zip" in str(refusal(path, tmp_path))


@pytest.mark.row(7)
@pytest.mark.parametrize(
    "name", ["../out.txt", "/etc/out", "C:\\out", "a\\b", "a/b.txt", "nul\x00name", "tab\tname", "..", "x" * 101, "é"]
)
def test_names_that_leave_the_folder_or_hide_are_refused(name: str, tmp_path: Path) -> None:
    # A name with NUL is written raw: zipfile's writer cuts it, an attacker does not.
    def fill(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo("placeholder")
        info.filename = name
        archive.writestr(info, b"x")

    assert isinstance(refusal(craft(tmp_path / "tiny-1.zip", fill), tmp_path), UnsafeArchive)


@pytest.mark.row(7)
@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFBLK, stat.S_IFIFO])
def test_links_folders_and_devices_are_refused(kind: int, tmp_path: Path) -> None:
    def fill(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo("entry")
        info.create_system = 3
        info.external_attr = (kind | 0o777) << 16
        archive.writestr(info, b"/etc/passwd")

    assert "link, folder or device" in str(refusal(craft(tmp_path / "tiny-1.zip", fill), tmp_path))


@pytest.mark.row(9)
@pytest.mark.parametrize("name", ["card.md", "CARD.md"])
def test_names_that_collide_are_refused(name: str, tmp_path: Path) -> None:
    path = craft(tmp_path / "tiny-1.zip", lambda archive: archive.writestr(name, b"x"))
    assert "collide" in str(refusal(path, tmp_path))


@pytest.mark.row(9)
def test_a_file_that_the_manifest_does_not_list_is_refused(tmp_path: Path) -> None:
    path = craft(tmp_path / "tiny-1.zip", lambda archive: archive.writestr("extra.bin", b"x"))
    assert "extra.bin" in str(refusal(path, tmp_path))


def test_a_listed_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    manifest = make_manifest({**CONTENT, "tokenizer.json": b"{}"})
    path = craft(tmp_path / "tiny-1.zip", lambda archive: None, manifest)
    error = refusal(path, tmp_path)
    assert isinstance(error, InvalidManifest)
    assert "tokenizer.json" in str(error)


def test_a_file_with_another_digest_than_listed_is_refused(tmp_path: Path) -> None:
    manifest = make_manifest({**CONTENT, "card.md": b"# tinY\n"})
    path = craft(tmp_path / "tiny-1.zip", lambda archive: None, manifest)
    error = refusal(path, tmp_path)
    assert isinstance(error, DigestMismatch)
    assert "card.md" in str(error)


@pytest.mark.row(6)
def test_a_zip_without_a_manifest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny-1.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.onnx", b"x")
    assert isinstance(refusal(path, tmp_path), InvalidManifest)


def test_a_manifest_of_another_schema_is_refused(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny-1.zip"
    text = make_manifest(CONTENT).model_dump_json().replace('"schema_version":1', '"schema_version":2')
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MANIFEST_FILE, text)
        for name, content in CONTENT.items():
            archive.writestr(name, content)
    assert "schema_version" in str(refusal(path, tmp_path))


@pytest.mark.parametrize(
    ("limits", "word"),
    [
        (Limits(max_files=3), "entries"),
        (Limits(max_total_bytes=1000, max_ratio=1e9), "bytes extracted"),
        (Limits(max_ratio=10), "grow"),
    ],
)
def test_archives_beyond_the_limits_are_refused(limits: Limits, word: str, tmp_path: Path) -> None:
    path = craft(tmp_path / "tiny-1.zip", lambda archive: archive.writestr("bomb.bin", bytes(2_000_000)))
    assert word in str(refusal(path, tmp_path, limits))


def test_entries_that_share_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny-1.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MANIFEST_FILE, make_manifest(CONTENT).model_dump_json())
        for name, content in CONTENT.items():
            archive.writestr(name, content)
        first = archive.getinfo("model.onnx")
        archive.getinfo("card.md").header_offset = first.header_offset
    assert isinstance(refusal(path, tmp_path), UnsafeArchive)


def _deep_bomb(path: Path) -> None:
    """Ratio 1,000, as deflate gives at most."""
    craft(path, lambda archive: archive.writestr("bomb.bin", bytes(300_000_000)))


def _wide_bomb(path: Path) -> None:
    """A total beyond the cap, each file within the ratio: sizes in the directory are only promises."""
    with zipfile.ZipFile(path, "w") as archive:
        for place in range(40):
            archive.writestr(f"part-{place}", b"x")
            info = archive.filelist[-1]
            info.file_size, info.compress_size = 2 << 30, 16 << 20


def _many_entries(path: Path) -> None:
    """A directory of 100,000 entries."""
    with zipfile.ZipFile(path, "w") as archive:
        for place in range(1000):
            archive.writestr(f"{place:05}", b"")
        archive.filelist *= 100
        archive._didModify = True


def _nested(path: Path) -> None:
    """A bomb in a zip in the zip: nothing opens it."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.bin", bytes(50_000_000))
    craft(path, lambda archive: archive.writestr("inner.zip", inner.getvalue()))


def _overlapping(path: Path) -> None:
    """Many names for the same bytes (Fifield, 2019)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("kernel", bytes(900_000))
        kernel = archive.filelist[0]
        for place in range(40):
            other = copy.copy(kernel)
            other.filename = other.orig_filename = f"name-{place}"
            archive.filelist.append(other)


@pytest.mark.row(8)
@pytest.mark.parametrize("make", [_deep_bomb, _wide_bomb, _many_entries, _nested, _overlapping])
def test_a_bomb_is_stopped_at_once(make: Callable[[Path], None], tmp_path: Path, figure: Callable[[str], None]) -> None:
    path = tmp_path / "tiny-1.zip"
    make(path)
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert isinstance(refusal(path, tmp_path), UnsafeArchive | InvalidManifest)
    took_s = time.monotonic() - started
    assert took_s < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    written = sum(each.stat().st_size for each in (tmp_path / "inside").rglob("*") if each.is_file())
    assert written < 10_000_000
    figure(f"{make.__name__.strip('_').replace('_', ' ')}: {took_s * 1000:.0f} ms")


def test_a_directory_that_lies_about_a_size_is_refused(bundle: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(bundle, "a") as archive:
        archive.getinfo("card.md").file_size = 3
        archive.writestr("extra", b"")
        archive.filelist.pop()
        archive._didModify = True
    assert isinstance(refusal(bundle, tmp_path), ArtifactError)


def test_a_wrong_expected_size_is_named(bundle: Path, tmp_path: Path) -> None:
    expected = describe_file(bundle)
    wrong = FileEntry(sha256=expected.sha256, size_bytes=expected.size_bytes + 1)
    with pytest.raises(DigestMismatch, match=f"{wrong.size_bytes:,} promised"):
        verify_and_extract(bundle, wrong, tmp_path / "staging")
