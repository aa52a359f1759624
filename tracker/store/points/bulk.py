"""Bulk insert of points into `metric_points`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import Connection

from tracker.store.database.driver_cursor import Raw, driver_errors

_COLUMNS = ("series_id", "step", "take", "fit", "offset_ms", "value")
_TYPES = ("int4", "int8", "int4", "int4", "int8", "float8")
_COPY = f"COPY metric_points ({', '.join(_COLUMNS)}) FROM STDIN (FORMAT BINARY)"
_WIDTH = len(_COLUMNS)
_CHUNKS = (2000, 200, 20)
"""Rows a statement. Few sizes, so that the driver keeps few prepared statements; the last rows are inserted singly."""


@dataclass(frozen=True, slots=True)
class PointColumns:
    """Rows of `metric_points` by column, all equally long, sorted by the first three; None for NaN.

    `offsets` are ms since the run's start.
    """

    series: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    takes: list[int] = field(default_factory=list)
    fits: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    values: list[float | None] = field(default_factory=list)

    def all(self) -> tuple[list[Any], ...]:
        """The columns in the table's order."""
        return self.series, self.steps, self.takes, self.fits, self.offsets, self.values


def insert_points(connection: Connection, columns: PointColumns) -> None:
    """Insert rows in bulk.

    SQLite gets statements of many rows: twice the speed of the driver's `executemany`, and the interpreter lock is
    released for whole statements rather than between rows, so that the training thread can run meanwhile. No tuple is
    created for each row: hundreds of thousands of them trigger full garbage collections, which pause every thread.
    PostgreSQL gets the rows through COPY.
    """
    if connection.dialect.name == "postgresql":
        with driver_errors(connection, "COPY metric_points"):
            Raw(connection).copy(_COPY, _TYPES, zip(*columns.all(), strict=True))
        return
    flat: list[Any] = [None] * (_WIDTH * len(columns.steps))
    for place, column in enumerate(columns.all()):
        flat[place::_WIDTH] = column
    with driver_errors(connection, _insert_sql(1)):
        _insert_flat(Raw(connection), flat)


def insert_flat(raw: Raw, flat: list[Any]) -> None:
    """`insert_points` for rows one after the other in one list. Raises the driver's errors."""
    if raw.postgres:
        raw.copy(_COPY, _TYPES, _rows(flat))
    else:
        _insert_flat(raw, flat)


def _insert_flat(raw: Raw, flat: list[Any]) -> None:
    start = 0
    for rows in _CHUNKS:
        while start + rows * _WIDTH <= len(flat):
            raw.run(_insert_sql(rows), flat[start : start + rows * _WIDTH])
            start += rows * _WIDTH
    if start < len(flat):
        raw.many(_insert_sql(1), list(_rows(flat, start)))


def _rows(flat: list[Any], start: int = 0) -> Iterator[tuple[Any, ...]]:
    for at in range(start, len(flat), _WIDTH):
        yield tuple(flat[at : at + _WIDTH])


@cache
def _insert_sql(count: int) -> str:
    values = ",".join(["(?,?,?,?,?,?)"] * count)
    return f"INSERT INTO metric_points ({', '.join(_COLUMNS)}) VALUES {values}"
