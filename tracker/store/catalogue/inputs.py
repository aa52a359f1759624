"""Inputs and outputs of runs: data sets, and links to logged models, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any, Literal

from sqlalchemy import Connection, select

from tracker.domain.catalogue import Dataset, DatasetUse, ModelLink
from tracker.store.catalogue.runs import bump, locked
from tracker.store.catalogue_tables import datasets, run_datasets, run_models
from tracker.store.database.dialect import possible_ids, text_of_json, upsert
from tracker.store.database.typed_rows import record
from tracker.store.search.conditions import CONTEXT
from tracker.store.tables import experiments, runs
from tracker.store.write.datasets import use_datasets

_DATASET_FIELDS = tuple(field.name for field in fields(Dataset))


def add_datasets(connection: Connection, run_id: str, uses: Sequence[DatasetUse]) -> None:
    """Record that the run used the data sets. One that it used before keeps its first tags."""
    run = locked(connection, run_id)
    use_datasets(connection, run.id, run.experiment_id, uses)
    bump(connection, run.id)


def link_models(
    connection: Connection, run_id: str, direction: Literal["input", "output"], links: Sequence[ModelLink]
) -> None:
    """Record that the run used or made the models; of several steps of a model the last one counts."""
    run = locked(connection, run_id)
    steps = {link.model_id: link.step for link in links}
    if steps:
        connection.execute(
            upsert(connection, run_models, ("run_id", "direction", "model_uid"), ("step",)),
            [
                {"run_id": run.id, "direction": direction, "model_uid": model_id, "step": step}
                for model_id, step in sorted(steps.items())
            ],
        )
    bump(connection, run.id)


def dataset_uses(connection: Connection, experiment_ids: Iterable[int], limit: int) -> list[tuple[int, DatasetUse]]:
    """See `Catalogue.dataset_uses`; sorted by experiment, name and digest."""
    context = text_of_json(run_datasets.c.tags, CONTEXT, connection.dialect.name).label("context")
    statement = (
        select(datasets.c.id, context)
        .distinct()
        .select_from(datasets)
        .join(run_datasets, run_datasets.c.dataset_id == datasets.c.id)
        .join(runs, runs.c.id == run_datasets.c.run_id)
        .join(experiments, experiments.c.id == runs.c.experiment_id)
        .where(
            datasets.c.experiment_id.in_(possible_ids(experiment_ids)),
            runs.c.deleted_ms.is_(None),
            experiments.c.deleted_ms.is_(None),
        )
        .limit(limit)
    )
    found = connection.execute(statement).all()
    rows = {
        row.id: row for row in connection.execute(select(datasets).where(datasets.c.id.in_({row.id for row in found})))
    }
    uses = [
        (rows[id].experiment_id, DatasetUse(dataset=dataset(rows[id]), tags={} if use is None else {CONTEXT: use}))
        for id, use in found
    ]
    return sorted(uses, key=lambda use: (use[0], use[1].dataset.name, use[1].dataset.digest, str(dict(use[1].tags))))


def dataset(row: Any) -> Dataset:
    """The record of a row of `datasets`."""
    return record(Dataset, "datasets", {field: getattr(row, field) for field in _DATASET_FIELDS})
