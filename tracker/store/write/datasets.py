"""Stores the data sets that runs use, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from tracker.domain.catalogue import Dataset, DatasetUse
from tracker.domain.errors import InvalidValue
from tracker.domain.frames import DatasetLogged
from tracker.store.catalogue_tables import datasets, run_datasets
from tracker.store.database.json_columns import as_text
from tracker.store.database.row_writer import rows_of, write

_DATASET = "SELECT id FROM datasets WHERE experiment_id = ? AND name = ? AND digest = ?"


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


def use_datasets(connection: Connection, run: int, experiment_id: int, uses: Sequence[DatasetUse]) -> None:
    """Record that a run used the data sets; one that it used before keeps its first tags. Its row must be locked."""
    # Sorted, so that the transactions of two runs cannot deadlock.
    first = {(use.dataset.name, use.dataset.digest): use for use in reversed(uses)}
    for (name, digest), use in sorted(first.items(), key=lambda item: item[0]):
        one = use.dataset
        row = {
            "experiment_id": experiment_id,
            "name": name,
            "digest": digest,
            "source_type": one.source_type,
            "source": one.source,
            "schema": one.schema,
            "profile": one.profile,
        }
        write(connection, datasets, [row], ("experiment_id", "name", "digest"))
        ((id,),) = rows_of(connection, _DATASET, (experiment_id, name, digest))
        link = {"run_id": run, "dataset_id": id, "tags": _tags(use)}
        write(connection, run_datasets, [link], ("run_id", "dataset_id"))


def _tags(use: DatasetUse) -> str:
    text = as_text(dict(use.tags))
    if "\\u0000" in text:
        raise InvalidValue("tags", f"of data set {use.dataset.name!r} have a NUL, which no database keeps in text")
    return text
