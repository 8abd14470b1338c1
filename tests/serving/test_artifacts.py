"""From a store to verified folders: fetched once, whole or not at all, and reused."""

import threading
from pathlib import Path
from typing import Any

import pytest

from essays.bundle import write_bundle
from essays.engines import ENGINE_FILE, Bucket, EngineManifest, engine_version
from essays.errors import ArtifactError, DigestMismatch, InvalidManifest, ObjectMissing
from essays.manifest import GRAPH_FILE, MANIFEST_FILE, describe_file
from essays.registry import bundle_key, champion_key, move_champion, read_champion
from essays.store import Store
from serving.artifacts import HAND_OVER_VARIABLE, acquire, hand_over, handed_over

NAMES = ["ensemble", "lexical", "tiny"]


@pytest.fixture
def store(file_store: Store, bundles: Any) -> Store:
    """A store with the three models as champions."""
    bundles.publish(file_store)
    return file_store


def object_path(store: Store, key: str) -> Path:
    return Path(store.url.removeprefix("file://")) / key


def bundle_path(store: Store, name: str) -> Path:
    return object_path(store, bundle_key(name, read_champion(store, name).pointer.version))


def contents(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()} - {".lock", ".state", "staging"}


def test_every_champion_becomes_a_folder_named_by_its_digest_and_no_zip_stays(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "models"
    artifacts = acquire(store, [], root)
    assert sorted(artifact.name for artifact in artifacts) == NAMES
    for artifact in artifacts:
        pointer = read_champion(store, artifact.name).pointer
        assert artifact.folder == root / pointer.sha256
        assert (artifact.version, artifact.digest) == (pointer.version, pointer.sha256)
        assert (artifact.folder / MANIFEST_FILE).exists()
    assert contents(root) == {artifact.digest for artifact in artifacts}
    assert list(root.rglob("*.zip")) == []
    assert list((root / "staging").iterdir()) == []


def test_a_second_start_fetches_nothing(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = acquire(store, [], tmp_path / "models")
    # With no bundle left in the store, any fetch would fail.
    for name in NAMES:
        bundle_path(store, name).unlink()
    capsys.readouterr()
    assert acquire(store, [], tmp_path / "models") == first
    said = capsys.readouterr().err
    assert said.count("found ") == 3
    assert "fetched" not in said


def test_a_damaged_folder_is_fetched_again(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "models"
    tiny = next(artifact for artifact in acquire(store, [], root) if artifact.name == "tiny")
    graph = tiny.folder / GRAPH_FILE
    whole = graph.read_bytes()
    for damage in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), None):
        graph.write_bytes(damage) if damage else graph.unlink()
        acquire(store, [], root)
        assert graph.read_bytes() == whole


def test_what_an_interrupted_start_left_is_cleared(store: Store, tmp_path: Path) -> None:
    staging = tmp_path / "models" / "staging"
    (staging / "half").mkdir(parents=True)
    (staging / "half" / GRAPH_FILE).write_bytes(b"half")
    (staging / "tiny.zip").write_bytes(b"half")
    assert len(acquire(store, [], tmp_path / "models")) == 3
    assert list(staging.iterdir()) == []


def test_named_models_alone_are_fetched_and_an_ensemble_brings_its_members(store: Store, tmp_path: Path) -> None:
    assert [artifact.name for artifact in acquire(store, ["tiny"], tmp_path / "one")] == ["tiny"]
    both = acquire(store, ["ensemble"], tmp_path / "two")
    assert sorted(artifact.name for artifact in both) == NAMES


def test_an_empty_store_says_so(file_store: Store, tmp_path: Path) -> None:
    with pytest.raises(ObjectMissing, match="no model has a champion"):
        acquire(file_store, [], tmp_path / "models")


def test_a_missing_bundle_and_a_missing_champion_are_named(store: Store, tmp_path: Path) -> None:
    bundle_path(store, "tiny").unlink()
    with pytest.raises(ObjectMissing, match=r"models/tiny/[0-9a-f]{12}\.zip"):
        acquire(store, [], tmp_path / "models")
    object_path(store, champion_key("lexical")).unlink()
    with pytest.raises(ObjectMissing, match="lexical has no champion"):
        acquire(store, ["ensemble"], tmp_path / "models")


@pytest.mark.parametrize("where", [0, 200, -1])
def test_a_flipped_bit_is_refused_before_anything_is_placed(store: Store, tmp_path: Path, where: int) -> None:
    path = bundle_path(store, "tiny")
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)
    with pytest.raises(DigestMismatch, match="tiny"):
        acquire(store, ["tiny"], tmp_path / "models")
    assert contents(tmp_path / "models") == set()


def test_a_pointer_to_another_models_bundle_is_refused(store: Store, tmp_path: Path) -> None:
    pointer = read_champion(store, "lexical").pointer
    object_path(store, champion_key("tiny")).write_text(pointer.model_copy(update={"name": "tiny"}).model_dump_json())
    with pytest.raises(InvalidManifest, match="holds lexical@"):
        acquire(store, ["tiny"], tmp_path / "models")


@pytest.mark.row(15)
@pytest.mark.parametrize("architecture", ["sm75", "sm90"])
def test_an_engine_in_a_models_place_is_refused_for_whichever_gpu_it_was_built(
    store: Store, tmp_path: Path, architecture: str
) -> None:
    """No service loads engines: what it refuses is read off the manifest, before the plan is looked at."""
    built = tmp_path / "built"
    built.mkdir()
    (built / ENGINE_FILE).write_bytes(b"a plan of another machine")
    champion = read_champion(store, "tiny")
    engine = EngineManifest(
        name="tiny",
        version="0" * 12,
        model_version=champion.pointer.version,
        architecture=architecture,
        builder="tensorrt",
        builder_version="10.1.0",
        precision="fp16",
        buckets=(Bucket(shortest=1, longest=128, most_essays=8),),
        inputs=(),
        outputs=(),
        files={ENGINE_FILE: describe_file(built / ENGINE_FILE)},
    )
    engine = engine.model_copy(update={"version": engine_version(engine)})
    bundle = write_bundle(built, engine, tmp_path)
    entry = describe_file(bundle)
    pointer = champion.pointer.model_copy(
        update={
            "version": engine.version,
            "sha256": entry.sha256,
            "size_bytes": entry.size_bytes,
            "key": bundle_key("tiny", engine.version),
        }
    )
    store.upload(bundle, pointer.key, pointer.sha256)
    move_champion(store, pointer, champion)
    root = tmp_path / "models"
    with pytest.raises(InvalidManifest, match=rf"tiny-{engine.version}\.zip: .*not a manifest of schema 1: kind: "):
        acquire(store, ["tiny"], root)
    assert contents(root) == set()
    refused: dict[str, str] = {}
    served = acquire(store, ["tiny", "lexical"], root, on_refused=lambda name, why: refused.update({name: str(why)}))
    assert ([artifact.name for artifact in served], list(refused)) == (["lexical"], ["tiny"])


def test_a_folder_that_cannot_be_written_is_named(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArtifactError, match="FAIRMARK_SERVICE__ARTIFACT_FOLDER"):
        acquire(store, [], tmp_path / "file" / "models")


def test_instances_that_start_at_once_share_one_copy(store: Store, tmp_path: Path) -> None:
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda: results.append(acquire(store, [], tmp_path / "models"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(result == results[0] for result in results)
    assert len(contents(tmp_path / "models")) == 3


def test_workers_read_what_their_parent_left(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HAND_OVER_VARIABLE, raising=False)
    assert handed_over() is None
    artifacts = acquire(store, [], tmp_path / "models")
    monkeypatch.setenv(HAND_OVER_VARIABLE, "")
    hand_over(artifacts)
    assert handed_over() == artifacts
