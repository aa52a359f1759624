"""Rewrites the addresses of files that were moved, in the store's rows and in the model registry's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, create_engine, inspect, text

from tracker.domain.errors import InvalidValue
from tracker.store import addresses
from tracker.store.engine import writing
from tracker.store.side_database import REGISTRY, SideDatabase
from tracker.store.tables import CHECKPOINT_SAVED

_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Relocated:
    """How many rows of each kind were changed, or would be in a dry run."""

    runs: int = 0
    checkpoints: int = 0
    models: int = 0
    experiments: int = 0
    versions: int = 0
    """Versions of registered models."""


def relocate(engine: Engine, url: str, old: str, new: str, *, dry_run: bool) -> Relocated:
    """Rewrite every address at or below `old` so that it is below `new`, all or none; both are URIs.

    `url` is the store's, with its password. With `dry_run` nothing changes. Raises InvalidValue if no address matches.
    """
    try:
        with writing(engine) as connection, _registry(url) as registry:
            found = _rewrite_all(connection, registry, addresses.of(engine.dialect), old.rstrip("/"), new.rstrip("/"))
            if found == Relocated():
                raise InvalidValue("OLD", f"no file of this store is at {old}", limit=_roots(connection))
            if dry_run:
                raise _DryRun(found)
    except _DryRun as done:
        return done.found
    return found


class _DryRun(Exception):
    """Rolls back the rewritten addresses."""

    def __init__(self, found: Relocated) -> None:
        self.found = found


@contextmanager
def _registry(url: str) -> Iterator[Connection | None]:
    """A transaction in the registry's database, committed first; None if there is no registry."""
    beside = SideDatabase(url, REGISTRY)
    try:
        engine = create_engine(beside.url) if beside.exists() else None
    finally:
        beside.close()
    if engine is None:
        yield None
        return
    try:
        with engine.begin() as connection:
            yield connection if inspect(connection).has_table("model_versions") else None
    finally:
        engine.dispose()


def _rewrite_all(
    connection: Connection, registry: Connection | None, kept: addresses.Addresses, old: str, new: str
) -> Relocated:
    rewrite = _rewriter(kept, old, new)
    versions = 0
    if registry is not None:
        sources = "source", "storage_location"
        versions = max(rewrite(registry, "model_versions", column) for column in sources)
    rewrite(connection, "events", "detail")
    return Relocated(
        runs=rewrite(connection, "runs", "artifact_uri", ", version = version + 1"),
        checkpoints=rewrite(connection, "checkpoints", "uri"),
        models=rewrite(connection, "models", "artifact_uri"),
        experiments=rewrite(connection, "experiments", "artifact_location"),
        versions=versions,
    )


def _rewriter(kept: addresses.Addresses, old: str, new: str) -> Callable[..., int]:
    # An address that is next to the database after the move becomes relative.
    pairs = [(kept.stored(old), kept.stored(new))]
    if kept.place is not None:
        pairs += [(f"{kept.place}/{name}", name) for name in addresses.FOLDERS]

    def rewrite(connection: Connection, table: str, column: str, also: str = "") -> int:
        """How many rows the first pair changed."""
        statement = _detail_statement() if column == "detail" else _statement(table, column, also)
        counts = [connection.execute(text(statement), {"old": old, "new": new}).rowcount for old, new in pairs]
        return counts[0]

    return rewrite


def _statement(table: str, column: str, also: str) -> str:
    # `also` sets more columns: by the version a process that has read the row sees that it changed.
    return (
        f"UPDATE {table} SET {column} = CAST(:new AS TEXT) || substr({column}, length(CAST(:old AS TEXT)) + 1){also}"
        f" WHERE {column} = CAST(:old AS TEXT)"
        f" OR substr({column}, 1, length(CAST(:old AS TEXT)) + 1) = CAST(:old AS TEXT) || '/'"
    )


def _detail_statement() -> str:
    begin = """'"uri":"' || CAST({} AS TEXT) || '/'"""
    old, new = begin.format(":old"), begin.format(":new")
    where = f"kind = '{CHECKPOINT_SAVED}' AND replace(detail, {old}, '') <> detail"
    return f"UPDATE events SET detail = replace(detail, {old}, {new}) WHERE {where}"


def _roots(connection: Connection) -> str:
    """Where files of runs are, as a hint for a wrong `old`."""
    root = "substr(artifact_uri, 1, length(artifact_uri) - length(uid) - 1)"
    ends = "substr(artifact_uri, length(artifact_uri) - length(uid), length(uid) + 1) = '/' || uid"
    found: Sequence[str] = (
        connection.execute(text(f"SELECT DISTINCT {root} FROM runs WHERE {ends} LIMIT {_MOST_NAMED}")).scalars().all()
    )
    shown = addresses.of(connection.dialect).shown
    return f"files of runs are at {', '.join(sorted(map(shown, found)))}" if found else "the store has no run"
