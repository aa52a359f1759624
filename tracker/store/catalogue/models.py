"""Logged models of the catalogue."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import Connection, Row, delete, select, update

from tracker.domain.catalogue import LoggedModel, ModelMetric, ModelStatus
from tracker.domain.errors import InvalidValue, KeyNotFound, ModelNotFound, RunNotFound
from tracker.store.catalogue.base import CataloguePart
from tracker.store.catalogue.experiments import active
from tracker.store.catalogue_tables import model_metrics, model_texts, models
from tracker.store.database.dialect import add, possible_ids, upsert
from tracker.store.database.typed_rows import record, typed
from tracker.store.tables import runs

_rows = select(models, runs.c.uid.label("run_uid")).outerjoin(runs, runs.c.id == models.c.run_id)

_TextKind = Literal["param", "tag"]


_METRIC = tuple(
    model_metrics.c[name] for name in ("run_id", "key", "step", "ms", "value", "dataset_name", "dataset_digest")
)


class ModelCatalogue(CataloguePart):
    """Logged models."""

    def create(
        self,
        model_id: str,
        experiment_id: int,
        *,
        name: str,
        artifact_uri: str,
        kind: str | None = None,
        run_id: str | None = None,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> LoggedModel:
        """Create a pending model; InvalidValue if the id is taken."""
        ms = self._clock()
        with self._changing() as connection:
            active(connection, experiment_id)
            row = {
                "uid": model_id,
                "experiment_id": experiment_id,
                "run_id": None if run_id is None else _run_keys(connection, [run_id])[run_id],
                "name": name,
                "kind": kind,
                "status": "pending",
                "artifact_uri": artifact_uri,
                "created_ms": ms,
                "updated_ms": ms,
            }
            if not add(connection, models, ("uid",), row):
                raise InvalidValue("model_id", f"{model_id!r} is taken", limit="an id of its own for each model")
            id = connection.execute(select(models.c.id).where(models.c.uid == model_id)).scalar_one()
            _set_texts(connection, id, "param", params or {})
            _set_texts(connection, id, "tag", tags or {})
            return _record(connection, model_id)

    def get(self, model_id: str, *, deleted: bool = False) -> LoggedModel:
        """The model; a deleted one only if `deleted`."""
        with self._reading() as connection:
            return _record(connection, model_id, deleted=deleted)

    def listed(self, experiment_ids: Iterable[int]) -> Sequence[LoggedModel]:
        """The experiments' models, newest first, without deleted ones."""
        with self._reading() as connection:
            theirs = models.c.experiment_id.in_(possible_ids(experiment_ids))
            statement = _rows.where(theirs, models.c.deleted_ms.is_(None))
            return _records(
                connection, connection.execute(statement.order_by(models.c.created_ms.desc(), models.c.id.desc())).all()
            )

    def change(
        self,
        model_id: str,
        *,
        status: ModelStatus | None = None,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> LoggedModel:
        """Set what is not None; other params and tags stay."""
        ms = self._clock()
        with self._changing() as connection:
            row = _row(connection, model_id)
            _set_texts(connection, row.id, "param", params or {})
            _set_texts(connection, row.id, "tag", tags or {})
            values: dict[str, Any] = {"updated_ms": ms} if status is None else {"updated_ms": ms, "status": status}
            connection.execute(update(models).where(models.c.id == row.id).values(values))
            return _record(connection, model_id)

    def delete_tag(self, model_id: str, key: str) -> None:
        """Remove one tag; KeyNotFound if there is none."""
        with self._changing() as connection:
            c = model_texts.c
            its = (c.model_id == _row(connection, model_id).id, c.kind == "tag", c.key == key)
            if not connection.execute(delete(model_texts).where(*its)).rowcount:
                raise KeyNotFound(f"model {model_id!r}", key)

    def delete(self, model_id: str) -> None:
        """Mark it as deleted; it can still be read with `deleted`."""
        ms = self._clock()
        with self._changing() as connection:
            row = _row(connection, model_id)
            connection.execute(update(models).where(models.c.id == row.id).values(deleted_ms=ms, updated_ms=ms))

    def remove(self, model_id: str) -> None:
        """Remove its rows for good; its files stay."""
        with self._changing() as connection:
            if not connection.execute(delete(models).where(models.c.uid == model_id)).rowcount:
                raise ModelNotFound(model_id)

    def deleted_before(self, ms: int) -> Sequence[str]:
        """Ids of the models that were deleted before `ms`, the oldest first."""
        with self._reading() as connection:
            statement = select(models.c.uid).where(models.c.deleted_ms < ms)
            return connection.execute(statement.order_by(models.c.id)).scalars().all()

    def add_metrics(self, model_id: str, metrics: Sequence[ModelMetric]) -> None:
        """Add the metrics that are not stored yet; NaN equals NaN. RunNotFound for an unknown run."""
        with self._changing() as connection:
            # The model's lock keeps another process from adding the same between our select and our insert.
            statement = select(models.c.id).where(models.c.uid == model_id, models.c.deleted_ms.is_(None))
            id = connection.execute(statement.with_for_update()).scalar()
            if id is None:
                raise ModelNotFound(model_id)
            run_keys = _run_keys(connection, {metric.run_id for metric in metrics})
            stand = select(*_METRIC).where(
                model_metrics.c.model_id == id, model_metrics.c.key.in_({metric.key for metric in metrics})
            )
            known = {tuple(row) for row in connection.execute(stand)}
            rows: list[dict[str, Any]] = []
            for one in metrics:
                value = None if math.isnan(one.value) else one.value
                columns = (run_keys[one.run_id], one.key, one.step, one.ms, value, one.dataset_name, one.dataset_digest)
                if columns not in known:
                    known.add(columns)
                    rows.append({"model_id": id, **dict(zip([column.key for column in _METRIC], columns, strict=True))})
            if rows:
                connection.execute(model_metrics.insert(), rows)


def _row(connection: Connection, model_id: str, *, deleted: bool = False) -> Row[Any]:
    # No id has other characters, and PostgreSQL's driver takes no NUL.
    row = connection.execute(_rows.where(models.c.uid == model_id)).one_or_none() if model_id.isprintable() else None
    if row is None or (row.deleted_ms is not None and not deleted):
        raise ModelNotFound(model_id)
    return row


def _record(connection: Connection, model_id: str, *, deleted: bool = False) -> LoggedModel:
    return _records(connection, [_row(connection, model_id, deleted=deleted)])[0]


def _run_keys(connection: Connection, run_ids: Iterable[str]) -> dict[str, int]:
    wanted = set(run_ids)
    found: dict[str, int] = dict(connection.execute(select(runs.c.uid, runs.c.id).where(runs.c.uid.in_(wanted))).all())
    for run_id in sorted(wanted - found.keys()):
        raise RunNotFound(run_id)
    return found


def _set_texts(connection: Connection, model: int, kind: str, values: Mapping[str, str]) -> None:
    if values:
        connection.execute(
            upsert(connection, model_texts, ("model_id", "kind", "key"), ("value",)),
            [{"model_id": model, "kind": kind, "key": key, "value": value} for key, value in sorted(values.items())],
        )


def _records(connection: Connection, rows: Sequence[Row[Any]]) -> list[LoggedModel]:
    ids = [row.id for row in rows]
    texts: dict[tuple[int, str], dict[str, str]] = {(id, kind): {} for id in ids for kind in ("param", "tag")}
    columns = ("model_id", "kind", "key", "value")
    of_models = connection.execute(
        select(*(model_texts.c[name] for name in columns))
        .where(model_texts.c.model_id.in_(ids))
        .order_by(model_texts.c.key)
    )
    for id, kind, key, value in typed(of_models, tuple[int, _TextKind, str, str], "model_texts", columns):
        texts[id, kind][key] = value
    metrics: dict[int, list[ModelMetric]] = {id: [] for id in ids}
    for row in connection.execute(
        select(model_metrics, runs.c.uid.label("run_uid"))
        .join(runs, runs.c.id == model_metrics.c.run_id)
        .where(model_metrics.c.model_id.in_(ids))
        .order_by(model_metrics.c.id)
    ):
        metrics[row.model_id].append(_metric(row))
    return [
        record(
            LoggedModel,
            "models",
            {
                "id": row.uid,
                "experiment_id": row.experiment_id,
                "name": row.name,
                "artifact_uri": row.artifact_uri,
                "created_ms": row.created_ms,
                "updated_ms": row.updated_ms,
                "status": row.status,
                "status_message": row.status_message,
                "kind": row.kind,
                "run_id": row.run_uid,
                "deleted_ms": row.deleted_ms,
                "params": texts[row.id, "param"],
                "tags": texts[row.id, "tag"],
                "metrics": metrics[row.id],
            },
        )
        for row in rows
    ]


def _metric(row: Row[Any]) -> ModelMetric:
    values = {
        "key": row.key,
        "value": math.nan if row.value is None else row.value,
        "step": row.step,
        "ms": row.ms,
        "run_id": row.run_uid,
        "dataset_name": row.dataset_name,
        "dataset_digest": row.dataset_digest,
    }
    return record(ModelMetric, "model_metrics", values)
