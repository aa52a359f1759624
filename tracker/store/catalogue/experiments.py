"""Creates, renames, tags, deletes and restores experiments, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, select, update
from sqlalchemy.exc import IntegrityError

from tracker.domain.catalogue import ExperimentDetail, Life
from tracker.domain.errors import ExperimentDeleted, ExperimentExists, ExperimentNotFound, KeyNotFound
from tracker.domain.limits import check_experiment
from tracker.store.catalogue_tables import datasets, experiment_tags, models
from tracker.store.database.dialect import add, possible_ids, upsert
from tracker.store.database.typed_rows import record
from tracker.store.tables import experiments


def create(connection: Connection, name: str, artifact_location: str | None, tags: Mapping[str, str], ms: int) -> int:
    """Create an experiment; return its id. Of processes that use a name at once, all but one get ExperimentExists."""
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


def get(connection: Connection, id: int) -> ExperimentDetail:
    """The experiment, deleted or not; ExperimentNotFound."""
    return _details(connection, [row(connection, id)], experiment_tags.c.experiment_id == id)[0]


def named(connection: Connection, name: str) -> ExperimentDetail | None:
    """The experiment of that name, deleted or not."""
    found = connection.execute(select(experiments).where(experiments.c.name == name)).all()
    return _details(connection, found, experiment_tags.c.experiment_id == found[0].id)[0] if found else None


def listed(connection: Connection, life: Life) -> Sequence[ExperimentDetail]:
    """All experiments of that life, by id."""
    statement: Select[Any] = select(experiments).order_by(experiments.c.id)
    if life != "all":
        deleted = experiments.c.deleted_ms.is_not(None)
        statement = statement.where(deleted if life == "deleted" else ~deleted)
    return _details(connection, connection.execute(statement).all())


def rename(connection: Connection, id: int, name: str, ms: int) -> None:
    """Rename it."""
    active(connection, id)
    holder = connection.execute(select(experiments).where(experiments.c.name == check_experiment(name))).one_or_none()
    if holder is not None and holder.id != id:
        raise ExperimentExists(name, deleted=holder.deleted_ms is not None)
    try:
        connection.execute(update(experiments).where(experiments.c.id == id).values(name=name, updated_ms=ms))
    except IntegrityError as error:  # another process took the name meanwhile
        raise ExperimentExists(name, deleted=False) from error


def set_deleted(connection: Connection, id: int, *, deleted: bool, ms: int) -> None:
    """Delete or restore it; ExperimentDeleted if it is to be deleted and is already."""
    if deleted:
        active(connection, id)
    elif row(connection, id).deleted_ms is None:
        return
    change = update(experiments).where(experiments.c.id == id)
    connection.execute(change.values(deleted_ms=ms if deleted else None, updated_ms=ms))


def remove(connection: Connection, id: int) -> None:
    """Delete its rows; its runs must be removed before. `Default` stays, empty."""
    row(connection, id)
    for table in (experiment_tags, models, datasets):
        connection.execute(delete(table).where(table.c.experiment_id == id))
    if id != 0:
        connection.execute(delete(experiments).where(experiments.c.id == id))


def set_tag(connection: Connection, id: int, key: str, value: str) -> None:
    """Set one tag."""
    active(connection, id)
    statement = upsert(connection, experiment_tags, ("experiment_id", "key"), ("value",))
    connection.execute(statement, {"experiment_id": id, "key": key, "value": value})


def delete_tag(connection: Connection, id: int, key: str) -> None:
    """Remove one tag; KeyNotFound if there is none."""
    active(connection, id)
    its = experiment_tags.c.experiment_id == id
    if not connection.execute(delete(experiment_tags).where(its, experiment_tags.c.key == key)).rowcount:
        raise KeyNotFound(f"experiment {id}", key)


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
