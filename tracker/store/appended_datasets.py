"""Data sets that a run's journal names, in the caller's transaction."""

from __future__ import annotations

from sqlalchemy import Connection, select

from tracker.domain.catalogue import Dataset, DatasetUse
from tracker.domain.frames import DatasetLogged
from tracker.store.catalogue_inputs import use_datasets
from tracker.store.tables import runs


def add_dataset(connection: Connection, run: int, item: DatasetLogged) -> None:
    """Say that the run, whose row is locked, used it."""
    experiment = connection.execute(select(runs.c.experiment_id).where(runs.c.id == run)).scalar_one()
    one = Dataset(
        name=item.name,
        digest=item.digest,
        source_type=item.source_type,
        source=item.source,
        schema=item.schema,
        profile=item.profile,
    )
    use_datasets(connection, run, experiment, [DatasetUse(dataset=one, tags=item.tags)])
