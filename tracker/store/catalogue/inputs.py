"""Inputs and outputs of runs: data sets, and links to logged models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any, Literal

from sqlalchemy import Connection, select

from tracker.domain.catalogue import Dataset, DatasetUse, ModelLink
from tracker.store.catalogue.base import CataloguePart
from tracker.store.catalogue_tables import datasets, run_datasets, run_models
from tracker.store.database.dialect import possible_ids, text_of_json, upsert
from tracker.store.database.typed_rows import record
from tracker.store.search.filter_sql import CONTEXT
from tracker.store.tables import experiments, runs
from tracker.store.write.datasets import use_datasets

_DATASET_FIELDS = tuple(field.name for field in fields(Dataset))


class InputCatalogue(CataloguePart):
    """Data sets that runs used, and logged models that they used or made."""

    def add(self, run_id: str, *, datasets: Sequence[DatasetUse] = (), models: Sequence[ModelLink] = ()) -> None:
        """Record what the run used. A data set that it used before keeps its first tags."""
        with self._changing_run(run_id) as (raw, run):
            use_datasets(raw, run.id, run.now("experiment_id"), datasets)
            _link_models(raw.connection, run.id, "input", models)

    def add_outputs(self, run_id: str, models: Sequence[ModelLink]) -> None:
        """Record that the run made the models."""
        with self._changing_run(run_id) as (raw, run):
            _link_models(raw.connection, run.id, "output", models)

    def uses(self, experiment_ids: Iterable[int], *, limit: int = 1000) -> Sequence[tuple[int, DatasetUse]]:
        """The data sets that active runs of the experiments used, each with its experiment, once for each context.

        Sorted by experiment, name and digest.
        """
        with self._reading() as connection:
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
                row.id: row
                for row in connection.execute(select(datasets).where(datasets.c.id.in_({row.id for row in found})))
            }
            uses = [
                (
                    rows[id].experiment_id,
                    DatasetUse(dataset=_dataset(rows[id]), tags={} if use is None else {CONTEXT: use}),
                )
                for id, use in found
            ]
            return sorted(
                uses, key=lambda use: (use[0], use[1].dataset.name, use[1].dataset.digest, str(dict(use[1].tags)))
            )


def _link_models(
    connection: Connection, run: int, direction: Literal["input", "output"], links: Sequence[ModelLink]
) -> None:
    """Of several steps of a model the last one counts."""
    steps = {link.model_id: link.step for link in links}
    if steps:
        connection.execute(
            upsert(connection, run_models, ("run_id", "direction", "model_uid"), ("step",)),
            [
                {"run_id": run, "direction": direction, "model_uid": model_id, "step": step}
                for model_id, step in sorted(steps.items())
            ],
        )


def _dataset(row: Any) -> Dataset:
    """The record of a row of `datasets`."""
    return record(Dataset, "datasets", {field: getattr(row, field) for field in _DATASET_FIELDS})
