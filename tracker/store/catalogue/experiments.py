"""Experiments of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, Update, delete, select, update
from sqlalchemy.exc import IntegrityError

from tracker.domain.catalogue import ExperimentDetail, Lifecycle
from tracker.domain.errors import ExperimentDeleted, ExperimentExists, ExperimentNotFound, KeyNotFound
from tracker.domain.limits import check_experiment
from tracker.store.catalogue.base import CataloguePart
from tracker.store.catalogue_tables import experiment_tags
from tracker.store.database.dialect import add, possible_ids, upsert
from tracker.store.database.typed_rows import record
from tracker.store.tables import experiments, runs
from tracker.store.write.deletion import delete_experiment, delete_runs


class ExperimentCatalogue(CataloguePart):
    """Experiments."""

    def create(self, name: str, *, artifact_location: str | None = None, tags: Mapping[str, str] | None = None) -> int:
        """Create an experiment; return its id. ExperimentExists if the name is taken, by a deleted one too."""
        ms = self._clock()
        with self._changing() as connection:
            row = {
                "name": check_experiment(name),
                "created_ms": ms,
                "updated_ms": ms,
                "artifact_location": artifact_location,
            }
            made = add(connection, experiments, ("name",), row)
            found = connection.execute(select(experiments).where(experiments.c.name == name)).one()
            if not made:
                raise ExperimentExists(name, deleted=found.deleted_ms is not None)
            if tags:
                rows = [{"experiment_id": found.id, "key": key, "value": value} for key, value in tags.items()]
                connection.execute(experiment_tags.insert(), rows)
            return int(found.id)

    def get(self, id: int) -> ExperimentDetail:
        """The experiment, deleted or not."""
        with self._reading() as connection:
            return _details(connection, [row(connection, id)], experiment_tags.c.experiment_id == id)[0]

    def named(self, name: str) -> ExperimentDetail | None:
        """The experiment of that name, deleted or not."""
        with self._reading() as connection:
            found = connection.execute(select(experiments).where(experiments.c.name == name)).all()
            return _details(connection, found, experiment_tags.c.experiment_id == found[0].id)[0] if found else None

    def listed(self, lifecycle: Lifecycle = "active") -> Sequence[ExperimentDetail]:
        """All experiments in that lifecycle stage, by id."""
        with self._reading() as connection:
            statement: Select[Any] = select(experiments).order_by(experiments.c.id)
            if lifecycle != "all":
                deleted = experiments.c.deleted_ms.is_not(None)
                statement = statement.where(deleted if lifecycle == "deleted" else ~deleted)
            return _details(connection, connection.execute(statement).all())

    def rename(self, id: int, name: str) -> None:
        """Rename it; ExperimentExists if the name is taken."""
        ms = self._clock()
        with self._changing() as connection:
            active(connection, id)
            holder = connection.execute(
                select(experiments).where(experiments.c.name == check_experiment(name))
            ).one_or_none()
            if holder is not None and holder.id != id:
                raise ExperimentExists(name, deleted=holder.deleted_ms is not None)
            try:
                connection.execute(update(experiments).where(experiments.c.id == id).values(name=name, updated_ms=ms))
            except IntegrityError as error:  # another process took the name meanwhile
                raise ExperimentExists(name, deleted=False) from error

    def delete(self, id: int) -> None:
        """Hide it and its runs; `Default` (0) can be deleted like any other."""
        with self._changing() as connection:
            active(connection, id)
            connection.execute(_change(id, deleted_ms=self._clock(), updated_ms=self._clock()))

    def restore(self, id: int) -> None:
        """Show it and its runs again."""
        with self._changing() as connection:
            if row(connection, id).deleted_ms is not None:
                connection.execute(_change(id, deleted_ms=None, updated_ms=self._clock()))

    def remove(self, id: int) -> None:
        """Remove all its rows for good, but not the row of `Default` itself; files stay."""
        with self._changing() as connection:
            row(connection, id)
            delete_runs(connection, runs.c.experiment_id == id)
            delete_experiment(connection, id)

    def set_tag(self, id: int, key: str, value: str) -> None:
        """Set one tag."""
        with self._changing() as connection:
            active(connection, id)
            statement = upsert(connection, experiment_tags, ("experiment_id", "key"), ("value",))
            connection.execute(statement, {"experiment_id": id, "key": key, "value": value})

    def delete_tag(self, id: int, key: str) -> None:
        """Remove one tag; KeyNotFound if there is none."""
        with self._changing() as connection:
            active(connection, id)
            its = experiment_tags.c.experiment_id == id
            if not connection.execute(delete(experiment_tags).where(its, experiment_tags.c.key == key)).rowcount:
                raise KeyNotFound(f"experiment {id}", key)


def _change(id: int, **values: int | None) -> Update:
    return update(experiments).where(experiments.c.id == id).values(values)


def row(connection: Connection, id: int) -> Row[Any]:
    """The experiment's row; ExperimentNotFound."""
    found = connection.execute(select(experiments).where(experiments.c.id.in_(possible_ids([id])))).one_or_none()
    if found is None:
        raise ExperimentNotFound(str(id))
    return found


def active(connection: Connection, id: int) -> Row[Any]:
    found = row(connection, id)
    if found.deleted_ms is not None:
        raise ExperimentDeleted(found.name)
    return found


def _details(connection: Connection, rows: Sequence[Row[Any]], *which: Any) -> list[ExperimentDetail]:
    tags: dict[int, dict[str, str]] = {row.id: {} for row in rows}
    for tag in connection.execute(select(experiment_tags).where(*which).order_by(experiment_tags.c.key)):
        tags.get(tag.experiment_id, {})[tag.key] = tag.value
    return [
        record(
            ExperimentDetail,
            "experiments",
            {
                "id": row.id,
                "name": row.name,
                "created_ms": row.created_ms,
                "updated_ms": row.created_ms if row.updated_ms is None else row.updated_ms,
                "deleted_ms": row.deleted_ms,
                "artifact_location": row.artifact_location,
                "tags": tags[row.id],
            },
        )
        for row in rows
    ]
