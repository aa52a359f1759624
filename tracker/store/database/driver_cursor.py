"""The driver's own cursor in a transaction, for statements that run too often to be built each time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Executable
from sqlalchemy.exc import DBAPIError

from tracker.domain.errors import InvalidRecord
from tracker.store.database.database_file import confirm
from tracker.store.database.time_limits import DIRECT, LOCK_SECONDS

if TYPE_CHECKING:
    from numpy.typing import NDArray


class DriverCursor:
    """Runs statements given as text, with `?` for values; rows are tuples. Errors are the driver's.

    Use it inside `driver_errors`, which converts them to SQLAlchemy's errors.
    """

    __slots__ = ("_cursor", "_driver", "_pooled", "connection", "postgres")

    def __init__(self, connection: Connection) -> None:
        self.postgres: bool = connection.dialect.name == "postgresql"
        self._pooled = self.postgres and not connection.info.get(DIRECT)
        driver: Any = connection.connection.dbapi_connection
        self.connection = connection
        self._driver = driver
        self._cursor = driver.cursor()

    def begin(self, lock_seconds: float | None = None) -> None:
        """Begin a write transaction before SQLAlchemy begins its own, which costs three times as much.

        `lock_seconds` is how long to wait for a lock on PostgreSQL, instead of the usual time.
        """
        if not self.postgres:  # psycopg begins by itself
            self._cursor.execute("BEGIN IMMEDIATE")
        elif self._pooled or lock_seconds is not None:
            self._cursor.execute(f"SET LOCAL lock_timeout = {(lock_seconds or LOCK_SECONDS) * 1000:.0f}")

    def commit(self) -> None:
        """Commit; StoreUnavailable if that went to a file that is no longer at the store's path."""
        self._driver.commit()
        confirm(self.connection)

    def rollback(self) -> None:
        self._driver.rollback()

    def run(self, statement: str, values: Sequence[Any] = ()) -> None:
        self._cursor.execute(_spelled(statement) if self.postgres else statement, values)

    def many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run the statement once for each of `rows`."""
        self._cursor.executemany(_spelled(statement) if self.postgres else statement, rows)

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        self._cursor.execute(_spelled(statement) if self.postgres else statement, values)
        return self._cursor.fetchall()  # type: ignore[no-any-return]

    def insert(self, statement: str, rows: Sequence[Sequence[Any]]) -> list[int]:
        """Insert rows one by one into a table with an `id`; return their ids."""
        if not self.postgres:
            return [self._cursor.execute(statement, row).lastrowid for row in rows]
        self._cursor.executemany(f"{_spelled(statement)} RETURNING id", rows, returning=True)
        ids = [int(self._cursor.fetchone()[0])]
        while self._cursor.nextset():
            ids.append(int(self._cursor.fetchone()[0]))
        return ids

    def copy(self, statement: str, types: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """PostgreSQL's COPY of binary rows of these types."""
        with self._cursor.copy(statement) as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)


@cache
def _spelled(statement: str) -> str:
    return statement.replace("?", "%s")


def is_farewell(error: BaseException | None) -> bool:
    """Whether PostgreSQL reports that it closes the connection; the driver notices only at the next statement."""
    return str(getattr(error, "sqlstate", None) or "").startswith(("57P0", "08"))


@contextmanager
def driver_errors(connection: Connection, statement: str) -> Iterator[None]:
    """Handle the driver's errors as SQLAlchemy does for its statements: convert them, invalidate broken connections."""
    driver = connection.dialect.loaded_dbapi
    try:
        yield
    except driver.Error as error:
        gone = is_farewell(error) or connection.dialect.is_disconnect(
            error, connection.connection.dbapi_connection, None
        )
        if gone:
            connection.invalidate(error)
        raise DBAPIError.instance(
            statement, None, error, driver.Error, connection_invalidated=gone, dialect=connection.dialect
        ) from error


def array_of(
    connection: Connection, statement: Executable, values: Mapping[str, Any], columns: Sequence[tuple[str, str]]
) -> NDArray[Any]:
    """The rows of a statement as an array with these columns (name and NumPy type), straight from the driver's cursor.

    A list of all rows in between would cost more than the conversion.
    """
    import numpy as np

    cursor: Any = connection.execute(statement, values).cursor
    with driver_errors(connection, "rows of a statement"), _numbers(columns):
        return np.fromiter(cursor, dtype=list(columns))


@contextmanager
def _numbers(columns: Sequence[tuple[str, str]]) -> Iterator[None]:
    """InvalidRecord for rows that are no numbers of the columns' types."""
    try:
        yield
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRecord(f"points.{'/'.join(name for name, _ in columns)}", "a value", str(error)) from error
