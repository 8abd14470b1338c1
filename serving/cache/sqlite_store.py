"""The embedded store: one SQLite file in WAL mode holds everything; the index beside it is filled at the start."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.cache.index import NearIndex
from serving.cache.rows import PrintRow
from serving.cache.settings import Metric
from serving.cache.sketch import DIMENSIONS
from serving.cache.sql_store import PRINT_COLUMNS, SqlStore, print_rows
from serving.errors import CacheFault

DATABASE_FILE = "scores.db"
_READ_WAIT_S = 0.0
_WRITE_WAIT_S = 0.5
_FILLED_AT_ONCE = 500


class SqliteStore(SqlStore):
    """Scores in a file of this machine."""

    is_local = True
    kinds = {  # noqa: RUF012 - declared as ClassVar by the base
        "id": "INTEGER PRIMARY KEY",
        "reference": "INTEGER",
        "bytes": "BLOB",
        "number": "REAL",
        "vector": "BLOB",
    }

    def __init__(self, folder: Path, *, max_bytes: int, metric: Metric) -> None:
        self.path = folder / DATABASE_FILE
        self._max_bytes = max_bytes
        self._index = NearIndex(metric)
        self._filled = threading.Event()
        self._closed = threading.Event()
        self._filling: threading.Thread | None = None
        self._locks = {"read": threading.Lock(), "write": threading.Lock()}
        self._connections: dict[str, sqlite3.Connection] = {}
        self._inode = 0
        try:
            self._open()
        except CacheFault as fault:
            if fault.kind != "corrupt":
                raise
            self._begin_anew()

    @property
    def searchable(self) -> bool:
        """Whether the index has been filled."""
        return self._filled.is_set()

    @contextmanager
    def reading(self) -> Iterator["_Connection"]:
        """The connection for look-ups, for one caller at a time."""
        with self._locks["read"], _as_faults():
            yield _Connection(self._connection("read", _READ_WAIT_S))

    @contextmanager
    def writing(self) -> Iterator["_Connection"]:
        """A transaction."""
        with self._locks["write"], _as_faults():
            connection = self._connection("write", _WRITE_WAIT_S)
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield _Connection(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def vector_of(self, vector: NDArray[np.float32]) -> bytes:
        """Half precision: it only proposes."""
        return vector.astype("<f2").tobytes()

    def nearest(self, vector: NDArray[np.float32], count: int) -> list[PrintRow]:
        """By the index, then by id; nothing while the index is being filled."""
        ids = self._index.nearest(vector, count) if self.searchable else []
        if not ids:
            return []
        statement = f"SELECT {PRINT_COLUMNS} FROM prints WHERE id IN ({', '.join('?' * len(ids))})"
        with self.reading() as connection:
            found = {row.print_id: row for row in print_rows(connection.run(statement, ids))}
        return [found[number] for number in ids if number in found]

    def on_written(self, entries: Sequence[tuple[int, NDArray[np.float32]]]) -> None:
        """Also while the index is being filled: the filling puts the same vector over it."""
        self._index.add([number for number, _ in entries], [vector for _, vector in entries])

    def on_deleted(self, print_ids: Sequence[int]) -> None:
        """Out of the index."""
        self._index.remove(print_ids)

    def recover(self, *, damaged: bool) -> bool:
        """Start anew where the file is gone, replaced or no database; else nothing is lost."""
        if self._is_there() and not (damaged and self._is_damaged()):
            return False
        self._begin_anew()
        return True

    def close(self) -> None:
        """Close both connections, and wait until nothing fills the index."""
        self._closed.set()
        if self._filling is not None:
            self._filling.join()
        for name, lock in self._locks.items():
            with lock:
                if name in self._connections:
                    self._connections.pop(name).close()

    def wait_until_searchable(self, timeout_s: float) -> bool:
        """For tests and measurements."""
        return self._filled.wait(timeout_s)

    def _begin_anew(self) -> None:
        self.close()
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        self._open()

    def _open(self) -> None:
        with _as_faults():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._filled.clear()
            self._closed.clear()
            self._index.clear()
            with self.writing() as connection:
                self.create_tables(connection)
            self._inode = self.path.stat().st_ino
        self._filling = threading.Thread(target=self._fill, name="cache-index", daemon=True)
        self._filling.start()

    def _connection(self, name: str, wait_s: float) -> sqlite3.Connection:
        if name not in self._connections:
            if self._closed.is_set():
                raise CacheFault("the cache is closed", kind="closed")
            self._connections[name] = self._connect(wait_s)
        return self._connections[name]

    def _connect(self, wait_s: float) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=wait_s, isolation_level=None, check_same_thread=False)
        try:
            page_size = connection.execute("PRAGMA page_size").fetchone()[0]
            connection.execute("PRAGMA journal_mode = WAL")
            # A power cut may lose the last scores, which are then computed again; it leaves no half one.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA max_page_count = {self._max_bytes // page_size}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _is_there(self) -> bool:
        # SQLite would go on with a file that was deleted, and another process with a new one.
        try:
            return self.path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def _is_damaged(self) -> bool:
        try:
            with _as_faults(), closing(self._connect(_WRITE_WAIT_S)) as own:
                return own.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]
        except CacheFault as fault:
            return fault.kind == "corrupt"

    def _fill(self) -> None:
        """Every vector of the file into the index, a few at a time, so that nobody waits for long."""
        last = 0
        statement = "SELECT id, vector FROM prints WHERE id > ? ORDER BY id LIMIT ?"
        try:
            while not self._closed.is_set():
                with self.reading() as connection:
                    rows = connection.run(statement, [last, _FILLED_AT_ONCE])
                if not rows:
                    self._filled.set()
                    return
                last = rows[-1][0]
                sound = [(number, raw) for number, raw in rows if len(raw) == 2 * DIMENSIONS]
                vectors = [np.frombuffer(raw, dtype="<f2").astype(np.float32) for _, raw in sound]
                self._index.add([number for number, _ in sound], vectors)
        except CacheFault:
            # What could not be read is not proposed; a fault that lasts is found by whoever looks up next.
            self._filled.set()


class _Connection:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def run(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows that a statement gives."""
        return self._connection.execute(statement, values).fetchall()


@contextmanager
def _as_faults() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise CacheFault(f"SQLite: {error}", kind=_kind_of(str(error))) from error
    except sqlite3.Error as error:
        raise CacheFault(f"SQLite: {error}", kind="corrupt") from error
    except OSError as error:
        raise CacheFault(f"the cache's folder: {error.strerror or error}", kind="unreachable") from error


def _kind_of(message: str) -> str:
    if "locked" in message or "busy" in message:
        return "locked"
    if "full" in message:
        return "full"
    return "unreachable" if "unable to open" in message or "readonly" in message else "corrupt"
