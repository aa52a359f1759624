"""Stores the data sets in a run's journal, in the caller's transaction."""

from __future__ import annotations

from sqlalchemy import Connection

from tracker.domain.catalogue import Dataset, DatasetUse
from tracker.domain.frames import DatasetLogged
from tracker.store.catalogue_inputs import use_datasets
from tracker.store.row_writer import rows_of


def add_dataset(connection: Connection, run: int, item: DatasetLogged) -> None:
    """Record that the run used the data set. The run's row must be locked."""
    ((experiment,),) = rows_of(connection, "SELECT experiment_id FROM runs WHERE id = ?", (run,))
    one = Dataset(
        name=item.name,
        digest=item.digest,
        source_type=item.source_type,
        source=item.source,
        schema=item.schema,
        profile=item.profile,
    )
    use_datasets(connection, run, experiment, [DatasetUse(dataset=one, tags=item.tags)])
