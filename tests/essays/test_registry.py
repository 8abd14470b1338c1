import json

import pytest

from essays.errors import InvalidManifest, ObjectMissing, PreconditionFailed
from essays.registry import (
    ChampionPointer,
    bundle_key,
    champion_key,
    find_champion,
    has_bundle,
    list_champions,
    move_champion,
    publish_bundle,
    read_champion,
)
from essays.settings import StoreSettings
from essays.store import open_store


@pytest.fixture(params=["s3", "file"])
def store(request, tmp_path):
    if request.param == "file":
        return open_store(StoreSettings(url=(tmp_path / "store").as_uri()))
    server = request.getfixturevalue("s3")
    return open_store(
        StoreSettings(
            url=f"s3://{server.make_bucket()}",
            endpoint_url=server.endpoint,
            access_key_id=server.access_key,
            secret_access_key=server.secret_key,
        )
    )


def pointer(name: str = "lexical", version: str = "0123456789ab", sha256: str = "a" * 64) -> ChampionPointer:
    return ChampionPointer(
        name=name, version=version, sha256=sha256, size_bytes=5, key=bundle_key(name, version), metrics=()
    )


def test_a_bundle_is_sent_once_and_again_when_its_bytes_differ(store, tmp_path):
    (tmp_path / "bundle.zip").write_bytes(b"12345")
    promised = pointer(sha256="5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5")
    assert not has_bundle(store, promised)
    assert publish_bundle(store, tmp_path / "bundle.zip", promised)
    assert has_bundle(store, promised)
    assert not publish_bundle(store, tmp_path / "bundle.zip", promised)
    assert not has_bundle(store, pointer(sha256="b" * 64))
    assert list_champions(store) == []


def test_champions_are_listed_and_read_as_they_were_moved(store):
    assert find_champion(store, "lexical") is None
    moved = move_champion(store, pointer(), replacing=None)
    move_champion(store, pointer("lstm"), replacing=None)
    assert list_champions(store) == ["lexical", "lstm"]
    assert read_champion(store, "lexical") == moved
    newer = move_champion(store, pointer(version="ba9876543210"), replacing=moved)
    assert read_champion(store, "lexical") == newer


def test_of_two_who_move_a_champion_the_second_is_refused(store):
    first = move_champion(store, pointer(), replacing=None)
    with pytest.raises(PreconditionFailed):
        move_champion(store, pointer(version="1" * 12), replacing=None)
    move_champion(store, pointer(version="2" * 12), replacing=first)
    with pytest.raises(PreconditionFailed):
        move_champion(store, pointer(version="3" * 12), replacing=first)
    assert read_champion(store, "lexical").pointer.version == "2" * 12


def test_a_model_without_a_champion_is_named(store):
    with pytest.raises(ObjectMissing, match=r"lstm has no champion \(models/lstm/champion\.json\)"):
        read_champion(store, "lstm")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "no pointer"),
        (json.dumps({"schema_version": 2}).encode(), "no pointer"),
        (pointer("lstm").model_dump_json().encode(), "points to lstm, expected lexical"),
    ],
)
def test_a_pointer_that_is_none_is_refused(tmp_path, content, said):
    store = open_store(StoreSettings(url=tmp_path.as_uri()))
    store.put_bytes(champion_key("lexical"), content)
    with pytest.raises(InvalidManifest, match=said):
        read_champion(store, "lexical")


def test_a_pointer_of_an_older_publisher_is_read(tmp_path):
    store = open_store(StoreSettings(url=tmp_path.as_uri()))
    least = {
        key: value for key, value in pointer().model_dump().items() if key not in ("metrics", "members", "override")
    }
    store.put_bytes(champion_key("lexical"), json.dumps(least).encode())
    assert read_champion(store, "lexical").pointer == pointer()
