"""Creates engines from URLs, with each database's settings, and hides differences between the databases."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tracker.domain.deadlines import check_deadline, current_deadline, query_deadline
from tracker.domain.errors import InvalidStoreUrl, StoreUnavailable
from tracker.domain.store_url import parse
from tracker.store import addresses
from tracker.store.database.database_file import DatabaseFile, confirm
from tracker.store.database.driver_cursor import DriverCursor, driver_errors
from tracker.store.database.postgres import MORE_CONNECTIONS, make_postgres_engine
from tracker.store.database.time_limits import limit_queries, wait_for_locks, was_cut_off

_CACHE, _SMALL_CACHE = -32768, -1024
"""SQLite's page cache of a connection, in KiB: for pages that are read again, and for those that are not."""
_UNKNOWN_NAMES = ("42703", "42P01")
"""PostgreSQL's codes for a column and a table that do not exist."""
BUSY_SECONDS = 60.0
"""How long a SQLite writer waits for the write lock."""


def make_engine(url: str) -> Engine:
    """An engine for `sqlite:///path` or `postgresql://…` (psycopg 3); InvalidStoreUrl for anything else.

    StoreError if the driver is not installed.
    """
    parsed = parse(url)
    if parsed.scheme == "postgresql":
        return make_postgres_engine(parsed)
    if parsed.scheme != "sqlite":
        raise InvalidStoreUrl(url, f"{parsed.scheme!r} is not a database that Tracker keeps runs in")
    file = unquote(parsed.path[1:])
    if not Path(file).parent.is_dir():
        raise InvalidStoreUrl(url, f"the folder {str(Path(file).parent)!r} does not exist")
    options = {name: int(value) for name, value in parsed.options.items()}
    database = DatabaseFile(Path(file), parsed.shown, {"timeout": BUSY_SECONDS, **options}, _prepare)
    engine = create_engine(
        URL.create("sqlite+pysqlite", database=file), creator=database.connect, max_overflow=MORE_CONNECTIONS
    )
    database.attach(engine)
    addresses.attach(engine, Path(file).absolute())
    event.listen(engine, "begin", _on_sqlite_begin)
    limit_queries(engine)
    engine.update_execution_options(tracker_shown=parsed.shown)
    return engine


def _prepare(connection: sqlite3.Connection) -> None:
    # SQLAlchemy's own "begin" event opens transactions, not the driver, which would do so only at the first write.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute(f"PRAGMA cache_size = {_CACHE}")
    # A writer changes the same pages repeatedly, and each WAL checkpoint copies them and syncs twice.
    cursor.execute("PRAGMA wal_autocheckpoint = 8000")
    cursor.close()
    _add_functions(connection)


@contextmanager
def passing_by(connection: Connection) -> Iterator[None]:
    """Shrink SQLite's page cache in the `with` block, for reads of too many pages to be read again from there."""
    if connection.dialect.name != "sqlite":
        yield
        return
    driver: Any = connection.connection.dbapi_connection
    driver.execute(f"PRAGMA cache_size = {_SMALL_CACHE}")
    try:
        yield
    finally:
        with suppress(sqlite3.Error):  # it is closed
            driver.execute(f"PRAGMA cache_size = {_CACHE}")


def _add_functions(connection: sqlite3.Connection) -> None:
    # ILIKE needs it: SQLite's own lower() and LIKE handle only ASCII letters.
    connection.create_function("tracker_lower", 1, _lower, deterministic=True)


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()


def _on_sqlite_begin(connection: Connection) -> None:
    # A transaction that will write takes the write lock at once: upgrading a read lock later fails without waiting.
    mode = "IMMEDIATE" if connection.get_execution_options().get("tracker_writes") else "DEFERRED"
    driver: Any = connection.connection.dbapi_connection
    if not driver.in_transaction:
        with driver_errors(connection, "BEGIN"):
            driver.execute(f"BEGIN {mode}")


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One write transaction; StoreUnavailable if the database did not take it and a retry may succeed.

    It has no deadline: a reader's time limit must not undo a write.
    """
    with (
        translated(engine),
        query_deadline(None),
        engine.connect().execution_options(tracker_writes=True) as connection,
    ):
        with connection.begin():
            yield connection
        confirm(connection)


@contextmanager
def driver_transaction(engine: Engine, lock_seconds: float | None = None) -> Iterator[DriverCursor]:
    """`writing` by the driver's own cursor: beginning a transaction takes SQLAlchemy three times as long."""
    with translated(engine), query_deadline(None), engine.connect() as connection:
        raw = DriverCursor(connection)
        with driver_errors(connection, "a transaction"):
            raw.begin(lock_seconds)
            yield raw
            raw.commit()


@contextmanager
def reading(engine: Engine, first: Callable[[Connection], None] | None = None) -> Iterator[Connection]:
    """One consistent snapshot to read from. QueryTimeout once the caller's deadline has passed.

    `first` is called before it is taken.
    """
    check_deadline()
    with translated(engine), engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            # By default PostgreSQL takes a new snapshot for every statement.
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        if first is not None:
            first(connection)
        # Begun here, because a statement of the driver's cursor would not begin it, and would have no deadline.
        with connection.begin():
            yield connection


@contextmanager
def translated(engine: Engine) -> Iterator[None]:
    """Convert the drivers' errors of a database that does not answer now to StoreUnavailable."""
    try:
        yield
    except PoolTimeout as error:
        raise StoreUnavailable(f"{shown(engine)}: all connections of this process are busy") from error
    except (OperationalError, InterfaceError) as error:
        if was_cut_off(error.orig) and (deadline := current_deadline()) is not None:
            raise deadline.error() from error
        raise StoreUnavailable(f"{shown(engine)}: {_reason(error)}") from error
    except DBAPIError as error:
        if str(getattr(error.orig, "sqlstate", "")) in _UNKNOWN_NAMES:
            raise StoreUnavailable(
                f"{shown(engine)}: its schema is not that of this process ({_reason(error)}); if the database was "
                "upgraded meanwhile, restart this process with the release that did so"
            ) from error
        # SQLite raises a plain DatabaseError for a file that is not a database, or is damaged.
        if error.connection_invalidated or type(error) is DatabaseError:
            raise StoreUnavailable(f"{shown(engine)}: {_reason(error)}") from error
        raise


def _reason(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__


def shown(engine: Engine) -> str:
    """The URL of the engine's database without its password."""
    return str(engine.get_execution_options()["tracker_shown"])


def advisory_lock(connection: Connection, name: int) -> None:
    """Make transactions that take the same lock wait for each other; SQLite's write lock does so by itself."""
    if connection.dialect.name == "postgresql":
        wait_for_locks(connection)
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({name})")
