"""Points into their table, many at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

_COLUMNS = ("series_id", "step", "take", "fit", "offset_ms", "value")
_CHUNKS = (2000, 200, 20)
"""Rows a statement. Few sizes, so that the driver keeps few prepared statements; the last rows go one by one."""


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
    """Insert rows; one flat path for bulk.

    SQLite takes them as statements of many rows: twice the speed of the driver's `executemany`, and the interpreter
    lock is released for whole statements rather than between rows, so that the training thread can run meanwhile. No
    tuple a row is made: hundreds of thousands of them set off full garbage collections, which hold up every thread.
    PostgreSQL takes them through COPY.
    """
    if connection.dialect.name == "postgresql":
        _copy(connection, columns)
        return
    width = len(_COLUMNS)
    flat: list[Any] = [None] * (width * len(columns.steps))
    for place, column in enumerate(columns.all()):
        flat[place::width] = column
    start = 0
    for rows in _CHUNKS:
        while start + rows * width <= len(flat):
            connection.exec_driver_sql(_insert_sql(rows), tuple(flat[start : start + rows * width]))
            start += rows * width
    if start < len(flat):
        rest = [tuple(flat[at : at + width]) for at in range(start, len(flat), width)]
        connection.exec_driver_sql(_insert_sql(1), rest)


def _copy(connection: Connection, columns: PointColumns) -> None:
    statement = f"COPY metric_points ({', '.join(_COLUMNS)}) FROM STDIN (FORMAT BINARY)"
    driver, cursor = connection.dialect.loaded_dbapi, connection.connection.cursor()
    try:
        with cursor.copy(statement) as copy:
            copy.set_types(("int4", "int8", "int4", "int4", "int8", "float8"))
            for row in zip(*columns.all(), strict=True):
                copy.write_row(row)
    except driver.Error as error:
        # SQLAlchemy knows nothing of COPY: that the connection broke, and as what it tells errors, is for us to say.
        gone = connection.dialect.is_disconnect(error, connection.connection.dbapi_connection, cursor)
        if gone:
            connection.invalidate(error)
        raise DBAPIError.instance(
            statement, None, error, driver.Error, connection_invalidated=gone, dialect=connection.dialect
        ) from error


@cache
def _insert_sql(count: int) -> str:
    values = ",".join(["(?,?,?,?,?,?)"] * count)
    return f"INSERT INTO metric_points ({', '.join(_COLUMNS)}) VALUES {values}"
