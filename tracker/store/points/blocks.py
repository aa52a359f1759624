"""Reads and writes `metric_blocks`: sealed points of long series, compressed.

A block has any points of its series. They are in no row of `metric_points`, and in no other block. So a series is all
its blocks and rows together, in order of step and take, and where a point lies means nothing. Usually blocks follow
each other; those of a training that was resumed, or of clients that log out of order, overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import msgspec
from sqlalchemy import Connection

from tracker.domain.deadlines import check_deadline
from tracker.store.database.driver_cursor import DriverCursor, driver_errors
from tracker.store.database.typed_rows import typed
from tracker.store.points import block_codec
from tracker.store.points.block_codec import SeriesRows

Place = tuple[int, int]
"""Step and take of a point: its place in its series."""


class Header(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The columns of a block but its points; `extremes` is empty where it was not read."""

    first_step: int
    first_take: int
    last_step: int
    last_take: int
    min_offset_ms: int
    max_offset_ms: int
    count: Annotated[int, msgspec.Meta(ge=1, le=block_codec.MOST)]
    fit: int | None
    codec: int
    extremes: bytes = b""

    @property
    def first(self) -> Place:
        return self.first_step, self.first_take

    @property
    def last(self) -> Place:
        return self.last_step, self.last_take


def headers(
    connection: Connection, series_id: int, first_step: int, last_step: int, *, extremes: bool = False
) -> list[Header]:
    """The blocks that have points between two steps, by their first points. InvalidRecord for what is no block."""
    columns = (*_COLUMNS, "extremes") if extremes else _COLUMNS
    rows = _rows(connection, columns, series_id, first_step, last_step)
    return typed(rows, Header, "metric_blocks", columns)


def points(connection: Connection, series_id: int, header: Header) -> SeriesRows:
    """All points of a block, their times since the run's start. InvalidRecord if they cannot be read."""
    statement = "SELECT data FROM metric_blocks WHERE series_id = ? AND first_step = ? AND first_take = ?"
    with driver_errors(connection, statement):
        ((data,),) = DriverCursor(connection).rows(statement, (series_id, *header.first))
    ((data,),) = typed([(data,)], tuple[bytes], "metric_blocks", ("data",))
    return block_codec.decode(data, header.codec, header.count)


def points_between(connection: Connection, series_id: int, first_step: int, last_step: int) -> list[SeriesRows]:
    """All points of each block that has points between two steps, their times since the run's start."""
    columns = (*_COLUMNS, "data")
    rows = _rows(connection, columns, series_id, first_step, last_step)
    found = typed(rows, Header, "metric_blocks", columns)
    decoded = []
    for one in found:
        check_deadline()  # the database is done, so its own limits do not work any more
        decoded.append(block_codec.decode(one.extremes, one.codec, one.count))
    return decoded


def add(raw: DriverCursor, series_id: int, blocks: Iterable[SeriesRows]) -> None:
    """Store blocks of points, their times since the run's start. Raises the driver's errors."""
    raw.many(_INSERT, [_row(series_id, rows) for rows in blocks])


def remove(raw: DriverCursor, series_id: int, removed: Sequence[Header]) -> None:
    """Delete blocks. Raises the driver's errors."""
    raw.many(_DELETE, [(series_id, *one.first) for one in removed])


def _row(series_id: int, rows: SeriesRows) -> tuple[Any, ...]:
    return (
        series_id,
        int(rows.steps[0]),
        int(rows.takes[0]),
        int(rows.steps[-1]),
        int(rows.takes[-1]),
        int(rows.ms.min()),
        int(rows.ms.max()),
        len(rows),
        block_codec.common_fit(rows),
        block_codec.VERSION,
        block_codec.extremes(rows).tobytes(),
        block_codec.encode(rows),
    )


def _rows(
    connection: Connection, columns: Sequence[str], series_id: int, first_step: int, last_step: int
) -> list[tuple[Any, ...]]:
    statement = (
        f"SELECT {', '.join(columns)} FROM metric_blocks WHERE series_id = ? AND first_step <= ? AND last_step >= ?"
        " ORDER BY first_step, first_take"
    )
    with driver_errors(connection, statement):
        return DriverCursor(connection).rows(statement, (series_id, last_step, first_step))


_COLUMNS = (
    "first_step", "first_take", "last_step", "last_take", "min_offset_ms", "max_offset_ms", "count", "fit", "codec",
)  # fmt: skip
_INSERT = (
    f"INSERT INTO metric_blocks (series_id, {', '.join(_COLUMNS)}, extremes, data)"
    f" VALUES (?, {', '.join('?' * len(_COLUMNS))}, ?, ?)"
)
_DELETE = "DELETE FROM metric_blocks WHERE series_id = ? AND first_step = ? AND first_take = ?"
