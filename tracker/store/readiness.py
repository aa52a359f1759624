"""Readiness check: whether a store would accept a write now, without writing one."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Engine, text

from tracker.domain.errors import StoreUnavailable
from tracker.store.engine import shown, translated

PATIENCE_S = 4.0
"""How long to wait for the lock that a write needs."""
ROOM_BYTES = 1 << 20
"""A disk with less free space than this counts as full."""


def check(engine: Engine) -> None:
    """Return if a write would be accepted within `PATIENCE_S`; StoreUnavailable says what prevents it."""
    if engine.dialect.name == "sqlite":
        _check_sqlite(engine, Path(str(engine.url.database)))
    else:
        _check_postgres(engine)


def _check_sqlite(engine: Engine, file: Path) -> None:
    try:
        # A connection of its own: those of the pool wait far longer for the lock.
        uri = f"file:{quote(str(file.absolute()))}?mode=rw"
        with closing(sqlite3.connect(uri, timeout=PATIENCE_S, isolation_level=None, uri=True)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        free = shutil.disk_usage(file.parent).free
    except (sqlite3.Error, OSError) as error:
        raise StoreUnavailable(f"{shown(engine)}: {error}") from error
    if free < ROOM_BYTES:
        raise StoreUnavailable(f"{shown(engine)}: its disk has {free} bytes free")


def _check_postgres(engine: Engine) -> None:
    with translated(engine), engine.connect() as connection:
        connection.execute(text(f"SET LOCAL lock_timeout = {PATIENCE_S * 1000:.0f}"))
        # Longer, so that waiting for a lock is reported as such.
        connection.execute(text(f"SET LOCAL statement_timeout = {PATIENCE_S * 1000 + 500:.0f}"))
        if connection.execute(text("SHOW transaction_read_only")).scalar_one() == "on":
            raise StoreUnavailable(f"{shown(engine)}: the database is read-only")
        connection.execute(text("LOCK TABLE runs IN ROW EXCLUSIVE MODE"))
