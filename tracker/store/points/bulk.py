"""Bulk insert of points: into `metric_points`, and many points of one series into its blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from tracker.store.database.driver_cursor import DriverCursor
from tracker.store.points.block_codec import SeriesRows, joined
from tracker.store.points.sealing import Sealing
from tracker.store.points.summaries import Summary

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_COLUMNS = ("series_id", "step", "take", "fit", "offset_ms", "value")
_TYPES = ("int8", "int8", "int4", "int4", "int8", "float8")
_COPY = f"COPY metric_points ({', '.join(_COLUMNS)}) FROM STDIN (FORMAT BINARY)"
_WIDTH = len(_COLUMNS)
_CHUNKS = (2000, 200, 20)
"""Rows a statement. Few sizes, so that the driver keeps few prepared statements; the last rows are inserted singly."""

_Columns = tuple[Sequence[int], Sequence[int] | int, int, Sequence[int], Sequence[float | None]]
"""Steps, takes (a number if it is that of all), fit, ms since the run's start, values (None for NaN)."""


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
        self._columns: list[tuple[Summary, _Columns]] = []

    def add(self, one: Summary, step: int, take: int, fit: int, offset: int, value: float | None) -> None:
        """Add a point; `offset` is in ms since the run's start, `value` None for NaN."""
        one.rows += 1
        self._rows.append((one, step, take, fit, offset, value))

    def add_columns(
        self,
        one: Summary,
        steps: Sequence[int],
        takes: Sequence[int] | int,
        fit: int,
        offsets: Sequence[int],
        values: Sequence[float | None],
    ) -> None:
        """Add points of one fit by column, all equally long; `takes` is a number if it is that of all."""
        one.rows += len(steps)
        self._columns.append((one, (steps, takes, fit, offsets, values)))

    def insert(self, raw: DriverCursor) -> None:
        """Insert the points, in the order of the table. Raises the driver's errors."""
        self._seal(raw)
        flat: list[Any] = []
        self._rows.sort(key=_id)
        for one, *row in self._rows:
            flat.append(one.id)
            flat += row
        self._columns.sort(key=_id)
        for one, columns in self._columns:
            begin, count = len(flat), len(columns[0])
            flat += [one.id] * (count * _WIDTH)
            for place, column in enumerate(columns, 1):
                flat[begin + place :: _WIDTH] = [column] * count if isinstance(column, int) else column
        self._rows.clear()
        self._columns.clear()
        if raw.postgres:
            if flat:
                raw.copy(_COPY, _TYPES, _tuples(flat))
        else:
            _insert(raw, flat)

    def _seal(self, raw: DriverCursor) -> None:
        """Store points of series that bring enough for blocks there, except perhaps the newest of each."""
        by_series: dict[Summary, list[_Columns]] = {}
        for one, columns in self._columns:
            by_series.setdefault(one, []).append(columns)
        sealing = self._sealing
        for one, parts in list(by_series.items()):
            new = sum(len(part[0]) for part in parts)
            if new < sealing.kept or not sealing.is_due(one, new):
                del by_series[one]
        if not by_series:
            return
        self._columns = [column for column in self._columns if column[0] not in by_series]
        arrays = _Arrays()
        for one, parts in by_series.items():
            left = sealing.seal(raw, one, joined([arrays.rows(part) for part in parts]))
            if left is not None:
                self._columns += _as_columns(one, left)


class _Arrays:
    """Columns as arrays; series of one block of a journal share their steps and times."""

    def __init__(self) -> None:
        self._made: dict[int, NDArray[np.int64]] = {}

    def rows(self, columns: _Columns) -> SeriesRows:
        import numpy as np

        steps, takes, fit, offsets, values = columns
        count = len(steps)
        return SeriesRows(
            self._shared(steps),
            np.full(count, takes) if isinstance(takes, int) else np.array(takes, np.int64),
            np.full(count, fit),
            self._shared(offsets),
            np.array(values, np.float64),
        )

    def _shared(self, column: Sequence[int]) -> NDArray[np.int64]:
        import numpy as np

        made = self._made.get(id(column))
        if made is None:
            made = self._made[id(column)] = np.array(column, np.int64)
        return made


def _as_columns(one: Summary, rows: SeriesRows) -> Iterator[tuple[Summary, _Columns]]:
    """The points for `PointRows`, by fit."""
    import numpy as np

    for fit in np.unique(rows.fits).tolist():
        part = rows[rows.fits == fit]
        values = [None if value != value else value for value in part.values.tolist()]
        yield one, (part.steps.tolist(), part.takes.tolist(), fit, part.ms.tolist(), values)


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
