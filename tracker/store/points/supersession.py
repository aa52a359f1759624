"""Reads the points of a series, and defines the rule of supersession."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, bindparam, select, text

from tracker.domain.vocabulary import UNNUMBERED, Axis
from tracker.store.database.driver_cursor import Raw, array_of, arrays_of
from tracker.store.database.row_writer import rows_of
from tracker.store.database.typed_rows import record_of_row, typed
from tracker.store.points.summaries import Summary
from tracker.store.tables import fits, metric_points, runs, series

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


def cuts(connection: Connection, run: int, axis: Axis) -> list[tuple[int, int]]:
    """(fit, step): where each fit of the run begins on `axis`; nothing supersedes on the axis `time`."""
    if axis == "time":
        return []
    first = fits.c.first_epoch if axis == "epoch" else fits.c.first_step
    rows = connection.execute(select(fits.c.number, first).where(fits.c.run_id == run))
    return typed(rows, tuple[int, int], "fits", ("number", first.name))


def cuts_now(connection: Connection, run: int, axis: Axis) -> list[tuple[int, int]]:
    """`cuts` for transactions that write, which need it for each batch of a training."""
    if axis == "time":
        return []
    first = "first_epoch" if axis == "epoch" else "first_step"
    statement = f"SELECT number, {first} FROM fits WHERE run_id = ?"
    return [(fit, step) for fit, step in rows_of(connection, statement, (run,))]


def visible(points: SeriesRows, begins: Iterable[tuple[int, int]]) -> NDArray[np.bool_]:
    """Which points are not superseded, bool (n,).

    A fit supersedes points of earlier fits at or after its beginning; points outside fits stay. Of the remaining points
    the last one written at each step counts. Unnumbered points are never superseded and supersede nothing.
    """
    import numpy as np

    keep = np.ones(len(points.steps), dtype=np.bool_)
    for fit, step in begins:
        keep &= ~((points.fits > 0) & (points.fits < fit) & (points.steps >= step))
    index = np.flatnonzero(keep & (points.fits != UNNUMBERED))
    steps = points.steps[index]
    keep[index[:-1][steps[:-1] == steps[1:]]] = False
    return keep


def visible_values(
    connection: Connection, raw: Raw, places: Sequence[tuple[Summary, int, int]]
) -> dict[tuple[int, int, int], set[float | None]]:
    """The values (None: NaN) of the visible points at (series, step, ms since the run's start), by id of the series."""
    there: dict[tuple[int, int, int], set[float | None]] = {}
    for (one, step, offset), rows in zip(places, _rows_at(raw, places), strict=True):
        numbered = [row for row in rows if row[1] != UNNUMBERED]
        if numbered:
            begins = [fit for fit, first in cuts(connection, one.run, one.axis) if first <= step]
            shown = [row for row in numbered if row[1] == 0 or not any(fit > row[1] for fit in begins)]
            rows = [row for row in rows if row[1] == UNNUMBERED] + shown[-1:]
        there[one.id, step, offset] = {value for at, _, value in rows if at == offset}
    return there


_Found = tuple[int, int, float | None]
"""offset_ms, fit, value."""


def _rows_at(raw: Raw, places: Sequence[tuple[Summary, int, int]]) -> list[list[_Found]]:
    """The rows at each place, and all numbered rows of its step, by take."""
    if not raw.postgres:
        return [raw.rows(_SELECT_AT, (one.id, step, offset, UNNUMBERED)) for one, step, offset in places]
    ids, steps, offsets = zip(*((one.id, step, offset) for one, step, offset in places), strict=True)
    found: list[list[_Found]] = [[] for _ in places]
    for number, *row in raw.rows(_SELECT_ALL_AT, (list(ids), list(steps), list(offsets), UNNUMBERED)):
        found[number - 1].append((row[0], row[1], row[2]))
    return found


_SELECT_AT = (
    "SELECT offset_ms, fit, value FROM metric_points"
    " WHERE series_id = ? AND step = ? AND (offset_ms = ? OR fit != ?) ORDER BY take"
)
_SELECT_ALL_AT = """
    SELECT at.number, p.offset_ms, p.fit, p.value
    FROM unnest(?::int4[], ?::int8[], ?::int8[]) WITH ORDINALITY AS at (series_id, step, offset_ms, number)
    JOIN metric_points AS p
    ON p.series_id = at.series_id AND p.step = at.step AND (p.offset_ms = at.offset_ms OR p.fit != ?)
    ORDER BY at.number, p.take
"""
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
