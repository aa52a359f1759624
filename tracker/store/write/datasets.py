"""Stores the data sets that runs use, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence

from tracker.domain.catalogue import DatasetUse
from tracker.domain.errors import InvalidValue
from tracker.store.catalogue_tables import datasets, run_datasets
from tracker.store.database.driver_cursor import DriverCursor
from tracker.store.database.json_columns import as_text
from tracker.store.database.row_writer import write

_DATASET = "SELECT id FROM datasets WHERE experiment_id = ? AND name = ? AND digest = ?"


def use_datasets(raw: DriverCursor, run: int, experiment_id: int, uses: Sequence[DatasetUse]) -> None:
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
        write(raw, datasets, row, ("experiment_id", "name", "digest"))
        ((id,),) = raw.rows(_DATASET, (experiment_id, name, digest))
        link = {"run_id": run, "dataset_id": id, "tags": _tags(use)}
        write(raw, run_datasets, link, ("run_id", "dataset_id"))


def _tags(use: DatasetUse) -> str:
    text = as_text(dict(use.tags))
    if "\\u0000" in text:
        raise InvalidValue("tags", f"of data set {use.dataset.name!r} have a NUL, which no database keeps in text")
    return text
