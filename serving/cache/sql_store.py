"""What both engines have in common: tables, and every statement but the search for a neighbour.

Statements are written with `?`; an engine gives connections, kinds of columns and the search. All that an engine raises
becomes a CacheFault.
"""

import logging
import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from serving.cache.rows import NewEntry, PrintRow, RunRow

LAYOUT = 2
"""Of the tables and of what their values mean. 1 had HMACs for words, and gaps without direction for checks."""

logger = logging.getLogger("bentoml.fairmark")


class Connection(Protocol):
    """A connection inside a transaction."""

    def run(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows that a statement gives; none where it gives none."""
        ...


@dataclass(frozen=True)
class Check:
    """One near-duplicate that was scored anyway."""

    subject: str
    """Digest of the artifact that it says something about."""
    edits: int
    shifts: tuple[float, ...]
    """From the kept raw unit scores of the answer to the real ones, holistic first, times `proof.shift_scale`."""
    risk: float | None
    """The share of earlier shifts that would have changed a grade; None where too few were known."""
    changed: bool | None
    """Whether a grade had been another; None where the kept one would not have been handed out."""


@dataclass(frozen=True)
class PurgeScope:
    """Which scores to forget: all that fit every part that is given, and everything when none is."""

    model: str | None = None
    prompt_id: str | None = None
    essay_key: bytes | None = None


class SqlStore(ABC):
    """Prints, runs and checks in a database."""

    is_local: ClassVar[bool]
    """Whether a look-up takes microseconds and never waits for a network."""
    kinds: ClassVar[dict[str, str]]
    """Kinds of columns: `id`, `bytes`, `number`, `vector`."""
    vector_value: ClassVar[str] = "?"

    @abstractmethod
    def reading(self) -> AbstractContextManager[Connection]:
        """A connection to look things up. Raises CacheFault."""

    @abstractmethod
    def writing(self) -> AbstractContextManager[Connection]:
        """A transaction that is kept whole or not at all. Raises CacheFault."""

    @abstractmethod
    def vector_of(self, vector: NDArray[np.float32]) -> Any:
        """A vector as a statement's value."""

    @abstractmethod
    def nearest(self, vector: NDArray[np.float32], count: int) -> list[PrintRow]:
        """The prints with the nearest vectors, nearest first. Raises CacheFault."""

    @abstractmethod
    def on_written(self, entries: Sequence[tuple[int, NDArray[np.float32]]]) -> None:
        """Prints that are new, by id."""

    @abstractmethod
    def on_deleted(self, print_ids: Sequence[int]) -> None:
        """Prints that are gone."""

    @abstractmethod
    def close(self) -> None:
        """Give back what is held."""

    def recover(self, *, damaged: bool) -> bool:
        """Become usable again where the file is gone or, if it looked `damaged`, where it is; whether all was lost."""
        return False

    @property
    def searchable(self) -> bool:
        """Whether `nearest` knows everything that is kept."""
        return True

    def create_tables(self, connection: Connection) -> None:
        """Make what is missing; what another version of the service kept in another layout is dropped."""
        connection.run("CREATE TABLE IF NOT EXISTS cache_layout (version INTEGER NOT NULL)")
        found = [row[0] for row in connection.run("SELECT version FROM cache_layout")]
        if found != [LAYOUT]:
            for table in ("runs", "prints", "checks", "alarms"):
                connection.run(f"DROP TABLE IF EXISTS {table}")
            connection.run("DELETE FROM cache_layout")
            connection.run("INSERT INTO cache_layout (version) VALUES (?)", [LAYOUT])
            if found:
                logger.warning("the cache's store had layout %s, this is %d: it was emptied", found, LAYOUT)
        for statement in _TABLES:
            connection.run(statement.format(**self.kinds))

    def key(self, offered: bytes) -> bytes:
        """The key that is kept in the store, which is the one offered if there was none."""
        with self.writing() as connection:
            connection.run("INSERT INTO cache_key (id, value) VALUES (1, ?) ON CONFLICT DO NOTHING", [offered])
            return bytes(connection.run("SELECT value FROM cache_key")[0][0])

    def runs(self, essay_key: bytes, prompt_id: str, spaces: Sequence[bytes]) -> list[RunRow]:
        """What these spaces hold of exactly this essay."""
        statement = f"{_RUN} WHERE p.essay_key = ? AND p.prompt_id = ? AND r.space IN ({_marks(spaces)})"
        with self.reading() as connection:
            return _run_rows(connection.run(statement, [essay_key, prompt_id, *spaces]))

    def runs_of(self, print_id: int, spaces: Sequence[bytes]) -> list[RunRow]:
        """What these spaces hold of this print."""
        statement = f"{_RUN} WHERE r.print_id = ? AND r.space IN ({_marks(spaces)})"
        with self.reading() as connection:
            return _run_rows(connection.run(statement, [print_id, *spaces]))

    def run_on(self, space: bytes, input_key: bytes) -> list[RunRow]:
        """What this space holds of an essay that gives the graph exactly this input: one row or none."""
        with self.reading() as connection:
            statement = f"{_RUN} WHERE r.space = ? AND r.input_key = ? LIMIT 1"
            return _run_rows(connection.run(statement, [space, input_key]))

    def write(self, entries: Sequence[NewEntry]) -> None:
        """Keep these; an essay that is there already gets one more run, or a newer one."""
        made: list[tuple[int, NDArray[np.float32]]] = []
        with self.writing() as connection:
            for entry in entries:
                print_id, is_new = self._write_print(connection, entry)
                if is_new:
                    made.append((print_id, entry.vector))
                space = entry.space
                values = [print_id, space.key, space.model, space.digest, entry.input_key, entry.value]
                connection.run(_PUT_RUN, [*values, entry.created, entry.run_seal])
        self.on_written(made)

    def touch(self, uses: dict[int, float]) -> None:
        """Note when prints were last asked for."""
        with self.writing() as connection:
            for print_id, used in uses.items():
                connection.run("UPDATE prints SET used = ? WHERE id = ? AND used < ?", [used, print_id, used])

    def drop_run(self, row: RunRow) -> None:
        """Forget a run that cannot be believed."""
        with self.writing() as connection:
            connection.run("DELETE FROM runs WHERE print_id = ? AND space = ?", [row.print_id, row.space])
            gone = _drop_empty(connection, [row.print_id])
        self.on_deleted(gone)

    def drop_print(self, print_id: int) -> None:
        """Forget a print that cannot be believed, with its runs."""
        with self.writing() as connection:
            connection.run("DELETE FROM prints WHERE id = ?", [print_id])
        self.on_deleted([print_id])

    def purge(self, scope: PurgeScope) -> int:
        """Forget what fits; how many runs that were. A model's checks go with it."""
        wanted = {"r.model": scope.model, "p.prompt_id": scope.prompt_id, "p.essay_key": scope.essay_key}
        given = {column: value for column, value in wanted.items() if value is not None}
        where = " AND ".join(f"{column} = ?" for column in given) or "1 = 1"
        with self.writing() as connection:
            fits = f"SELECT r.print_id, r.space, r.digest FROM runs r JOIN prints p ON p.id = r.print_id WHERE {where}"
            found = connection.run(fits, list(given.values()))
            for print_id, space, _ in found:
                connection.run("DELETE FROM runs WHERE print_id = ? AND space = ?", [print_id, space])
            if scope.prompt_id is None and scope.essay_key is None:
                for digest in {digest for _, _, digest in found}:
                    connection.run("DELETE FROM checks WHERE subject = ?", [digest])
                    connection.run("DELETE FROM alarms WHERE subject = ?", [digest])
            gone = _drop_empty(connection, [print_id for print_id, _, _ in found])
        self.on_deleted(gone)
        return len(found)

    def sweep(self, *, oldest: float, newest: float, max_entries: int) -> int:
        """Forget runs from outside these times, then the longest unused prints above the bound; how many prints."""
        with self.writing() as connection:
            over = "DELETE FROM runs WHERE created < ? OR created > ? RETURNING print_id"
            gone = _drop_empty(connection, [row[0] for row in connection.run(over, [oldest, newest])])
            excess = connection.run("SELECT count(*) FROM prints")[0][0] - max_entries
            if excess > 0:
                # A little more than needed, so that a full cache does not sweep at every essay.
                gone += self._drop_unused(connection, excess + max_entries // 50)
        self.on_deleted(gone)
        return len(gone)

    def drop_unused(self, count: int) -> int:
        """Forget so many prints, those that were not asked for longest; how many there were."""
        with self.writing() as connection:
            gone = self._drop_unused(connection, count)
        self.on_deleted(gone)
        return len(gone)

    def count(self) -> int:
        """Prints that are kept."""
        with self.reading() as connection:
            return int(connection.run("SELECT count(*) FROM prints")[0][0])

    def add_checks(self, checks: Sequence[Check], now: float) -> None:
        """Keep what was verified."""
        with self.writing() as connection:
            for check in checks:
                shifts = struct.pack(f"<{len(check.shifts)}d", *check.shifts)
                changed = None if check.changed is None else int(check.changed)
                values = [check.subject, check.edits, shifts, check.risk, changed, now]
                connection.run(_PUT_CHECK, values)

    def checks(self, newest: int) -> list[Check]:
        """The newest checks, oldest first."""
        with self.reading() as connection:
            rows = connection.run(f"SELECT {_CHECK_COLUMNS} FROM checks ORDER BY id DESC LIMIT ?", [newest])
        return [
            Check(subject, edits, _shifts(bytes(shifts)), risk, None if changed is None else bool(changed))
            for subject, edits, shifts, risk, changed in reversed(rows)
        ]

    def add_alarm(self, subject: str, reason: str, now: float) -> None:
        """Keep an alarm, for later starts and other instances."""
        with self.writing() as connection:
            statement = "INSERT INTO alarms (subject, reason, created) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
            connection.run(statement, [subject, reason, now])

    def alarms(self) -> dict[str, str]:
        """Reasons by subject."""
        with self.reading() as connection:
            return dict(connection.run("SELECT subject, reason FROM alarms"))

    def _write_print(self, connection: Connection, entry: NewEntry) -> tuple[int, bool]:
        values = [entry.essay_key, entry.space.prompt_id, entry.salt, entry.words, entry.print_seal]
        put = (
            "INSERT INTO prints (essay_key, prompt_id, salt, words, seal, vector, used)"
            f" VALUES (?, ?, ?, ?, ?, {self.vector_value}, ?) ON CONFLICT DO NOTHING RETURNING id"
        )
        made = connection.run(put, [*values, self.vector_of(entry.vector), entry.created])
        if made:
            return int(made[0][0]), True
        find = "SELECT id FROM prints WHERE essay_key = ? AND prompt_id = ?"
        return int(connection.run(find, [entry.essay_key, entry.space.prompt_id])[0][0]), False

    def _drop_unused(self, connection: Connection, count: int) -> list[int]:
        longest = "SELECT id FROM prints ORDER BY used LIMIT ?"
        return [row[0] for row in connection.run(f"DELETE FROM prints WHERE id IN ({longest}) RETURNING id", [count])]


_IDS_AT_ONCE = 500
PRINT_COLUMNS = "id, essay_key, prompt_id, salt, words, seal"
_RUN = (
    "SELECT r.print_id, r.space, p.essay_key, r.value, r.created, r.seal FROM runs r JOIN prints p ON p.id = r.print_id"
)
_PUT_RUN = (
    "INSERT INTO runs (print_id, space, model, digest, input_key, value, created, seal) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (print_id, space) DO UPDATE SET input_key = excluded.input_key, value = excluded.value,"
    " created = excluded.created, seal = excluded.seal"
)
_CHECK_COLUMNS = "subject, edits, shifts, risk, changed"
_PUT_CHECK = f"INSERT INTO checks ({_CHECK_COLUMNS}, created) VALUES (?, ?, ?, ?, ?, ?)"
_TABLES = (
    "CREATE TABLE IF NOT EXISTS prints (id {id}, essay_key {bytes} NOT NULL, prompt_id TEXT NOT NULL,"
    " salt {bytes} NOT NULL, words {bytes} NOT NULL, seal {bytes} NOT NULL, vector {vector} NOT NULL,"
    " used {number} NOT NULL, UNIQUE (essay_key, prompt_id))",
    "CREATE TABLE IF NOT EXISTS runs (print_id {reference} NOT NULL REFERENCES prints (id) ON DELETE CASCADE,"
    " space {bytes} NOT NULL, model TEXT NOT NULL, digest TEXT NOT NULL, input_key {bytes} NOT NULL,"
    " value {bytes} NOT NULL, created {number} NOT NULL, seal {bytes} NOT NULL, PRIMARY KEY (print_id, space))",
    "CREATE INDEX IF NOT EXISTS runs_by_input ON runs (space, input_key)",
    "CREATE INDEX IF NOT EXISTS runs_by_age ON runs (created)",
    "CREATE INDEX IF NOT EXISTS prints_by_use ON prints (used)",
    "CREATE TABLE IF NOT EXISTS checks (id {id}, subject TEXT NOT NULL, edits INTEGER NOT NULL,"
    " shifts {bytes} NOT NULL, risk {number}, changed INTEGER, created {number} NOT NULL)",
    "CREATE TABLE IF NOT EXISTS alarms (subject TEXT PRIMARY KEY, reason TEXT NOT NULL, created {number} NOT NULL)",
    "CREATE TABLE IF NOT EXISTS cache_key (id INTEGER PRIMARY KEY, value {bytes} NOT NULL)",
)


def print_rows(rows: Sequence[tuple[Any, ...]]) -> list[PrintRow]:
    """Rows of `PRINT_COLUMNS`."""
    return [PrintRow(int(row[0]), bytes(row[1]), row[2], bytes(row[3]), bytes(row[4]), bytes(row[5])) for row in rows]


def _run_rows(rows: Sequence[tuple[Any, ...]]) -> list[RunRow]:
    return [
        RunRow(int(row[0]), bytes(row[1]), bytes(row[2]), bytes(row[3]), float(row[4]), bytes(row[5])) for row in rows
    ]


def _shifts(packed: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(packed) // 8}d", packed[: len(packed) // 8 * 8])


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


def _drop_empty(connection: Connection, print_ids: Sequence[int]) -> list[int]:
    """Of these prints, forget those without a run; which they were."""
    distinct, gone = sorted(set(print_ids)), []
    for first in range(0, len(distinct), _IDS_AT_ONCE):
        some = distinct[first : first + _IDS_AT_ONCE]
        empty = f"id IN ({_marks(some)}) AND NOT EXISTS (SELECT 1 FROM runs WHERE print_id = prints.id)"
        gone += [row[0] for row in connection.run(f"DELETE FROM prints WHERE {empty} RETURNING id", some)]
    return gone
