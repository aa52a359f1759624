"""Bulk insert of points: into `metric_points`, and many points of one series into its blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from tracker.store.database.driver_cursor import DriverCursor
from tracker.store.points.block_codec import SeriesRows, joined
from tracker.store.points.sealing import Sealing
from tracker.store.points.summaries import Summary

_COLUMNS = ("series_id", "step", "take", "fit", "offset_ms", "value")
_TYPES = ("int8", "int8", "int4", "int4", "int8", "float8")
_COPY = f"COPY metric_points ({', '.join(_COLUMNS)}) FROM STDIN (FORMAT BINARY)"
_WIDTH = len(_COLUMNS)
_CHUNKS = (2000, 200, 20)
"""Rows a statement. Few sizes, so that the driver keeps few prepared statements; the last rows are inserted singly."""


class PointRows:
    """Points that wait to be inserted; a series may get its id in between. Their number is added to `Summary.rows`.

    SQLite gets statements of many rows: twice the speed of the driver's `executemany`, and the interpreter lock is
    released for whole statements rather than between rows, so that the training thread can run meanwhile. No tuple is
    created for each row: hundreds of thousands of them trigger full garbage collections, which pause every thread.
    PostgreSQL gets the rows through COPY.
    """

    def __init__(self, sealing: Sealing) -> None:
        self._sealing = sealing
        self._rows: list[tuple[Summary, int, int, int, int, float | None]] = []
        self._columns: list[tuple[Summary, Sequence[Any], Sequence[Any], Sequence[Any], Sequence[Any], Sequence[Any]]]
        self._columns = []

    def add(self, one: Summary, step: int, take: int, fit: int, offset: int, value: float | None) -> None:
        """Add a point; `offset` is in ms since the run's start, `value` None for NaN."""
        one.rows += 1
        self._rows.append((one, step, take, fit, offset, value))

    def add_columns(
        self,
        one: Summary,
        steps: Sequence[int],
        takes: Sequence[int],
        fits: Sequence[int],
        offsets: Sequence[int],
        values: Sequence[float | None],
    ) -> None:
        """Add points by column, all equally long."""
        one.rows += len(steps)
        self._columns.append((one, steps, takes, fits, offsets, values))

    def insert(self, raw: DriverCursor) -> None:
        """Insert the points, in the order of the table. Raises the driver's errors."""
        self._seal(raw)
        flat: list[Any] = []
        self._rows.sort(key=_id)
        for one, *row in self._rows:
            flat.append(one.id)
            flat += row
        self._columns.sort(key=_id)
        for one, *columns in self._columns:
            begin, count = len(flat), len(columns[0])
            flat += [one.id] * (count * _WIDTH)
            for place, column in enumerate(columns, 1):
                flat[begin + place :: _WIDTH] = column
        self._rows.clear()
        self._columns.clear()
        if raw.postgres:
            if flat:
                raw.copy(_COPY, _TYPES, _tuples(flat))
        else:
            _insert(raw, flat)

    def _seal(self, raw: DriverCursor) -> None:
        """Store points of series that bring enough for blocks there, except the newest of each."""
        due = [column for column in self._columns if self._sealing.is_due(column[0])]
        if not due:
            return
        by_series: dict[Summary, list[Any]] = {}
        for one, *columns in due:
            by_series.setdefault(one, []).append(columns)
        least = self._sealing.kept
        by_series = {one: all_ for one, all_ in by_series.items() if sum(len(c[0]) for c in all_) >= least}
        self._columns = [column for column in self._columns if column[0] not in by_series]
        for one, all_ in by_series.items():
            left = self._sealing.seal(raw, one, _as_rows(all_))
            if left is not None:
                self._columns.append((one, *_as_columns(left)))


def _as_rows(parts: Sequence[Sequence[Sequence[Any]]]) -> SeriesRows:
    """Points by column, in pieces, as arrays in order of step and take."""
    import numpy as np

    types = (np.int64, np.int64, np.int64, np.int64, np.float64)
    arrays: list[list[Any]] = [[np.array(*one) for one in zip(part, types, strict=True)] for part in parts]
    return joined([SeriesRows(*columns) for columns in arrays])


def _as_columns(rows: SeriesRows) -> tuple[list[int], list[int], list[int], list[int], list[float | None]]:
    values = [None if value != value else value for value in rows.values.tolist()]
    return (rows.steps.tolist(), rows.takes.tolist(), rows.fits.tolist(), rows.ms.tolist(), values)


def _id(row: Any) -> int:
    one: Summary = row[0]
    return one.id


def _insert(raw: DriverCursor, flat: list[Any]) -> None:
    start = 0
    for rows in _CHUNKS:
        while start + rows * _WIDTH <= len(flat):
            raw.run(_insert_sql(rows), flat[start : start + rows * _WIDTH])
            start += rows * _WIDTH
    if start < len(flat):
        raw.many(_insert_sql(1), list(_tuples(flat, start)))


def _tuples(flat: list[Any], start: int = 0) -> Iterator[tuple[Any, ...]]:
    for at in range(start, len(flat), _WIDTH):
        yield tuple(flat[at : at + _WIDTH])


@cache
def _insert_sql(count: int) -> str:
    values = ",".join(["(?,?,?,?,?,?)"] * count)
    return f"INSERT INTO metric_points ({', '.join(_COLUMNS)}) VALUES {values}"
