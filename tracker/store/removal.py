"""Permanent removal of deleted runs, experiments and logged models, for `tracker gc` and `mlflow gc`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Engine, Row, and_, delete, exists, or_, select

from tracker.domain.limits import check_run_id
from tracker.store.catalogue_tables import models
from tracker.store.database.typed_rows import record, typed
from tracker.store.engine import reading, writing
from tracker.store.tables import PENDING, checkpoints, experiments, runs
from tracker.store.write.deletion import delete_experiment, delete_runs

_SILENT_MS = 24 * 3600 * 1000
"""A running run without a lease that has been silent for so long counts as dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """A run or a logged model that was deleted, or whose experiment was, at `deleted_ms`.

    `location` is its experiment's artifact location, None for the store's default.
    """

    kind: Literal["run", "model"]
    id: str
    name: str
    deleted_ms: int
    artifact_uri: str
    location: str | None

    def __post_init__(self) -> None:
        check_run_id(self.id)  # it names a folder


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedExperiment:
    """A deleted experiment that has no run and no logged model left."""

    id: int
    name: str
    deleted_ms: int


class SqlRemoval:
    """Lists and removes what is deleted, over an engine; each call has its own connection.

    `before_change` is called before a run is removed.
    """

    def __init__(self, engine: Engine, *, clock: Callable[[], int], before_change: Callable[[], None]) -> None:
        self._engine = engine
        self._before_change = before_change
        self._clock = clock

    def deleted(self, before_ms: int) -> Sequence[Deleted]:
        """Runs and logged models that were deleted before `before_ms`, without runs that are alive."""
        with reading(self._engine) as connection:
            return [
                *(_deleted("run", row, before_ms) for row in connection.execute(self._runs(before_ms))),
                *(_deleted("model", row, before_ms) for row in connection.execute(_models(before_ms))),
            ]

    def remove(self, one: Deleted, before_ms: int, files: Callable[[], None]) -> bool:
        """Delete the rows, and call `files` just before the commit; False if it is alive or was restored."""
        which = self._runs(before_ms) if one.kind == "run" else _models(before_ms)
        owner = runs if one.kind == "run" else models
        self._before_change()
        with writing(self._engine) as connection:
            found = connection.execute(which.where(owner.c.uid == one.id).with_for_update(of=owner)).one_or_none()
            if found is None:
                return False
            if one.kind == "run":
                delete_runs(connection, runs.c.id == found.id)
            else:
                connection.execute(delete(models).where(models.c.id == found.id))
            files()
        return True

    def deleted_experiments(self, before_ms: int) -> Sequence[DeletedExperiment]:
        """Experiments that were deleted before `before_ms` and are empty; `Default` is never among them."""
        with reading(self._engine) as connection:
            rows = connection.execute(_experiments(before_ms)).all()
        return [
            record(DeletedExperiment, "experiments", {"id": row.id, "name": row.name, "deleted_ms": row.deleted_ms})
            for row in rows
        ]

    def remove_experiment(self, id: int, before_ms: int) -> bool:
        """Delete its rows; False if it was restored, or got a run, meanwhile."""
        with writing(self._engine) as connection:
            which = _experiments(before_ms).where(experiments.c.id == id)
            if connection.execute(which.with_for_update(of=experiments)).one_or_none() is None:
                return False
            delete_experiment(connection, id)
        return True

    def known(self, ids: Iterable[str]) -> set[str]:
        """Which of the ids are those of runs or logged models."""
        wanted = list(ids)
        found: set[str] = set()
        with reading(self._engine) as connection:
            for begin in range(0, len(wanted), 500):
                for table in (runs, models):
                    some = table.c.uid.in_(wanted[begin : begin + 500])
                    found.update(connection.execute(select(table.c.uid).where(some)).scalars())
        return found

    def alive(self) -> set[str]:
        """The ids of the runs that are alive."""
        with reading(self._engine) as connection:
            return set(connection.execute(select(runs.c.uid).where(self._is_alive())).scalars())

    def pruned_files(self) -> Sequence[tuple[str, str, int]]:
        """Files of pruned checkpoints that no published row names: run id, URI and size."""
        c, other = checkpoints.c, checkpoints.alias()
        named = exists().where(other.c.run_id == c.run_id, other.c.uri == c.uri, other.c.status == "published")
        # PENDING names columns without their table, so no other table may be joined.
        uid = select(runs.c.uid).where(runs.c.id == c.run_id).scalar_subquery()
        statement = select(uid.label("uid"), c.uri, c.size).where(PENDING, ~named)
        with reading(self._engine) as connection:
            rows = connection.execute(statement.distinct()).all()
        return typed(rows, tuple[str, str, int], "checkpoints", ("run", "uri", "size"))

    def checkpoint_uris(self, run_id: str) -> set[str]:
        """Addresses of all files of the run's checkpoints, removed ones included."""
        its = select(checkpoints.c.uri).join(runs, runs.c.id == checkpoints.c.run_id).where(runs.c.uid == run_id)
        with reading(self._engine) as connection:
            return set(connection.execute(its).scalars())

    def _runs(self, before_ms: int) -> Any:
        gone = or_(runs.c.deleted_ms < before_ms, experiments.c.deleted_ms < before_ms)
        columns = (runs.c.id, runs.c.uid, runs.c.name, runs.c.artifact_uri, runs.c.deleted_ms, *_OF_EXPERIMENT)
        return select(*columns).join(experiments).where(gone, ~self._is_alive()).order_by(runs.c.id)

    def _is_alive(self) -> ColumnElement[bool]:
        heard = or_(runs.c.writer != "", runs.c.alive_ms >= self._clock() - _SILENT_MS)
        return and_(runs.c.status == "running", heard)


_OF_EXPERIMENT = (experiments.c.deleted_ms.label("hidden_ms"), experiments.c.artifact_location)


def _models(before_ms: int) -> Any:
    gone = or_(models.c.deleted_ms < before_ms, experiments.c.deleted_ms < before_ms)
    columns = (models.c.id, models.c.uid, models.c.name, models.c.artifact_uri, models.c.deleted_ms, *_OF_EXPERIMENT)
    return select(*columns).join(experiments).where(gone).order_by(models.c.id)


def _experiments(before_ms: int) -> Any:
    used = [exists().where(table.c.experiment_id == experiments.c.id) for table in (runs, models)]
    where = (experiments.c.deleted_ms < before_ms, experiments.c.id != 0, *(~one for one in used))
    return select(experiments).where(*where).order_by(experiments.c.id)


def _deleted(kind: Literal["run", "model"], row: Row[Any], before_ms: int) -> Deleted:
    [times] = typed([(row.deleted_ms, row.hidden_ms)], tuple[int | None, int | None], f"{kind}s", ("deleted_ms",) * 2)
    values = {
        "kind": kind,
        "id": row.uid,
        "name": row.name,
        "deleted_ms": min(ms for ms in times if ms is not None and ms < before_ms),
        "artifact_uri": row.artifact_uri,
        "location": row.artifact_location,
    }
    return record(Deleted, f"{kind}s", values)
