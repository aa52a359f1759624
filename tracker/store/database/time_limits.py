"""Time limits of statements: a read's deadline, and the wait for a lock.

SQLite regularly calls a progress handler, which can stop the statement. PostgreSQL gets `statement_timeout` and
`lock_timeout`, for the transaction only, so that they work behind a pooler too.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlalchemy import Connection, Engine, event

from tracker.domain.deadlines import check_deadline, current_deadline, has_passed

LOCK_SECONDS = 20.0
"""How long to wait for a lock on PostgreSQL: less than clients wait for an answer, so that they get the error."""
DIRECT = "tracker_direct"
"""Key in a connection's `info`: whether it has a PostgreSQL server process of its own, so no pooler."""
_EVERY = 20_000
"""Instructions of SQLite's virtual machine between two checks of the clock: less than a millisecond."""
_WATCHED = "tracker_watched"


def limit_queries(engine: Engine) -> None:
    """Make statements of `engine` keep to the caller's deadline (`tracker.domain.deadlines`)."""
    if engine.dialect.name == "sqlite":
        event.listen(engine, "checkout", _on_sqlite_checkout)
    else:
        event.listen(engine, "begin", _on_postgres_begin)


def wait_for_locks(connection: Connection) -> None:
    """Let the transaction wait for locks without a limit, for processes that take turns, as in migrations."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL lock_timeout = 0")


def was_cut_off(error: BaseException | None) -> bool:
    """Whether the error says that a statement was cancelled."""
    return (
        getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT
        or getattr(error, "sqlstate", "") == "57014"
    )


def waited_for_lock(error: BaseException | None) -> bool:
    """Whether the error says that another connection held a lock for too long, on PostgreSQL."""
    return getattr(error, "sqlstate", "") == "55P03"


def _on_sqlite_checkout(connection: sqlite3.Connection, record: Any, _proxy: object) -> None:
    # The handler stays on the connection, and checks the deadline of whoever runs a statement.
    if current_deadline() is not None and _WATCHED not in record.info:
        record.info[_WATCHED] = True
        connection.set_progress_handler(has_passed, _EVERY)


def _on_postgres_begin(connection: Connection) -> None:
    settings: dict[str, float] = {}
    if (deadline := current_deadline()) is not None:
        check_deadline()
        settings["statement_timeout"] = deadline.left_s
    if not connection.info.get(DIRECT):
        settings["lock_timeout"] = LOCK_SECONDS
    if settings:
        each = ", ".join(f"set_config('{name}', %s, true)" for name in settings)
        values = tuple(f"{max(round(seconds * 1000), 1)}" for seconds in settings.values())
        connection.exec_driver_sql(f"SELECT {each}", values)
