"""Creates, changes and reads runs without a journal, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from tracker.domain.catalogue import RunDetail
from tracker.domain.errors import KeyNotFound, RunDeleted, RunExists, RunNotFound
from tracker.domain.identity import now_ms
from tracker.domain.limits import check_name, check_run_id
from tracker.domain.records import Run
from tracker.domain.vocabulary import RunStatus
from tracker.store.catalogue import experiments as catalogue_experiments
from tracker.store.database.dialect import add
from tracker.store.read.records import run_record, run_rows
from tracker.store.read.run_details import details_of
from tracker.store.tables import experiments, runs
from tracker.store.tables import tags as tag_rows
from tracker.store.write import sessions


def create(
    connection: Connection,
    run_id: str,
    experiment_id: int,
    *,
    name: str,
    started_ms: int,
    artifact_uri: str,
    tags: Mapping[str, str],
    ms: int,
) -> RunDetail:
    """Create a running run without a lease; RunExists, ExperimentNotFound, ExperimentDeleted."""
    experiment = catalogue_experiments.active(connection, experiment_id)
    row = {
        "uid": check_run_id(run_id),
        "experiment_id": experiment_id,
        "name": check_name(name),
        "status": "running",
        "started_ms": started_ms,
        "alive_ms": ms,
        "writer": "",
        "artifact_uri": artifact_uri,
        # Never a version of a removed run with this id: caches compare id and version.
        "version": ms,
    }
    if not add(connection, runs, ("uid",), row):
        raise RunExists(run_id)
    if tags:
        run_key = connection.execute(select(runs.c.id).where(runs.c.uid == run_id)).scalar()
        rows = [{"run_id": run_key, "key": key, "value": value} for key, value in tags.items()]
        connection.execute(tag_rows.insert(), rows)
    run = Run(
        id=run_id,
        name=name,
        experiment=experiment.name,
        status="running",
        started_ms=started_ms,
        ended_ms=None,
        best_epoch=None,
        artifact_uri=artifact_uri,
        alive_ms=ms,
    )
    return RunDetail(
        run=run, experiment_id=experiment_id, params={}, tags=dict(tags), metrics={}, datasets=[], inputs=[], outputs=[]
    )


def change(
    connection: Connection, run_id: str, *, status: RunStatus | None, ended_ms: int | None, name: str | None
) -> Run:
    """Set what is not None; see `Catalogue.change_run`."""
    row = locked(connection, run_id)
    values: dict[str, Any] = {"version": runs.c.version + 1}
    if ended_ms is not None:
        values["ended_ms"] = ended_ms
    if name is not None:
        values["name"] = check_name(name)
    if status is not None:
        values["status"] = status
        if status == "running":
            values["ended_ms"] = None
            if row.status != "running":
                values.update(sessions.begin(row._mapping.__getitem__, now_ms()))
        # A valid lease of a running run stays. Otherwise it is removed, so that it cannot change the status later.
        if status != "running" or row.status != "running":
            values["writer"] = ""
    connection.execute(update(runs).where(runs.c.id == row.id).values(values))
    return run_record(connection.execute(run_rows.where(runs.c.id == row.id)).one())


def delete_tag(connection: Connection, run_id: str, key: str) -> None:
    """Remove one tag; KeyNotFound if there is none."""
    run = locked(connection, run_id).id
    if not connection.execute(delete(tag_rows).where(tag_rows.c.run_id == run, tag_rows.c.key == key)).rowcount:
        raise KeyNotFound(f"run {run_id!r}", key)
    bump(connection, run)


def detail(connection: Connection, run_id: str) -> RunDetail:
    """The details of one run, deleted or not; RunNotFound."""
    row = connection.execute(run_rows.where(runs.c.uid == run_id)).one_or_none()
    if row is None:
        raise RunNotFound(run_id)
    return details_of(connection, [row])[0]


def locked(connection: Connection, run_id: str) -> Row[Any]:
    """The run's row, locked until the transaction ends; RunNotFound, RunDeleted if it or its experiment is deleted."""
    statement = select(runs, experiments.c.deleted_ms.label("hidden_ms")).join(experiments).where(runs.c.uid == run_id)
    row = connection.execute(statement.with_for_update(of=runs)).one_or_none()
    if row is None:
        raise RunNotFound(run_id)
    if row.deleted_ms is not None or row.hidden_ms is not None:
        raise RunDeleted(run_id)
    return row


def bump(connection: Connection, run: int) -> None:
    """Raise the run's version, because something of the run changed."""
    connection.execute(update(runs).where(runs.c.id == run).values(version=runs.c.version + 1))
