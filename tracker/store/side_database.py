"""A side database: MLflow's registry tables next to the store, in a file (SQLite) or a schema (PostgreSQL).

It is created under another name and renamed once it is complete. So it is complete or missing, even if a process dies
while creating it, and of processes that create it at once one wins.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote
from uuid import uuid4

from sqlalchemy import URL, Connection, Engine, text

from tracker.domain.errors import StoreUnavailable
from tracker.domain.store_url import parse
from tracker.store.database.postgres import url_in_schema
from tracker.store.engine import advisory_lock, make_engine, reading, writing

_LOCK = 7_210_484
REGISTRY = "registry"
"""The name of MLflow's model registry."""


class SideDatabase:
    """The database `name`, of lower-case letters, next to the store at `url`."""

    def __init__(self, url: str, name: str) -> None:
        self._address = url
        self._url = parse(url)
        self._name = name
        self._is_file = self._url.scheme == "sqlite"
        self._engine: Engine | None = None

    @property
    def url(self) -> str:
        """Its own URL for SQLAlchemy, valid in this process."""
        return self._shown(self._file) if self._is_file else self._in_schema(self._name)

    @property
    def _file(self) -> Path:
        """`tracker.db` → `tracker.<name>.db`."""
        file = Path(unquote(self._url.path[1:]))
        return file.with_name(f"{file.stem}.{self._name}{file.suffix or '.db'}")

    def exists(self) -> bool:
        """Whether it exists, complete. StoreUnavailable while the store does not answer."""
        if self._is_file:
            return self._file.exists()
        with reading(self._server()) as connection:
            return _has_schema(connection, self._name)

    def make(self, fill: Callable[[str], None]) -> None:
        """Create it if it is missing: `fill` gets the URL of an empty database and creates tables in it."""
        if self._is_file:
            self._make_file(fill)
        else:
            self._make_schema(fill)

    def _make_file(self, fill: Callable[[str], None]) -> None:
        if self._file.exists():
            return
        new = self._file.with_name(f".{self._file.name}.{uuid4().hex}.new")
        try:
            fill(self._shown(new))
            _publish(new, self._file)
        except OSError as error:
            raise StoreUnavailable(f"{self._file}: {error.strerror or error}") from error
        finally:
            for file in new.parent.glob(f"{new.name}*"):
                file.unlink(missing_ok=True)

    def _make_schema(self, fill: Callable[[str], None]) -> None:
        new = f"{self._name}_new"
        engine = self._server()
        # The lock is held by this transaction while `fill` works in connections of its own.
        with writing(engine) as waiting:
            advisory_lock(waiting, _LOCK)
            if _has_schema(waiting, self._name):
                return
            with writing(engine) as connection:
                connection.execute(text(f"DROP SCHEMA IF EXISTS {new} CASCADE"))
                connection.execute(text(f"CREATE SCHEMA {new}"))
            fill(self._in_schema(new))
            with writing(engine) as connection:
                connection.execute(text(f"ALTER SCHEMA {new} RENAME TO {self._name}"))

    def _server(self) -> Engine:
        if self._engine is None:
            self._engine = make_engine(self._address)
        return self._engine

    def close(self) -> None:
        """Release connections."""
        if self._engine is not None:
            self._engine.dispose()

    def _shown(self, file: Path) -> str:
        return URL.create("sqlite", database=str(file)).render_as_string()

    def _in_schema(self, schema: str) -> str:
        return url_in_schema(self._url, schema)


def _publish(new: Path, file: Path) -> None:
    """Give `new` the name of `file`, unless another process was faster."""
    try:
        os.link(new, file)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        # No hard links here: if two processes get this far at once, the later one replaces an empty database.
        if not file.exists():
            os.replace(new, file)


def _has_schema(connection: Connection, name: str) -> bool:
    found = connection.execute(text("SELECT 1 FROM pg_namespace WHERE nspname = :name"), {"name": name}).scalar()
    return found is not None
