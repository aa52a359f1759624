"""Deletes all rows of runs and of experiments, in the caller's transaction."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, delete, select

from tracker.store.catalogue_tables import datasets, experiment_tags, models
from tracker.store.tables import experiments, metric_blocks, metric_points, runs, series


def delete_runs(connection: Connection, which: ColumnElement[bool]) -> None:
    """Delete the rows of the runs that meet a condition, and their points, which have no foreign key with a cascade."""
    ids = connection.execute(select(runs.c.id).where(which).order_by(runs.c.id).with_for_update()).scalars().all()
    for start in range(0, len(ids), 1000):
        some = ids[start : start + 1000]
        theirs = select(series.c.id).where(series.c.run_id.in_(some))
        for table in (metric_points, metric_blocks):
            connection.execute(delete(table).where(table.c.series_id.in_(theirs)))
        connection.execute(delete(runs).where(runs.c.id.in_(some)))


def delete_experiment(connection: Connection, id: int) -> None:
    """Delete the experiment's rows; its runs must be deleted before. `Default` stays, empty."""
    for table in (experiment_tags, models, datasets):
        connection.execute(delete(table).where(table.c.experiment_id == id))
    if id != 0:
        connection.execute(delete(experiments).where(experiments.c.id == id))
