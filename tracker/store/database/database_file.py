"""Detects that a SQLite file was moved, replaced or deleted under its open connections.

SQLite keeps writing to a file that was moved or deleted, and to a WAL that was removed: such a commit is lost. So every
connection is compared with the path when it is taken from the pool, and after each commit before that is acknowledged.
If the file changed, all connections are closed and the WAL is written back into the file that it belongs to before any
new one is opened: SQLite would replay that WAL into another file.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote
from weakref import WeakSet

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DisconnectionError

from tracker.domain.errors import StoreUnavailable

log = logging.getLogger("tracker.store")

Identity = tuple[int, int]
_ATTRIBUTE = "tracker_file"
_FLUSH_MS = 200
"""How long a closing connection waits for readers of the WAL that it writes back."""


class FileConnection(sqlite3.Connection):
    """A connection that knows which files it has open."""

    database: DatabaseFile | None = None
    file: Identity | None = None
    in_use = True
    """Whether it is checked out of the pool, or not in the pool yet."""
    wal: Identity | None = None
    """Identity of the WAL, once this connection was used; SQLite does not replace the WAL while it is open."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._cursors: WeakSet[sqlite3.Cursor] = WeakSet()

    def cursor(self, *args: Any, **more: Any) -> Any:
        cursor = super().cursor(*args, **more)
        self._cursors.add(cursor)
        return cursor

    def __del__(self) -> None:
        with suppress(Exception):
            self.close()

    def close(self) -> None:
        if self.database is None or self.database.process != os.getpid():
            super().close()  # in a forked child the locks may be held by a thread that only its parent has
        else:
            self.database.close(self)

    def close_for_good(self) -> None:
        """Close it unconditionally, and first its cursors, for which SQLite keeps the files open."""
        self.database = None
        self.reset()
        super().close()

    def reset(self) -> None:
        """Close all cursors: the WAL cannot be written back while they are open."""
        for cursor in list(self._cursors):
            cursor.close()


class DatabaseFile:
    """Opens an engine's connections, which never create the file, and closes them when their file is gone.

    `prepare` is called with each new connection.
    """

    def __init__(
        self,
        path: Path,
        shown: str,
        options: Mapping[str, Any],
        prepare: Callable[[sqlite3.Connection], None] = lambda connection: None,
    ) -> None:
        self.path = path.absolute()
        self._shown = shown
        self._options = options
        self._prepare = prepare
        self._engine: Engine | None = None
        # Reentrant, since a connection may be garbage-collected, and so closed, while its thread holds them.
        self._lock = threading.RLock()
        self._closing = threading.RLock()
        self.process = os.getpid()
        self._open = 0
        self._connections: WeakSet[FileConnection] = WeakSet()
        self._leaving = False
        self._wal: Identity | None = None
        # Looked at for every commit, so it is made once.
        self._wal_path = self._with_ending("-wal")
        self._kept: FileConnection | None = None
        self._said = False

    def attach(self, engine: Engine) -> None:
        """Watch the engine whose connections `connect` opens."""
        self._engine = engine
        setattr(engine.dialect, _ATTRIBUTE, self)
        event.listen(engine, "checkout", self._on_checkout)
        event.listen(engine, "checkin", self._on_checkin)

    @property
    def identity(self) -> Identity | None:
        """Device and inode of the file at the path now; None if there is none."""
        return _identity(self.path)

    @property
    def _wal_now(self) -> Identity | None:
        return _identity(self._wal_path)

    def connect(self) -> FileConnection:
        """A new connection to the file at the path; StoreUnavailable if there is none."""
        if self._kept is not None:
            self._kept.close()
        with self._lock:
            if self._leaving:
                raise self._gone()
            self._open += 1
        connection = None
        try:
            if (file := self.identity) is None:
                raise StoreUnavailable(f"{self._shown}: there is no file at its path")
            uri = f"file:{quote(str(self.path))}?mode=rw"
            connection = sqlite3.connect(
                uri, uri=True, check_same_thread=False, factory=FileConnection, **self._options
            )
            connection.file = file
            self._prepare(connection)
        except BaseException:
            if connection is not None:
                connection.close()  # now, because its files stay open until it is collected
            self._count_closed()
            raise
        connection.database = self
        with self._lock:
            self._connections.add(connection)
        return connection

    def is_current(self, connection: FileConnection) -> bool:
        """Whether the files that the connection has open are those at the path."""
        return self.identity == connection.file and (connection.wal is None or self._wal_now == connection.wal)

    def confirm(self, connection: FileConnection) -> None:
        """Check a commit: StoreUnavailable if it went to a file that is no longer at the path."""
        self._note_wal(connection)
        if not self.is_current(connection):
            self.leave()
            raise self._gone()
        if self._said:
            log.warning("%s: a store is at its path again", self._shown)
            self._said = False

    def leave(self) -> None:
        """Close all connections, those in use when they are returned; only then new ones are opened."""
        with self._lock:
            if not self._open:
                return
            self._leaving = True
            if not self._said:
                log.warning(
                    "%s: its file, or its WAL, was moved, replaced or removed under this process. What was "
                    "acknowledged is in the file that was there; nothing more is until a store is at the path",
                    self._shown,
                )  # fmt: skip
                self._said = True
        assert self._engine is not None
        self._engine.dispose()
        # A connection that is just being returned may still enter the old pool.
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            if not connection.in_use:
                connection.close()

    def close(self, connection: FileConnection) -> None:
        """Close a connection; one stays open as long as the WAL cannot be written back."""
        with self._closing:
            if connection.database is None:
                return
            if self._leaving and not self._is_written_back(connection) and self._kept in (None, connection):
                self._kept = connection
                return
            if self._kept is connection:
                self._kept = None
            connection.close_for_good()
            self._count_closed()

    def _count_closed(self) -> None:
        with self._lock:
            self._open -= 1
            self._leaving = self._leaving and self._open > 0

    def _is_written_back(self, connection: FileConnection) -> bool:
        """Write the WAL back, so that it is not left for another file; False while a reader uses older pages."""
        try:
            connection.reset()
            connection.rollback()
            connection.execute(f"PRAGMA busy_timeout = {_FLUSH_MS}")
            busy, pages, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.OperationalError as error:
            log.debug("%s: its WAL is in use: %s", self._shown, error)
            return False
        except sqlite3.Error as error:
            log.error("%s: its WAL cannot be written back into the file that was there: %s", self._shown, error)
            return True
        # -1: the connection was never used, and has no WAL.
        if not busy and pages == 0 and self.identity != connection.file and self._wal == self._wal_now:
            # It is empty and useless to another file; other processes keep theirs open until they notice.
            for ending in ("-wal", "-shm"):
                with suppress(OSError):
                    self._with_ending(ending).unlink()
        return not busy

    def _on_checkout(self, connection: FileConnection, *_: object) -> None:
        connection.in_use = True
        if connection.database is None or self._leaving or not self.is_current(connection):
            if connection.database is not None:
                self.leave()
            # The pool tries another connection, which is refused while there is no file, or old ones are in use.
            raise DisconnectionError(str(self._gone()))

    def _on_checkin(self, connection: FileConnection | None, record: Any) -> None:
        if connection is None:
            return
        self._note_wal(connection)
        connection.in_use = False
        if self._leaving:
            record.invalidate()

    def _note_wal(self, connection: FileConnection) -> None:
        if connection.wal is None and not self._leaving:
            connection.wal = self._wal = self._wal_now

    def _with_ending(self, ending: str) -> Path:
        return self.path.with_name(self.path.name + ending)

    def _gone(self) -> StoreUnavailable:
        return StoreUnavailable(f"{self._shown}: its file was moved, replaced or removed")


def file_of(engine: Engine) -> DatabaseFile | None:
    """The file of the engine; None if it is not SQLite."""
    found: DatabaseFile | None = getattr(engine.dialect, _ATTRIBUTE, None)
    return found


def confirm(connection: Connection) -> None:
    """Check a commit before it is acknowledged; see `DatabaseFile.confirm`."""
    if (file := file_of(connection.engine)) is not None:
        driver: Any = connection.connection.dbapi_connection
        if isinstance(driver, FileConnection):
            file.confirm(driver)


def _identity(path: Path) -> Identity | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
