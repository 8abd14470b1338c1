import hashlib
import socket
import uuid
from pathlib import Path

import pytest
from pydantic import SecretStr

from essays.backoff import Backoff
from essays.errors import (
    DigestMismatch,
    ObjectMissing,
    PreconditionFailed,
    StoreDenied,
    StoreError,
    StoreUnreachable,
    UnsafeArchive,
)
from essays.settings import StoreSettings
from essays.store import MAX_READ_BYTES, Store, open_store
from tests.fault_proxy import fault_proxy

PLENTY = 1 << 30
PART_BYTES = 8 << 20


@pytest.fixture(scope="module")
def bucket(s3) -> str:
    return s3.make_bucket()


@pytest.fixture
def settings(s3, bucket) -> StoreSettings:
    return StoreSettings(
        url=f"s3://{bucket}/tests/{uuid.uuid4().hex}",
        endpoint_url=s3.endpoint,
        access_key_id=s3.access_key,
        secret_access_key=s3.secret_key,
        connect_timeout_s=2.0,
        read_timeout_s=5.0,
        max_attempts=2,
    )


@pytest.fixture(params=["s3", "file"])
def store(request, tmp_path) -> Store:
    if request.param == "file":
        return open_store(StoreSettings(url=(tmp_path / "store").as_uri()))
    return open_store(request.getfixturevalue("settings"))


def test_bytes_come_back_as_they_went_in(store):
    etag = store.put_bytes("models/a/champion.json", b"{}")
    blob = store.read("models/a/champion.json")
    assert blob.content == b"{}"
    assert blob.etag == etag == store.head("models/a/champion.json").etag


def test_keys_are_listed_by_prefix_and_in_order(store):
    assert store.list_keys() == []
    for key in ("models/b/2.zip", "models/a/1.zip", "other/x"):
        store.put_bytes(key, b"1")
    assert store.list_keys("models/") == ["models/a/1.zip", "models/b/2.zip"]
    assert store.list_keys() == ["models/a/1.zip", "models/b/2.zip", "other/x"]


def test_an_object_that_is_not_there_is_named(store):
    assert not store.exists("models/none.zip")
    for call in (store.read, store.head):
        with pytest.raises(ObjectMissing, match=r"models/none\.zip"):
            call("models/none.zip")


def test_conditional_writes_let_one_of_two_writers_win(store):
    first = store.put_bytes("pointer", b"1", if_none_match=True)
    with pytest.raises(PreconditionFailed, match="pointer"):
        store.put_bytes("pointer", b"2", if_none_match=True)
    store.put_bytes("pointer", b"3", if_match=first)
    with pytest.raises(PreconditionFailed, match="pointer"):
        store.put_bytes("pointer", b"4", if_match=first)
    assert store.read("pointer").content == b"3"


def test_files_go_up_with_their_digest_and_come_down_whole(store, tmp_path):
    # Above boto3's 8 MB, so that it goes up in parts.
    content = bytes(range(256)) * 4096 * 9
    (tmp_path / "up").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    sent, received = [], []
    store.upload(tmp_path / "up", "models/a/1.zip", digest, lambda done, total: sent.append((done, total)))
    info = store.head("models/a/1.zip")
    assert (info.size_bytes, info.sha256) == (len(content), digest)

    store.download(
        "models/a/1.zip",
        tmp_path / "down",
        max_bytes=PLENTY,
        size_bytes=len(content),
        on_progress=lambda done, total: received.append((done, total)),
    )
    assert (tmp_path / "down").read_bytes() == content
    assert sent[-1] == received[-1] == (len(content), len(content))


def test_sizes_are_refused_before_a_byte_is_fetched(store, tmp_path):
    store.put_bytes("k", b"12345")
    with pytest.raises(DigestMismatch, match="5 bytes in the store, 4 promised"):
        store.download("k", tmp_path / "down", max_bytes=PLENTY, size_bytes=4)
    with pytest.raises(UnsafeArchive, match="at most 4"):
        store.download("k", tmp_path / "down", max_bytes=4)
    assert not (tmp_path / "down").exists()


def test_an_object_that_should_be_small_and_is_not_is_not_read(store):
    store.put_bytes("pointer", bytes(MAX_READ_BYTES))
    assert len(store.read("pointer").content) == MAX_READ_BYTES
    store.put_bytes("pointer", bytes(MAX_READ_BYTES + 1))
    with pytest.raises(UnsafeArchive, match=r"pointer: 1,048,577 bytes, at most 1,048,576"):
        store.read("pointer")


@pytest.mark.parametrize("key", ["../up", "/etc/passwd", "a//b", "a/./b", "a\\b", "a\0b", ""])
def test_keys_that_leave_the_store_are_refused(store, key):
    with pytest.raises(StoreError, match="no plain path"):
        store.read(key)


def test_a_folder_that_may_not_be_written_is_denied(tmp_path):
    (tmp_path / "store").write_text("a file where the store's folder belongs")
    store = open_store(StoreSettings(url=(tmp_path / "store").as_uri()))
    with pytest.raises(StoreError, match="k"):
        store.read("k")


def test_wrong_credentials_are_denied_without_being_shown(settings):
    wrong = "wr0ng-s3cret-value"
    store = open_store(settings.model_copy(update={"secret_access_key": SecretStr(wrong)}))
    for call in (lambda: store.read("k"), lambda: store.head("k"), lambda: store.put_bytes("k", b""), store.list_keys):
        with pytest.raises(StoreDenied, match="access denied") as caught:
            call()
        assert wrong not in str(caught.value)


def test_missing_credentials_are_said_to_be_missing(settings, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    store = open_store(settings.model_copy(update={"access_key_id": None, "secret_access_key": None}))
    with pytest.raises(StoreDenied, match="no credentials"):
        store.list_keys()


def test_a_missing_bucket_is_named(settings, tmp_path):
    store = open_store(settings.model_copy(update={"url": "s3://no-such-bucket"}))
    with pytest.raises(ObjectMissing, match="no bucket 'no-such-bucket'"):
        store.list_keys()
    (tmp_path / "up").write_bytes(b"1")
    with pytest.raises(ObjectMissing, match="no bucket 'no-such-bucket'"):
        store.upload(tmp_path / "up", "k", "0" * 64)


def test_a_store_that_is_down_is_unreachable_and_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        store = open_store(
            StoreSettings(endpoint_url=endpoint, access_key_id="a", secret_access_key="b", max_attempts=2)
        )
        with pytest.raises(StoreUnreachable, match=endpoint):
            store.list_keys()
        with pytest.raises(StoreUnreachable, match=endpoint):
            store.download("k", tmp_path / "down", max_bytes=PLENTY)


@pytest.mark.row(3)
def test_a_download_reset_at_95_percent_goes_on_where_it_broke(settings, tmp_path, figure):
    content = bytes(range(256)) * 4096 * 12
    open_store(settings).put_bytes("big", content)
    with fault_proxy(settings.endpoint_url) as proxy:
        proxy.cut_after = len(content) * 95 // 100
        store = open_store(settings.model_copy(update={"endpoint_url": proxy.endpoint}))
        store.download("big", tmp_path / "down", max_bytes=PLENTY)
        assert proxy.cuts == 1
        twice = proxy.bytes_sent - len(content)
    assert (tmp_path / "down").read_bytes() == content
    assert twice <= PART_BYTES
    figure(f"{max(twice, 0) / 1e6:.2f} MB of {len(content) / 1e6:.1f} MB came twice")


@pytest.mark.row(4)
@pytest.mark.parametrize("size_bytes", [16 << 20, 9 << 20], ids=["of the same size", "shorter"])
def test_an_object_overwritten_while_it_is_read_is_read_again_and_never_mixed(settings, tmp_path, size_bytes):
    writer = open_store(settings)
    writer.put_bytes("big", b"a" * (16 << 20))
    new = b"b" * size_bytes
    with fault_proxy(settings.endpoint_url) as proxy:
        proxy.cut_after = 12 << 20
        proxy.on_cut = lambda: writer.put_bytes("big", new)
        store = open_store(settings.model_copy(update={"endpoint_url": proxy.endpoint}))
        store.download("big", tmp_path / "down", max_bytes=PLENTY)
        assert proxy.cuts == 1
    assert (tmp_path / "down").read_bytes() == new


@pytest.mark.row(4)
def test_an_overwritten_object_of_another_size_than_promised_is_refused(settings, tmp_path):
    writer = open_store(settings)
    writer.put_bytes("big", b"a" * (16 << 20))
    with fault_proxy(settings.endpoint_url) as proxy:
        proxy.cut_after = 12 << 20
        proxy.on_cut = lambda: writer.put_bytes("big", b"b")
        store = open_store(settings.model_copy(update={"endpoint_url": proxy.endpoint}))
        with pytest.raises(DigestMismatch, match="1 bytes in the store"):
            store.download("big", tmp_path / "down", max_bytes=PLENTY, size_bytes=16 << 20)


def test_pauses_grow_to_a_cap_and_are_drawn_at_random():
    backoff = Backoff(base_s=0.1, cap_s=2.0)
    drawn = [[backoff.pause_s(failures) for _ in range(50)] for failures in (1, 3, 30)]
    for pauses, longest in zip(drawn, (0.1, 0.4, 2.0), strict=True):
        assert all(longest / 2 <= pause <= longest for pause in pauses)
        assert len(set(pauses)) == 50


def test_file_store_leaves_nothing_beside_the_objects(tmp_path: Path):
    store = open_store(StoreSettings(url=(tmp_path / "store").as_uri()))
    store.put_bytes("a/b", b"1")
    assert {path.name for path in (tmp_path / "store").rglob("*")} == {"a", "b", ".lock"}
