"""The shared store: PostgreSQL with pgvector, for several instances at once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg_pool import ConnectionPool, PoolTimeout

from serving.cache.rows import PrintRow
from serving.cache.settings import Metric
from serving.cache.sketch import DIMENSIONS
from serving.cache.sql_store import PRINT_COLUMNS, SqlStore, print_rows
from serving.errors import CacheFault

_OPERATORS: dict[Metric, tuple[str, str]] = {
    "cosine": ("<=>", "vector_cosine_ops"),
    "inner_product": ("<#>", "vector_ip_ops"),
    "euclidean": ("<->", "vector_l2_ops"),
}
_MAX_CONNECTIONS = 8
_CONNECT_TIMEOUT_S = 2
_OPEN_TIMEOUT_S = 3.0
_STATEMENT_TIMEOUT_MS = 2_000
# One instance at a time makes tables and index.
_SETUP_LOCK = 0x46616972


class PostgresStore(SqlStore):
    """Scores in a database that instances share."""

    is_local = False
    kinds = {  # noqa: RUF012 - declared as ClassVar by the base
        "id": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "reference": "BIGINT",
        "bytes": "BYTEA",
        "number": "DOUBLE PRECISION",
        "vector": f"vector({DIMENSIONS})",
    }
    vector_value = "?::vector"

    def __init__(self, url: str, *, metric: Metric, patience_s: float) -> None:
        self._operator, operators = _OPERATORS[metric]
        self._patience_s = patience_s
        self._pool = ConnectionPool(
            url,
            min_size=1,
            max_size=_MAX_CONNECTIONS,
            open=False,
            timeout=patience_s,
            kwargs={"connect_timeout": _CONNECT_TIMEOUT_S, "autocommit": True},
            configure=_configure,
            reconnect_timeout=5,
        )
        try:
            with _as_faults():
                self._pool.open()
                self._pool.wait(_OPEN_TIMEOUT_S)
                self._set_up(metric, operators)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def reading(self) -> Iterator["_Connection"]:
        """A connection of the pool."""
        with _as_faults(), self._pool.connection() as connection:
            yield _Connection(connection)

    @contextmanager
    def writing(self) -> Iterator["_Connection"]:
        """A transaction."""
        with _as_faults(), self._pool.connection() as connection, connection.transaction():
            yield _Connection(connection)

    def vector_of(self, vector: NDArray[np.float32]) -> str:
        """As pgvector reads it."""
        return f"[{','.join(map(str, vector.tolist()))}]"

    def nearest(self, vector: NDArray[np.float32], count: int) -> list[PrintRow]:
        """By pgvector's HNSW index."""
        statement = f"SELECT {PRINT_COLUMNS} FROM prints ORDER BY vector {self._operator} ?::vector LIMIT ?"
        with self.reading() as connection:
            return print_rows(connection.run(statement, [self.vector_of(vector), count]))

    def on_written(self, entries: Sequence[tuple[int, NDArray[np.float32]]]) -> None:
        """The database's index knows."""

    def on_deleted(self, print_ids: Sequence[int]) -> None:
        """The database's index knows."""

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()

    def _set_up(self, metric: Metric, operators: str) -> None:
        with self.writing() as connection:
            connection.run("SELECT pg_advisory_xact_lock(?)", [_SETUP_LOCK])
            # Building an index may take longer than a look-up may.
            connection.run("SET LOCAL statement_timeout = 0")
            connection.run("CREATE EXTENSION IF NOT EXISTS vector")
            self.create_tables(connection)
            index = f"CREATE INDEX IF NOT EXISTS prints_by_{metric} ON prints USING hnsw (vector {operators})"
            connection.run(index)


class _Connection:
    def __init__(self, connection: "psycopg.Connection[tuple[Any, ...]]") -> None:
        self._connection = connection

    def run(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows that a statement gives."""
        cursor = self._connection.execute(statement.replace("?", "%s").encode(), values or None)
        return cursor.fetchall() if cursor.description else []


def _configure(connection: "psycopg.Connection[tuple[Any, ...]]") -> None:
    connection.execute(f"SET statement_timeout = {_STATEMENT_TIMEOUT_MS}".encode())
    connection.execute("SET synchronous_commit = off")
    connection.execute("SET hnsw.ef_search = 40")


@contextmanager
def _as_faults() -> Iterator[None]:
    try:
        yield
    except PoolTimeout as error:
        raise CacheFault("PostgreSQL gives no connection in time", kind="unreachable") from error
    except psycopg.errors.DiskFull as error:
        raise CacheFault("PostgreSQL's disk is full", kind="full") from error
    except (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled) as error:
        raise CacheFault("PostgreSQL is locked or too slow", kind="locked") from error
    except psycopg.Error as error:
        # The server's own text may quote values; its kind says enough.
        raise CacheFault(f"PostgreSQL: {type(error).__name__}", kind="unreachable") from None
