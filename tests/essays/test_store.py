import hashlib
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

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
from essays.store import Store, open_store

PLENTY = 1 << 30


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


def test_a_download_that_breaks_goes_on_where_it_broke(settings, tmp_path):
    content = bytes(range(256)) * 4096 * 4
    (tmp_path / "up").write_bytes(content)
    open_store(settings).upload(tmp_path / "up", "big", "0" * 64)
    with breaking_proxy(settings.endpoint_url, after_bytes=len(content) * 3 // 4) as proxy:
        store = open_store(settings.model_copy(update={"endpoint_url": proxy.endpoint}))
        store.download("big", tmp_path / "down", max_bytes=PLENTY)
    assert (tmp_path / "down").read_bytes() == content
    assert proxy.broken == 1
    assert proxy.bytes_sent < len(content) * 1.5


def test_an_object_overwritten_while_it_is_read_is_never_mixed(settings, tmp_path):
    writer = open_store(settings)
    writer.put_bytes("big", b"a" * (16 << 20))
    with breaking_proxy(settings.endpoint_url, after_bytes=12 << 20) as proxy:
        proxy.on_break = lambda: writer.put_bytes("big", b"b" * (16 << 20))
        store = open_store(settings.model_copy(update={"endpoint_url": proxy.endpoint}))
        with pytest.raises(DigestMismatch, match="overwritten while it was read"):
            store.download("big", tmp_path / "down", max_bytes=PLENTY)


class BreakingProxy:
    """Passes TCP on and cuts the first connection that carries too much; real sockets, a real break."""

    def __init__(self, target: tuple[str, int], after_bytes: int) -> None:
        self.target, self.after_bytes = target, after_bytes
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.bytes_sent = self.broken = 0
        self.on_break = lambda: None

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.relay, args=(client,), daemon=True).start()

    def relay(self, client: socket.socket) -> None:
        with client, socket.create_connection(self.target) as server:
            threading.Thread(target=self.pump, args=(client, server), daemon=True).start()
            sent = 0
            while chunk := server.recv(65536):
                sent += len(chunk)
                self.bytes_sent += len(chunk)
                if not self.broken and sent > self.after_bytes:
                    self.broken += 1
                    self.on_break()
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(chunk)

    @staticmethod
    def pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while chunk := source.recv(65536):
                target.sendall(chunk)
        except OSError:
            pass


@contextmanager
def breaking_proxy(endpoint: str, after_bytes: int) -> Iterator[BreakingProxy]:
    host, port = endpoint.removeprefix("http://").split(":")
    proxy = BreakingProxy((host, int(port)), after_bytes)
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    yield proxy
    proxy.listener.shutdown(socket.SHUT_RDWR)
    proxy.listener.close()
    thread.join()


def test_file_store_leaves_nothing_beside_the_objects(tmp_path: Path):
    store = open_store(StoreSettings(url=(tmp_path / "store").as_uri()))
    store.put_bytes("a/b", b"1")
    assert {path.name for path in (tmp_path / "store").rglob("*")} == {"a", "b", ".lock"}
