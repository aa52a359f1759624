"""Schema versions: create at head, refuse older and newer ones, upgrade. Alembic does the work."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text

from tracker.domain.errors import NoStore, SchemaOutdated, SchemaTooNew, StoreUnavailable
from tracker.store.database.database_file import file_of
from tracker.store.engine import BUSY_SECONDS, advisory_lock, reading, shown, writing

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0005"
"""The newest revision in `migrations/tracker_migrations/versions`; a test compares the two."""

_KEYS_WIDENED = "0005"
"""The revision that gives PostgreSQL's tables keys of 64 bits."""
_LOCK = 7_210_483
MIGRATIONS = "tracker_migrations:"


def ensure(engine: Engine, *, create: bool = True) -> None:
    """Create the schema in an empty database; SchemaOutdated or SchemaTooNew for one of another revision.

    Without `create` an empty database raises NoStore.
    """
    if create:
        _make_file(engine)
    found = current(engine)
    if found is None and not create:
        raise NoStore(shown(engine))
    if found is None:
        upgrade(engine)
    elif found < HEAD:
        raise SchemaOutdated(shown(engine), found, HEAD)
    elif found > HEAD:
        raise SchemaTooNew(shown(engine), found, HEAD)


def current(engine: Engine) -> str | None:
    """The database's revision; None if it has no schema yet."""
    with reading(engine) as connection:
        return _revision(connection)


def upgrade(engine: Engine) -> None:
    """Bring the database to HEAD in one transaction; processes that do so at once wait for each other."""
    from alembic import command

    _make_file(engine)
    _use_wal(engine)
    with writing(engine) as connection:
        advisory_lock(connection, _LOCK)
        found = _revision(connection)
        if found == HEAD:
            return
        if found is not None and found > HEAD:
            raise SchemaTooNew(shown(engine), found, HEAD)
        command.upgrade(_config(connection), "head")


def rewritten_points(engine: Engine) -> int:
    """About how many rows of points `upgrade` rewrites: all of a PostgreSQL store whose keys have 32 bits."""
    if engine.dialect.name != "postgresql":
        return 0
    with reading(engine) as connection:
        found = _revision(connection)
        if found is None or found >= _KEYS_WIDENED:
            return 0
        estimate = text("SELECT reltuples FROM pg_class WHERE oid = to_regclass('metric_points')")
        return max(int(connection.execute(estimate).scalar() or 0), 0)


def differences(engine: Engine) -> list[str]:
    """Differences between the database and the models; empty if there are none."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from tracker.store.catalogue_tables import metadata

    with reading(engine) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "include_object": _ours})
        return [repr(difference) for difference in compare_metadata(context, metadata)]


def _ours(obj: object, name: str | None, type_: str, reflected: bool, compare_to: object) -> bool:
    """Whether a reflected object is ours to compare: other tables in the same database are left alone."""
    from tracker.store.catalogue_tables import metadata

    return not (type_ == "table" and reflected and name not in metadata.tables)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if revision is None else str(revision)


def _config(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    config.attributes["connection"] = connection
    return config


def _make_file(engine: Engine) -> None:
    """Create an empty SQLite file if there is none: connections do not create it."""
    file = file_of(engine)
    if file is not None and file.identity is None:
        try:
            file.path.open("ab").close()
        except OSError as error:
            raise StoreUnavailable(f"{shown(engine)}: {error.strerror or error}") from error


def _use_wal(engine: Engine) -> None:
    """Switch a SQLite file to WAL mode, which stays with the file.

    SQLite does not wait here while another process does the same, so this function does.
    """
    if engine.dialect.name != "sqlite":
        return
    deadline = time.monotonic() + BUSY_SECONDS
    raw = engine.raw_connection()
    try:
        while True:
            try:
                raw.cursor().execute("PRAGMA journal_mode = WAL")
                return
            except engine.dialect.loaded_dbapi.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise StoreUnavailable(f"{shown(engine)}: {error}") from error
                time.sleep(0.01)
    finally:
        raw.close()
