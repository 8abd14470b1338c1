"""Rows 31 to 33 of the fault table: whatever happens to the store is a miss, is counted, and heals where it can."""

import os
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from serving.cache.result_cache import FAULTS_IN_A_ROW, Pending, ResultCache
from serving.cache.sql_store import Check
from serving.cache.sqlite_store import DATABASE_FILE, SqliteStore
from serving.cache.writer import MAX_WAITING
from serving.errors import CacheFault
from serving.inference import Run

OpenCache = Callable[..., ResultCache]


def is_hit(cache: ResultCache, text: str, helpers: Any) -> bool:
    return bool(cache.exact(cache.essay(text), [helpers.space_in(cache)]))


@pytest.mark.row(31)
def test_a_locked_store_takes_nothing_and_still_gives(open_cache: OpenCache, helpers: Any, tmp_path: Path) -> None:
    cache = open_cache()
    helpers.keep(cache, helpers.ESSAY, helpers.space_in(cache))
    other = sqlite3.connect(tmp_path / "cache" / DATABASE_FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    helpers.keep(cache, helpers.SLIP, helpers.space_in(cache))
    assert cache.ledger.faults == {"locked": 1}
    assert is_hit(cache, helpers.ESSAY, helpers)
    assert not is_hit(cache, helpers.SLIP, helpers)
    other.execute("ROLLBACK")
    other.close()
    helpers.keep(cache, helpers.SLIP, helpers.space_in(cache))
    assert is_hit(cache, helpers.SLIP, helpers)
    assert cache.fault is None


@pytest.mark.row(31)
@pytest.mark.parametrize("damage", [b"this is no database" * 5_000, b"\x00" * 60_000, b""])
def test_a_file_that_was_damaged_before_the_start_is_begun_anew(
    damage: bytes, open_cache: OpenCache, helpers: Any, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / DATABASE_FILE).write_bytes(damage)
    cache = open_cache()
    helpers.keep(cache, helpers.ESSAY, helpers.space_in(cache))
    assert is_hit(cache, helpers.ESSAY, helpers)


@pytest.mark.row(31)
def test_a_file_that_is_damaged_while_it_is_used_is_a_miss_counted_and_begun_anew(
    open_cache: OpenCache, helpers: Any, tmp_path: Path
) -> None:
    cache = open_cache()
    for number in range(20):
        helpers.keep(cache, f"{helpers.ESSAY} I am number {number}.", helpers.space_in(cache))
    path = tmp_path / "cache" / DATABASE_FILE
    for suffix in ("", "-wal"):
        file = path.with_name(path.name + suffix)
        with file.open("r+b") as opened:
            opened.write(os.urandom(file.stat().st_size))
    assert isinstance(cache.store, SqliteStore)
    # What SQLite still has in memory is right; a larger cache would have to read.
    cache.store._connections.pop("read").close()
    for _ in range(FAULTS_IN_A_ROW):
        is_hit(cache, f"{helpers.ESSAY} I am number 3.", helpers)
        cache.near(cache.essay(helpers.SLIP), [helpers.space_in(cache)])
    assert cache.ledger.faults.get("corrupt")
    cache.tend()
    assert cache.ledger.faults["rebuilt"] == 1
    helpers.wait_until_searchable(cache)
    helpers.keep(cache, helpers.ESSAY, helpers.space_in(cache))
    assert is_hit(cache, helpers.ESSAY, helpers)
    assert cache.near(cache.essay(helpers.SLIP), [helpers.space_in(cache)])


@pytest.mark.row(31)
def test_a_file_that_is_deleted_is_begun_anew(open_cache: OpenCache, helpers: Any, tmp_path: Path) -> None:
    cache = open_cache()
    helpers.keep(cache, helpers.ESSAY, helpers.space_in(cache))
    for path in (tmp_path / "cache").glob(f"{DATABASE_FILE}*"):
        path.unlink()
    is_hit(cache, helpers.ESSAY, helpers)
    cache.tend()
    assert cache.ledger.faults == {"rebuilt": 1}
    assert not is_hit(cache, helpers.ESSAY, helpers)
    helpers.keep(cache, helpers.ESSAY, helpers.space_in(cache))
    assert is_hit(cache, helpers.ESSAY, helpers)
    assert (tmp_path / "cache" / DATABASE_FILE).exists()


@pytest.mark.row(31)
def test_a_full_store_lets_the_longest_unused_go(open_cache: OpenCache, helpers: Any) -> None:
    cache = open_cache(max_bytes=400_000)
    texts = [f"{helpers.ESSAY} {number} is my number." for number in range(400)]
    for text in texts:
        helpers.keep(cache, text, helpers.space_in(cache))
    assert cache.ledger.faults["full"]
    assert set(cache.ledger.faults) == {"full"}
    assert is_hit(cache, texts[-1], helpers)
    assert not is_hit(cache, texts[0], helpers)
    assert cache.fault is None


@pytest.mark.row(31)
def test_a_folder_that_cannot_be_is_a_miss_until_it_can(open_cache: OpenCache, helpers: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = open_cache(folder=tmp_path / "file" / "cache")
    assert cache.store is None
    assert cache.fault
    helpers.keep(cache, helpers.ESSAY, helpers.space_in(cache))
    assert not is_hit(cache, helpers.ESSAY, helpers)
    with pytest.raises(CacheFault, match="nothing was purged"):
        cache.purge()
    (tmp_path / "file").unlink()
    cache.tend()
    assert cache.fault is None
    helpers.keep(cache, helpers.ESSAY, helpers.space_in(cache))
    assert is_hit(cache, helpers.ESSAY, helpers)


@pytest.mark.row(31)
def test_a_database_that_nobody_answers_for_is_a_miss(
    open_cache: OpenCache, helpers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    started = time.monotonic()
    cache = open_cache(store=f"postgresql://somebody:secretcanary@127.0.0.1:{port}/nowhere")
    assert time.monotonic() - started < 6
    assert cache.fault
    assert "secretcanary" not in cache.fault
    assert "secretcanary" not in repr(cache.settings) + caplog.text
    assert not is_hit(cache, helpers.ESSAY, helpers)


@pytest.mark.row(31)
def test_a_database_that_drops_or_locks_is_a_miss_and_used_again(
    postgres_url: str, open_cache: OpenCache, helpers: Any
) -> None:
    cache = open_cache(store=postgres_url)
    helpers.keep(cache, helpers.ESSAY, helpers.space_in(cache))
    with psycopg.connect(postgres_url, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        tries = [is_hit(cache, helpers.ESSAY, helpers) for _ in range(FAULTS_IN_A_ROW + 1)]
        assert tries[-1] or cache.ledger.faults["unreachable"]
        cache._rests_until = 0.0
        deadline = time.monotonic() + 10
        while not is_hit(cache, helpers.ESSAY, helpers):
            assert time.monotonic() < deadline
            cache._rests_until = 0.0
            time.sleep(0.05)
    with psycopg.connect(postgres_url) as other:
        other.execute("LOCK TABLE runs IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        assert not is_hit(cache, helpers.ESSAY, helpers)
        assert time.monotonic() - started < 4
        assert cache.ledger.faults["locked"] == 1
    assert is_hit(cache, helpers.ESSAY, helpers)


def packed(score: float) -> bytes:
    return struct.pack("<dIBdd", score, 40, 0, 0.5, 80.0)


@pytest.mark.row(32)
@pytest.mark.parametrize(
    ("statement", "values"),
    [
        ("UPDATE runs SET value = ?", [packed(float("nan"))]),
        ("UPDATE runs SET value = ?", [packed(0.9)]),
        ("UPDATE runs SET value = ?", [b"short"]),
        ("UPDATE runs SET created = created - 100", []),
        ("UPDATE runs SET seal = ?", [b""]),
        # Another pupil's run under this essay.
        ("UPDATE runs SET value = (SELECT value FROM runs WHERE print_id = 2), seal ="
         " (SELECT seal FROM runs WHERE print_id = 2), created = (SELECT created FROM runs WHERE print_id = 2)", []),
    ],
)  # fmt: skip
def test_a_wrong_row_is_ignored_and_purged(
    statement: str, values: list[Any], store_settings: dict[str, Any], open_cache: OpenCache, helpers: Any
) -> None:
    cache = open_cache(**store_settings)
    helpers.keep(cache, helpers.ESSAY, helpers.space_in(cache), score=0.25)
    helpers.keep(cache, f"{helpers.ESSAY} And I like to sing.", helpers.space_in(cache), score=0.75)
    assert cache.store
    with cache.store.writing() as connection:
        connection.run(f"{statement} WHERE print_id = 1", values)
    assert not cache.near(cache.essay(helpers.SLIP), [helpers.space_in(cache)])
    assert not is_hit(cache, helpers.ESSAY, helpers)
    cache.settle()
    assert cache.ledger.faults["bad_row"] >= 1
    with cache.store.reading() as connection:
        assert [row[0] for row in connection.run("SELECT print_id FROM runs")] == [2]


@pytest.mark.row(32)
def test_another_essays_words_under_a_run_are_ignored_and_purged(
    store_settings: dict[str, Any], open_cache: OpenCache, helpers: Any
) -> None:
    cache = open_cache(**store_settings)
    helpers.keep(cache, helpers.ESSAY, helpers.space_in(cache))
    helpers.keep(cache, f"Once more: {helpers.ESSAY} I sing.", helpers.space_in(cache))
    assert cache.store
    with cache.store.writing() as connection:
        connection.run(
            "UPDATE prints SET words = (SELECT words FROM prints WHERE id = 1),"
            " salt = (SELECT salt FROM prints WHERE id = 1) WHERE id = 2"
        )
        connection.run("DELETE FROM prints WHERE id = 1")
    assert not cache.near(cache.essay(helpers.SLIP), [helpers.space_in(cache)])
    cache.settle()
    with cache.store.reading() as connection:
        assert connection.run("SELECT id FROM prints") == []


WRITING = """
import sys
import threading
from pathlib import Path
from serving.cache.result_cache import Pending, ResultCache
from serving.cache.settings import CacheSettings
from serving.inference import Run

cache = ResultCache(CacheSettings(folder=Path(sys.argv[1])))
space = cache.space(model="tiny", digest="d" * 64, runtime="cpu", prompt_id="asap-1", schema=1)
print("ready", flush=True)
for number in range(1_000_000):
    essay = cache.essay(f"essay number {number} of a class that writes and writes without an end in sight")
    cache.keep(Pending(essay, space, essay.key, Run(number / 1e6, number, False, 0.5, 80.0)))
    if number % 50 == 0:
        cache.settle()
"""


@pytest.mark.row(33)
@pytest.mark.parametrize("after_s", [0.05, 0.3])
def test_a_process_killed_while_it_writes_leaves_no_wrong_entry(
    after_s: float, open_cache: OpenCache, helpers: Any, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITING, str(tmp_path / "cache")],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    cache = open_cache()
    assert cache.store
    with cache.store.reading() as connection:
        assert connection.run("PRAGMA integrity_check") == [("ok",)]
        num_runs = connection.run("SELECT count(*) FROM runs")[0][0]
    assert num_runs == cache.entries
    found = {}
    for number in range(num_runs + 100):
        text = f"essay number {number} of a class that writes and writes without an end in sight"
        for hit in cache.exact(cache.essay(text), [helpers.space_in(cache)]).values():
            found[number] = hit.run.raw_unit_score
    assert found == {number: number / 1e6 for number in range(num_runs)}
    assert "bad_row" not in cache.ledger.faults


def test_a_store_that_hangs_makes_nobody_wait(open_cache: OpenCache, helpers: Any) -> None:
    """More scores than may wait are not kept; whoever offers them goes on at once."""
    cache = open_cache()
    release = threading.Event()
    cache._writer.call(release.wait)
    essay, space = cache.essay(helpers.ESSAY), helpers.space_in(cache)
    started = time.monotonic()
    for _ in range(MAX_WAITING + 50):
        cache.keep(Pending(essay, space, essay.key, Run(0.5, 40, False, 0.5, 80.0)))
        cache.verify([Check("s", 1, (0.0,), None, None)])
    assert time.monotonic() - started < 5
    assert cache.ledger.faults["dropped"] > 50
    release.set()
    cache.settle()
    assert is_hit(cache, helpers.ESSAY, helpers)
