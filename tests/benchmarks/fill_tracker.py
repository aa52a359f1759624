"""Many runs into Tracker's store: one through `append`, the others as its rows with their own ids and values.

Through `append` each run takes a millisecond; 100 000 of them are to come in seconds.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from content import BEGIN_MS, LONG_RUN, METRICS, PARAMS, Content, long_key, long_values
from sqlalchemy import Table, func, select

from tracker.client.batch_builder import make_batch
from tracker.domain.frames import Batch, Frame, Params, PointBlock, Points, RunEnded, RunStarted
from tracker.store.engine import make_engine, reading
from tracker.store.store import SqlRunStore
from tracker.store.tables import journals, metric_points, params, runs, series

Rows = tuple[str, Sequence[str], Iterable[Sequence[object]]]
"""A table, columns of it, rows."""
_Row = dict[str, Any]


def append_first(url: str, content: Content) -> None:
    """Store the long run and the first of the others as clients do."""
    with SqlRunStore.open(url) as store:
        for batch in itertools.chain(_long_run(content), [_run(content, 0)] if content.runs else []):
            store.append(batch)


def other_rows(url: str, content: Content) -> Iterator[Rows]:
    """Rows of all tables for the other runs, parents first, made after those of the first."""
    first = _read_first(url, content.id(0))
    others = range(1, content.runs)
    yield _table(runs, (_of_run(first.run, content, run) for run in others))
    yield _table(journals, (row | {"run_id": first.id + run} for run in others for row in first.journals))
    yield _table(series, (row for run in others for row in _of_series(first, content, run)))
    yield _table(metric_points, (row for run in others for row in _of_points(first, content, run)))
    yield _table(params, (row for run in others for row in _of_params(first, content, run)))


@dataclass(frozen=True)
class _First:
    """The rows of the first run; what belongs to a metric or a parameter in the order of their names."""

    run: _Row
    journals: list[_Row]
    series: list[_Row]
    points: list[_Row]
    params: list[_Row]

    @property
    def id(self) -> int:
        return int(self.run["id"])


def _read_first(url: str, uid: str) -> _First:
    engine = make_engine(url)
    try:
        with reading(engine) as connection:

            def rows(table: Table, *conditions: Any) -> list[_Row]:
                return [dict(row) for row in connection.execute(select(*_columns(table)).where(*conditions)).mappings()]

            run = rows(runs, runs.c.uid == uid)[0]
            of_series = sorted(rows(series, series.c.run_id == run["id"]), key=lambda row: METRICS.index(row["key"]))
            of_params = sorted(rows(params, params.c.run_id == run["id"]), key=lambda row: PARAMS.index(row["key"]))
            points = [rows(metric_points, metric_points.c.series_id == row["id"])[0] for row in of_series]
            if connection.execute(select(func.max(runs.c.id))).scalar() != run["id"]:
                raise RuntimeError("the store must have no other runs")
            return _First(run, rows(journals, journals.c.run_id == run["id"]), of_series, points, of_params)
    finally:
        engine.dispose()


def _of_run(first: _Row, content: Content, run: int) -> _Row:
    later = content.started_ms(run) - content.started_ms(0)
    times = {name: first[name] + later for name in ("started_ms", "ended_ms", "alive_ms")}
    return first | times | {"id": first["id"] + run, "uid": content.id(run), "name": content.name(run)}


def _of_series(first: _First, content: Content, run: int) -> Iterator[_Row]:
    later = content.started_ms(run) - content.started_ms(0)
    for row, value in zip(first.series, content.values[run].tolist(), strict=True):
        changed = dict.fromkeys(("last_value", "min_value", "max_value"), value)
        if row["best_value"] is not None:
            changed["best_value"] = value
        changed |= {name: row[name] + later for name in ("last_ms", "min_ms", "max_ms")}
        yield row | changed | {"id": row["id"] + len(METRICS) * run, "run_id": first.id + run}


def _of_points(first: _First, content: Content, run: int) -> Iterator[_Row]:
    for row, value in zip(first.points, content.values[run].tolist(), strict=True):
        yield row | {"series_id": row["series_id"] + len(METRICS) * run, "value": value}


def _of_params(first: _First, content: Content, run: int) -> Iterator[_Row]:
    for row, value in zip(first.params, content.params(run), strict=True):
        text, number = (value, None) if isinstance(value, str) else (json.dumps(value), float(value))
        yield row | {"run_id": first.id + run, "text": text, "number": number}


def _table(table: Table, rows: Iterable[_Row]) -> Rows:
    names = [column.name for column in _columns(table)]
    values: Callable[[_Row], Sequence[object]] = lambda row: [row[name] for name in names]  # noqa: E731
    return table.name, names, map(values, rows)


def _columns(table: Table) -> list[Any]:
    """The columns that are not computed from others."""
    return [column for column in table.columns if column.computed is None]


def _run(content: Content, run: int) -> Batch:
    ms = content.started_ms(run)
    frames: list[Frame] = [
        RunStarted(ms, "Default", content.name(run), "file:///nowhere", "bench", 1),
        Params(ms, 0, dict(zip(PARAMS, content.params(run), strict=True))),
        Points(ms + 500, "step", 0, 0, dict(zip(METRICS, content.values[run].tolist(), strict=True))),
        RunEnded(ms + 900, "finished"),
    ]
    return make_batch(content.id(run), "bench", list(enumerate(frames, 1)))


def _long_run(content: Content) -> Iterator[Batch]:
    if not content.histories:
        return
    yield make_batch(LONG_RUN, "bench", [(1, RunStarted(BEGIN_MS, "Default", "long", "file:///nowhere", "bench", 1))])
    number = 1
    for points in content.histories:
        values = long_values(points).tolist()
        for first in range(0, points, 10_000):
            steps = list(range(first, min(first + 10_000, points)))
            numbers = list(range(number + 1, number + 1 + len(steps)))
            times = [BEGIN_MS + step for step in steps]
            column = values[first : first + len(steps)]
            block = PointBlock("step", 0, (long_key(points),), numbers, steps, times, [column])
            yield Batch(LONG_RUN, "bench", numbers[0], numbers[-1], [], [block])
            number = numbers[-1]
    yield make_batch(LONG_RUN, "bench", [(number + 1, RunEnded(BEGIN_MS + 900, "finished"))])
