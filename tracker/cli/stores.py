"""The store that a command works on. Commands that read never create one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from tracker import compose
from tracker.domain.errors import InvalidStoreUrl, StoreError
from tracker.domain.ports import RunStore
from tracker.settings import Settings

_F = TypeVar("_F", bound=Callable[..., Any])
_SQLITE_BEGINS = b"SQLite format 3\x00"


def store_option(command: _F) -> _F:
    """`--store URL`, passed to the command as `store`."""
    option = click.option(
        "--store", metavar="URL", help="Store URL (default: TRACKER_STORE, else sqlite:///tracker.db)."
    )
    return option(command)


def full_url(url: str | None) -> str:
    """The store's URL, with an absolute SQLite path: `url`, else the environment's."""
    settings = Settings.from_environment()
    return compose.store_url(url or settings.store, settings.token)


@contextmanager
def existing_store(url: str | None) -> Iterator[RunStore]:
    """Context manager of the open store. Raises NoStore if there is none, and does not create it."""
    full = full_url(url)
    if not compose.is_server(full):
        Database(full).close()  # a file that is no database is recognised by its first bytes
    store = compose.open_existing_store(full)
    try:
        yield store
    finally:
        store.close()


class Database:
    """The database of a SQL store; opening it changes nothing.

    `url` is without a password; `file` is None where it is not SQLite. Raises StoreError, InvalidStoreUrl.
    """

    def __init__(self, url: str) -> None:
        """`url` as `full_url` returns it."""
        self.url = compose.identity(url)
        self._url = url
        if compose.is_server(url):
            raise InvalidStoreUrl(
                self.url, "a tracking server; this command needs the URL of the database behind it, with --store"
            )
        from tracker.store.engine import make_engine

        self.file = compose.sqlite_file(url)
        self._engine = make_engine(url)
        if self.exists and self.file is not None:
            _check_begin(self.file)

    @property
    def head(self) -> str:
        """The revision that this version creates and needs."""
        from tracker.store.schema import HEAD

        return HEAD

    @property
    def exists(self) -> bool:
        """Whether the database's file exists; true for a database without a file."""
        return self.file is None or self.file.exists()

    def revision(self) -> str | None:
        """The schema's revision; None if nothing was recorded in it yet."""
        from tracker.store.schema import current

        return current(self._engine) if self.exists else None

    def rewritten_points(self) -> int:
        """About how many rows of points an upgrade rewrites; the others it leaves as they are."""
        from tracker.store.schema import rewritten_points

        return rewritten_points(self._engine) if self.exists else 0

    def upgrade(self) -> None:
        """Upgrade the schema to this version's revision; creates the database if it is missing."""
        from tracker.store.schema import upgrade

        upgrade(self._engine)

    def compact(self, show: Callable[[int, int], None]) -> tuple[int, int]:
        """Compress what is not compressed yet; return how many points and histograms that were.

        `show` is called with how many of how many runs are done.
        """
        points = histograms = 0
        with closing(compose.open_sql_store(self._url, create=False)) as store:
            for step in store.compaction.compact():
                show(step.done, step.runs)
                points, histograms = step.points, step.histograms
        return points, histograms

    def differences(self) -> Sequence[str]:
        """Differences between the schema and this version's tables."""
        from tracker.store.schema import differences

        return differences(self._engine)

    def close(self) -> None:
        """Release connections."""
        self._engine.dispose()


def _check_begin(file: Path) -> None:
    try:
        with file.open("rb") as opened:
            begin = opened.read(len(_SQLITE_BEGINS))
    except OSError as error:
        raise StoreError(f"{file} cannot be read: {error.strerror}") from error
    if begin and begin != _SQLITE_BEGINS:
        raise StoreError(f"{file} is not a SQLite database; --store or TRACKER_STORE names another")
