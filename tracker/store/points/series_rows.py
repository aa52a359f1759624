"""Reads the rows of a series."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, bindparam, select, text

from tracker.store.database.driver_cursor import array_of, arrays_of
from tracker.store.database.typed_rows import record_of_row
from tracker.store.tables import metric_points, runs, series

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


LOWEST, HIGHEST = -(2**63), 2**63 - 1
"""The smallest and the largest step."""
_COLUMNS = [("step", "i8"), ("fit", "i8"), ("offset", "i8"), ("value", "f8")]
_PACKED = 1_000_000
"""Rows that PostgreSQL packs into one value, far below its limit of a gigabyte."""


@dataclass(frozen=True, slots=True)
class SeriesRows:
    """All rows of a series in order of step and take: int64 (n,), values float64 (n,) with NaN for NULL."""

    steps: NDArray[np.int64]
    fits: NDArray[np.int64]
    ms: NDArray[np.int64]
    values: NDArray[np.float64]


def read_points(
    connection: Connection,
    series_id: int,
    *,
    first_step: int | None = None,
    last_step: int | None = None,
    started_ms: int | None = None,
) -> SeriesRows:
    """The rows of a series, superseded ones included; those of the steps from `first_step` to `last_step`.

    `started_ms` is that of the run; it is read if it is not given.
    """
    import numpy as np

    if started_ms is None:
        found = connection.execute(_select_started, {"series": series_id}).scalar() or 0
        (started_ms,) = record_of_row((found,), tuple[int], "runs", ("started_ms",))
    wanted = _wanted(series_id, first_step, last_step)
    if connection.dialect.name == "postgresql":
        pieces = list(_packed_pieces(connection, wanted, _PACKED))
        rows = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    else:
        rows = array_of(connection, _select_points, wanted, _COLUMNS)
    return _points(rows, started_ms)


def read_pieces(
    connection: Connection,
    series_id: int,
    most: int,
    *,
    first_step: int | None = None,
    last_step: int | None = None,
    started_ms: int,
) -> Iterator[SeriesRows]:
    """`read_points` in pieces of `most` rows; the last one has fewer."""
    wanted = _wanted(series_id, first_step, last_step)
    if connection.dialect.name == "postgresql":
        arrays = _packed_pieces(connection, wanted, most)
    else:
        arrays = arrays_of(connection, _select_points, wanted, _COLUMNS, most)
    return (_points(rows, started_ms) for rows in arrays)


def _packed_pieces(connection: Connection, wanted: Mapping[str, int], most: int) -> Iterator[NDArray[Any]]:
    """The rows, which PostgreSQL packs into one value: four times as fast as one by one."""
    import numpy as np

    kind = np.dtype([("step", ">i8"), ("take", ">i4"), ("fit", ">i4"), ("offset", ">i8"), ("value", ">f8")])
    step, take = wanted["first"], -1
    while True:
        data = connection.execute(_SELECT_PACKED, {**wanted, "step": step, "take": take, "most": most}).scalar()
        piece = np.frombuffer(data or b"", dtype=kind)
        yield piece
        if len(piece) < most:
            return
        step, take = int(piece["step"][-1]), int(piece["take"][-1])


def _wanted(series_id: int, first_step: int | None, last_step: int | None) -> dict[str, int]:
    return {
        "series": series_id,
        "first": LOWEST if first_step is None else first_step,
        "last": HIGHEST if last_step is None else last_step,
    }


def _points(rows: NDArray[Any], started_ms: int) -> SeriesRows:
    import numpy as np

    return SeriesRows(
        steps=rows["step"].astype(np.int64),
        fits=rows["fit"].astype(np.int64),
        ms=rows["offset"].astype(np.int64) + started_ms,
        values=rows["value"].astype(np.float64),
    )


_c = metric_points.c
_select_started = select(runs.c.started_ms).join(series).where(series.c.id == bindparam("series"))
_select_points = (
    select(_c.step, _c.fit, _c.offset_ms, _c.value)
    .where(_c.series_id == bindparam("series"), _c.step >= bindparam("first"), _c.step <= bindparam("last"))
    .order_by(_c.step, _c.take)
)
_SELECT_PACKED = text(
    """
    SELECT string_agg(
        int8send(step) || int4send(take) || int4send(fit) || int8send(offset_ms)
        || float8send(coalesce(value, 'NaN')), '' ORDER BY step, take)
    FROM (
        SELECT * FROM metric_points
        WHERE series_id = :series AND (step, take) > (:step, :take) AND step <= :last
        ORDER BY step, take LIMIT :most
    ) AS rows
    """
)
