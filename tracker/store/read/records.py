"""Reads runs: converts rows to records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from tracker.domain.errors import RunNotFound
from tracker.domain.records import Epoch, Event, Experiment, Fit, Histogram, Run, Series
from tracker.domain.run_progress import Progress
from tracker.domain.vocabulary import Axis
from tracker.store import addresses
from tracker.store.database.typed_rows import Json, from_json, record, record_of_row, typed
from tracker.store.points import histogram_codec
from tracker.store.points.series_rows import read_points
from tracker.store.points.supersession import fit_starts, is_superseded, not_superseded, visible
from tracker.store.read.params import ParamType, param_value
from tracker.store.tables import (
    CHECKPOINT_SAVED,
    epochs,
    events,
    experiments,
    fits,
    histograms,
    params,
    runs,
    series,
    tags,
)

_FIT_FIELDS = tuple(field.name for field in fields(Fit))
DELETED_MS = func.coalesce(runs.c.deleted_ms, experiments.c.deleted_ms)
"""When the run or its experiment was deleted; for `runs` joined with `experiments`."""

run_rows: Select[Any] = select(
    *(DELETED_MS.label("deleted_ms") if column is runs.c.deleted_ms else column for column in runs.c),
    experiments.c.name.label("experiment"),
).join(experiments, experiments.c.id == runs.c.experiment_id)
"""Selects the columns that `run_record` needs."""


def run_record(row: Row[Any]) -> Run:
    """The record of a row with the columns of `run_rows`; a run of a deleted experiment counts as deleted."""
    values = {
        "id": row.uid,
        "name": row.name,
        "experiment": row.experiment,
        "status": row.status,
        "started_ms": row.started_ms,
        "ended_ms": row.ended_ms,
        "best_epoch": row.best_epoch,
        "artifact_uri": row.artifact_uri,
        "best_metric": row.best_metric,
        "best_value": row.best_value,
        "alive_ms": row.alive_ms,
        "deleted_ms": row.deleted_ms,
        "stop_requested": row.stop_requested_ms is not None,
        "opened_ms": row.opened_ms,
        "spent_ms": row.spent_ms,
    }
    return record(Run, "runs", values)


def run_key(connection: Connection, run_id: str) -> int:
    """The integer key of a run; RunNotFound."""
    key = connection.execute(select(runs.c.id).where(runs.c.uid == run_id)).scalar()
    if key is None:
        raise RunNotFound(run_id)
    return int(key)


def all_experiments(connection: Connection) -> Sequence[Experiment]:
    rows = connection.execute(select(experiments).where(experiments.c.deleted_ms.is_(None)).order_by(experiments.c.id))
    return [
        record(Experiment, "experiments", {"id": row.id, "name": row.name, "created_ms": row.created_ms})
        for row in rows
    ]


def get_run(connection: Connection, run_id: str) -> Run:
    row = connection.execute(run_rows.where(runs.c.uid == run_id)).one_or_none()
    if row is None:
        raise RunNotFound(run_id)
    return run_record(row)


def progress(connection: Connection, run: int) -> Progress:
    latest = connection.execute(
        select(fits).where(fits.c.run_id == run).order_by(fits.c.number.desc()).limit(1)
    ).one_or_none()
    top_of_axis = select(series.c.axis, func.max(series.c.last_step)).where(series.c.run_id == run)
    rows = typed(
        connection.execute(top_of_axis.group_by(series.c.axis)),
        tuple[Axis, int | None],
        "series",
        ("axis", "last_step"),
    )
    tops = {axis: top for axis, top in rows if top is not None}
    shown = _visible_epochs(connection, run)
    last_epoch = max([tops.get("epoch", -1), *(row.number for row in shown)])
    steps = max([tops.get("step", 0), *(row.step or 0 for row in shown)])
    values = {
        "fits": latest.number if latest else 0,
        "phase": latest.phase if latest else 0,
        "next_epoch": last_epoch + 1,
        "next_step": tops.get("step", -1) + 1,
        "steps": steps,
        "phase_epoch": latest.phase_epoch if latest else 0,
        "phase_step": latest.phase_step if latest else 0,
    }
    return record(Progress, "fits", values)


def get_params(connection: Connection, run: int) -> Mapping[str, Any]:
    rows = connection.execute(
        select(params.c.key, params.c.type, params.c.text).where(params.c.run_id == run).order_by(params.c.key)
    )
    typed_rows = typed(rows, tuple[str, ParamType, str], "params", ("key", "type", "text"))
    return {key: param_value(type_, text) for key, type_, text in typed_rows}


def get_tags(connection: Connection, run: int) -> Mapping[str, str]:
    rows = connection.execute(select(tags.c.key, tags.c.value).where(tags.c.run_id == run).order_by(tags.c.key))
    return dict(typed(rows, tuple[str, str], "tags", ("key", "value")))


def metrics(connection: Connection, run: int) -> Mapping[str, Series]:
    rows = connection.execute(select(series).where(series.c.run_id == run, series.c.count > 0).order_by(series.c.key))
    return {row.key: _series(row) for row in rows}


def _series(row: Row[Any]) -> Series:
    low, high = _extreme(row, "min"), _extreme(row, "max")
    values = {
        "key": row.key,
        "axis": row.axis,
        "goal": row.goal,
        "count": row._mapping["count"],
        "last": _extreme(row, "last"),
        "min": low,
        "max": high,
        "best": low if row.goal == "min" else high if row.goal == "max" else None,
    }
    return record(Series, "series", values)


def _extreme(row: Row[Any], name: str) -> dict[str, Any] | None:
    """The values of an `Extreme`."""
    step = getattr(row, f"{name}_step")
    if step is None:
        return None
    value = getattr(row, f"{name}_value")
    return {"value": float("nan") if value is None else value, "step": step, "ms": getattr(row, f"{name}_ms")}


def get_fits(connection: Connection, run: int) -> Sequence[Fit]:
    rows = connection.execute(select(fits).where(fits.c.run_id == run).order_by(fits.c.number))
    return [record(Fit, "fits", {field: getattr(row, field) for field in _FIT_FIELDS}) for row in rows]


def get_epochs(connection: Connection, run: int) -> Sequence[Epoch]:
    values: dict[int, dict[str, float]] = {}
    starts = fit_starts(connection, run, "epoch")
    axis: Axis = "epoch"
    for one in connection.execute(
        select(series.c.id, series.c.key, series.c.sealed_step)
        .where(series.c.run_id == run, series.c.axis == axis)
        .order_by(series.c.key)
    ):
        points = read_points(connection, one.id, one.sealed_step)
        seen = visible(points, starts)
        for step, value in zip(points.steps[seen].tolist(), points.values[seen].tolist(), strict=True):
            values.setdefault(step, {})[one.key] = value
    return [
        record(
            Epoch,
            "epochs",
            {
                "number": row.number,
                "fit": row.fit,
                "seconds": row.seconds,
                "metrics": values.get(row.number, {}),
                "ms": row.ms,
            },
        )
        for row in _visible_epochs(connection, run)
    ]


def _visible_epochs(connection: Connection, run: int) -> Sequence[Row[Any]]:
    """The rows of epochs that are not superseded, one for each number: the last one."""
    c = epochs.c
    there = not_superseded(epochs, c.number, fits.c.first_epoch)
    rows = connection.execute(select(epochs).where(c.run_id == run, there).order_by(c.number, c.ms, c.fit)).all()
    columns = ("number", "fit", "step")
    typed([(row.number, row.fit, row.step) for row in rows], tuple[int, int, int | None], "epochs", columns)
    return list({row.number: row for row in rows}.values())


def get_events(connection: Connection, run: int) -> Sequence[Event]:
    rows = connection.execute(select(events).where(events.c.run_id == run).order_by(events.c.ms, events.c.id))
    shown = addresses.of(connection.dialect).shown
    return [
        record(
            Event,
            "events",
            {
                "kind": row.kind,
                "epoch": row.epoch,
                "step": row.step,
                "ms": row.ms,
                "detail": _detail(row, shown),
                "fit": row.fit,
            },
        )
        for row in rows
    ]


def _detail(row: Row[Any], shown: Callable[[str], str]) -> dict[str, Any]:
    detail = from_json(row.detail, Json, "events.detail")
    if row.kind == CHECKPOINT_SAVED and isinstance(uri := detail.get("uri"), str):
        detail["uri"] = shown(uri)
    return detail


def get_histograms(connection: Connection, run: int, key: str | None) -> Sequence[Histogram]:
    statement = select(histograms).where(histograms.c.run_id == run)
    if key is not None:
        statement = statement.where(histograms.c.key == key)
    c = histograms.c
    shown: dict[tuple[str, int], Histogram] = {}
    axes: tuple[Axis, ...] = ("epoch", "step", "time")
    starts = {axis: fit_starts(connection, run, axis) for axis in axes}
    for row in connection.execute(statement.order_by(c.key, c.step, c.fit)):
        axis, step, its = record_of_row(
            (row.axis, row.step, row.fit), tuple[Axis, int, int], "histograms", ("axis", "step", "fit")
        )
        if is_superseded(its, step, starts[axis]):
            continue
        edges, counts = _edges_and_counts(row)
        values = {"key": row.key, "axis": row.axis, "step": row.step, "ms": row.ms, "edges": edges, "counts": counts}
        shown[row.key, row.step] = record(Histogram, "histograms", values)
    return list(shown.values())


def _edges_and_counts(row: Row[Any]) -> tuple[list[float], list[int]]:
    if row.data is None:
        edges = from_json(row.edges, list[float], "histograms.edges")
        return edges, from_json(row.counts, list[int], "histograms.counts")
    (data,) = record_of_row((row.data,), tuple[bytes], "histograms", ("data",))
    return histogram_codec.decode(data)
