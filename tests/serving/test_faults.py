"""Artifacts under faults: a real object store behind a proxy that goes wrong, real file systems, real processes."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from essays.backoff import Backoff, tries
from essays.errors import ArtifactError, DigestMismatch, ObjectMissing, StoreUnreachable
from essays.manifest import GRAPH_FILE
from essays.registry import find_champion, move_champion, read_champion
from essays.settings import StoreSettings
from essays.store import Store, open_store
from serving.artifacts import acquire, acquire_within
from serving.config import ServiceSettings
from serving.desk import Desk
from serving.local_copies import DiskFull, is_whole
from tests.fault_proxy import FaultProxy, fault_proxy
from tests.serving.processes import remount, small_disk

pytestmark = pytest.mark.chaos
Figure = Callable[[str], None]


@pytest.fixture(scope="module")
def direct(s3: Any, bundles: Any) -> StoreSettings:
    """A bucket with the three models as champions, asked without a proxy."""
    settings = StoreSettings.model_validate(
        {
            "url": f"s3://{s3.make_bucket()}",
            "endpoint_url": s3.endpoint,
            "access_key_id": s3.access_key,
            "secret_access_key": s3.secret_key,
            "max_attempts": 2,
            "connect_timeout_s": 2,
            "read_timeout_s": 5,
        }
    )
    bundles.publish(open_store(settings))
    return settings


@pytest.fixture
def proxy(direct: StoreSettings) -> Iterator[FaultProxy]:
    with fault_proxy(str(direct.endpoint_url)) as faulty:
        yield faulty


@pytest.fixture
def store(direct: StoreSettings, proxy: FaultProxy) -> Store:
    """The same bucket through the proxy."""
    return open_store(direct.model_copy(update={"endpoint_url": proxy.endpoint}))


def models_in(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if len(path.name) == 64]


@pytest.mark.row(1)
def test_a_store_that_refuses_is_asked_again_with_growing_pauses_until_the_budget_is_spent(
    store: Store, proxy: FaultProxy, tmp_path: Path, figure: Figure
) -> None:
    proxy.refuse = True
    reasons: list[str] = []
    started = time.monotonic()
    with pytest.raises(StoreUnreachable, match="nobody answers"):
        acquire_within(3, lambda: acquire(store, [], tmp_path / "models"), lambda error: reasons.append(str(error)))
    took_s = time.monotonic() - started
    assert len(reasons) >= 2
    assert all(proxy.endpoint in reason for reason in reasons)
    assert 3 <= took_s < 15
    figure(f"gave up {took_s - 3:.1f} s after a budget of 3 s and {len(reasons)} tries")


@pytest.mark.row(1)
def test_a_store_that_comes_back_within_the_budget_is_served(store: Store, proxy: FaultProxy, tmp_path: Path) -> None:
    proxy.refuse = True

    def back(_: Exception) -> None:
        proxy.refuse = False

    assert len(acquire_within(30, lambda: acquire(store, [], tmp_path / "models"), back)) == 3


@pytest.mark.row(1)
def test_a_name_that_resolves_nowhere_is_unreachable(direct: StoreSettings, tmp_path: Path) -> None:
    nowhere = open_store(direct.model_copy(update={"endpoint_url": "http://store.invalid:8333"}))
    with pytest.raises(StoreUnreachable, match=r"store\.invalid"):
        acquire(nowhere, [], tmp_path / "models")


def test_the_last_pause_ends_with_the_budget() -> None:
    started, pauses = time.monotonic(), []
    for pause_s in tries(0.3, Backoff(base_s=0.05, cap_s=10)):
        time.sleep(pause_s)
        pauses.append(pause_s)
    assert time.monotonic() - started >= 0.3
    assert sum(pauses) <= 0.3


@pytest.mark.row(2)
def test_with_the_store_down_verified_copies_are_served_and_counted_and_it_is_said_once(
    store: Store, proxy: FaultProxy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = acquire(store, [], tmp_path / "models")
    assert not any(artifact.stale for artifact in fresh)
    proxy.refuse = True
    capsys.readouterr()
    stale = acquire(store, [], tmp_path / "models")
    assert capsys.readouterr().err.count("stale_artifacts") == 1
    assert all(artifact.stale for artifact in stale)
    assert {artifact.folder for artifact in stale} == {artifact.folder for artifact in fresh}
    desk = Desk(ServiceSettings(lanes=1))
    desk.expect(stale)
    assert b"fairmark_stale_artifacts 3.0" in desk.render_metrics()


@pytest.mark.row(2)
def test_a_damaged_copy_is_not_served_when_the_store_is_down_and_neither_is_another_stores(
    store: Store, proxy: FaultProxy, direct: StoreSettings, tmp_path: Path
) -> None:
    tiny = acquire(store, ["tiny"], tmp_path / "models")[0]
    proxy.refuse = True
    (tiny.folder / GRAPH_FILE).write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match="damaged, and nobody answers"):
        acquire(store, ["tiny"], tmp_path / "models")
    elsewhere = {"url": f"{direct.url}/elsewhere", "endpoint_url": proxy.endpoint}
    with pytest.raises(StoreUnreachable):
        acquire(open_store(direct.model_copy(update=elsewhere)), ["tiny"], tmp_path / "models")


@pytest.mark.row(5)
@pytest.mark.parametrize("damage", ["flipped", "truncated"])
def test_a_damaged_object_is_fetched_once_more_and_then_refused(
    direct: StoreSettings, s3: Any, bundles: Any, proxy: FaultProxy, tmp_path: Path, figure: Figure, damage: str
) -> None:
    bucket = {"url": f"s3://{s3.make_bucket()}"}
    plain = open_store(direct.model_copy(update=bucket))
    bundles.publish(plain, ["tiny"])
    pointer = read_champion(plain, "tiny").pointer
    content = bytearray(plain.read(pointer.key).content)
    content[len(content) // 2] ^= 1
    plain.put_bytes(pointer.key, bytes(content if damage == "flipped" else content[:-10]))
    store = open_store(direct.model_copy(update={**bucket, "endpoint_url": proxy.endpoint}))
    with pytest.raises(DigestMismatch, match=r"promised; (download or )?publish"):
        acquire(store, ["tiny"], tmp_path / "models")
    asked = [line for line in proxy.requests if pointer.key in line]
    fetched = [line for line in asked if line.startswith("GET ")]
    assert len(fetched) == (2 if damage == "flipped" else 0)
    assert len(asked) - len(fetched) == 2
    assert models_in(tmp_path / "models") == []
    figure(f"{damage}: asked twice, {len(fetched)} bodies fetched")


@pytest.mark.row(4)
def test_a_champion_that_moves_while_it_is_fetched_is_served_in_its_new_version(
    direct: StoreSettings, s3: Any, bundles: Any, proxy: FaultProxy, tmp_path: Path
) -> None:
    bucket = {"url": f"s3://{s3.make_bucket()}"}
    plain = open_store(direct.model_copy(update=bucket))
    bundles.publish(plain, ["tiny"])
    old = read_champion(plain, "tiny").pointer
    newer = bundles.changed("tiny", lambda folder: (folder / "card.md").write_text("newer") and None, tmp_path)

    def overwrite() -> None:
        plain.upload(newer, old.key, "0" * 64)
        entry = {"sha256": _sha256(newer), "size_bytes": newer.stat().st_size, "version": newer.stem.split("-")[-1]}
        move_champion(plain, old.model_copy(update=entry), find_champion(plain, "tiny"))

    proxy.cut_after, proxy.on_cut = 3000, overwrite
    store = open_store(direct.model_copy(update={**bucket, "endpoint_url": proxy.endpoint}))
    (artifact,) = acquire(store, ["tiny"], tmp_path / "models")
    assert proxy.cuts == 1
    assert artifact.digest == _sha256(newer)
    assert models_in(tmp_path / "models") == [artifact.folder]


@pytest.mark.row(10)
def test_a_full_disk_is_named_leaves_nothing_and_is_forgotten_once_there_is_room(
    store: Store, tmp_path: Path, figure: Figure
) -> None:
    with small_disk(tmp_path / "disk", "28k") as disk:
        reasons: list[str] = []

        def make_room(error: Exception) -> None:
            reasons.append(str(error))
            assert isinstance(error, DiskFull)
            assert list((disk / "models" / "staging").iterdir()) == []
            if len(reasons) == 2:
                remount(disk, "size=8m")

        started = time.monotonic()
        artifacts = acquire_within(30, lambda: acquire(store, [], disk / "models"), make_room)
        assert len(artifacts) == 3
        assert reasons[0].startswith("disk_full: ")
        figure(f"ready again by itself {time.monotonic() - started:.1f} s after the first of {len(reasons)} refusals")


@pytest.mark.row(10)
@pytest.mark.parametrize("pages", range(2, 14, 3))
def test_wherever_the_disk_is_full_no_half_model_stays(store: Store, tmp_path: Path, pages: int) -> None:
    with small_disk(tmp_path / "disk", f"{pages * 4}k") as disk:
        full = False
        try:
            acquire(store, [], disk / "models")
        except DiskFull:
            full = True
        assert list(disk.rglob("*.zip")) == []
        assert all(map(is_whole, models_in(disk / "models")))
        if full:
            remount(disk, "size=8m")
            acquire(store, [], disk / "models")
        assert len(models_in(disk / "models")) == 3


@pytest.mark.row(12)
def test_two_processes_on_one_folder_share_one_copy(
    direct: StoreSettings, proxy: FaultProxy, tmp_path: Path, figure: Figure
) -> None:
    script = "; ".join(
        [
            "import os, sys",
            "from pathlib import Path",
            "from essays.settings import Settings, load_settings",
            "from essays.store import open_store",
            "from serving.artifacts import acquire",
            "store = open_store(load_settings(Settings).store)",
            "print('set', flush=True)",
            "sys.stdin.readline()",
            "acquire(store, [], Path(sys.argv[1]))",
        ]
    )
    secret = direct.secret_access_key
    assert secret
    environment = {
        **os.environ,
        "PYTHONPATH": ".",
        "FAIRMARK_STORE__URL": direct.url,
        "FAIRMARK_STORE__ENDPOINT_URL": proxy.endpoint,
        "FAIRMARK_STORE__ACCESS_KEY_ID": str(direct.access_key_id),
        "FAIRMARK_STORE__SECRET_ACCESS_KEY": secret.get_secret_value(),
    }
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", script, str(tmp_path / "models")]
    processes = [subprocess.Popen(command, env=environment, **pipes) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "set\n"
    said = []
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        said.append(process.communicate(timeout=60)[1])
        assert process.returncode == 0, said
    assert sum(text.count("fetched ") for text in said) == 3
    assert sum(text.count("found ") for text in said) == 3
    bodies = [line for line in proxy.requests if line.startswith("GET ") and ".zip" in line]
    assert len(bodies) == 3
    figure(f"2 processes, 3 models, {len(bodies)} bodies fetched")


@pytest.mark.row(13)
def test_a_folder_that_is_read_only_is_named(store: Store, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "8m") as disk:
        remount(disk, "ro")
        with pytest.raises(ArtifactError, match=r"Read-only file system.*make it writable.*ARTIFACT_FOLDER"):
            acquire(store, [], disk / "models")


@pytest.mark.row(17)
def test_no_model_at_all_is_an_error_that_says_what_to_do(direct: StoreSettings, s3: Any, tmp_path: Path) -> None:
    empty = open_store(direct.model_copy(update={"url": f"s3://{s3.make_bucket()}"}))
    with pytest.raises(ObjectMissing, match="no model has a champion"):
        acquire(empty, [], tmp_path / "models")


@pytest.mark.row(19)
def test_with_everything_local_no_body_is_fetched(
    store: Store, proxy: FaultProxy, tmp_path: Path, figure: Figure
) -> None:
    first = acquire(store, [], tmp_path / "models")
    proxy.requests.clear()
    before = proxy.bytes_sent
    assert acquire(store, [], tmp_path / "models") == first
    assert [line for line in proxy.requests if ".zip" in line] == []
    figure(f"{(proxy.bytes_sent - before) / 1000:.1f} kB of pointers, no body")


@pytest.mark.row(16)
def test_a_model_that_cannot_be_fetched_is_left_out_where_any_will_do(
    direct: StoreSettings, s3: Any, bundles: Any, tmp_path: Path
) -> None:
    store = open_store(direct.model_copy(update={"url": f"s3://{s3.make_bucket()}"}))
    bundles.publish(store)
    store.put_bytes(read_champion(store, "tiny").pointer.key, b"no zip")
    refused: dict[str, str] = {}
    artifacts = acquire(store, [], tmp_path / "models", on_refused=lambda name, why: refused.update({name: str(why)}))
    assert {artifact.name for artifact in artifacts} == {"lexical", "ensemble"}
    assert list(refused) == ["tiny"]
    with pytest.raises(DigestMismatch):
        acquire(store, [], tmp_path / "models")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
