"""Reads the points of a series: from its rows and its blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

from sqlalchemy import Connection, TextClause, bindparam, select, text

from tracker.store.database.driver_cursor import array_of
from tracker.store.database.typed_rows import record_of_row
from tracker.store.points import blocks
from tracker.store.points.block_codec import SeriesRows, joined
from tracker.store.points.blocks import Header, Place
from tracker.store.tables import runs, series

LOWEST, HIGHEST = -(2**63), 2**63 - 1
"""The smallest and the largest step."""
_COLUMNS = [("step", "i8"), ("take", "i8"), ("fit", "i8"), ("offset", "i8"), ("value", "f8")]
_PACKED = 1_000_000
"""Rows that PostgreSQL packs into one value, far below its limit of a gigabyte."""
NO_BLOCKS = -1
"""`series.sealed_step` of a series without blocks."""


def read_points(
    connection: Connection,
    series_id: int,
    sealed_step: int,
    *,
    first_step: int | None = None,
    last_step: int | None = None,
    started_ms: int | None = None,
) -> SeriesRows:
    """The points of a series, superseded ones included; those of the steps from `first_step` to `last_step`.

    `sealed_step` is that of the series, `started_ms` that of the run; it is read if it is not given.
    """
    if started_ms is None:
        found = connection.execute(_select_started, {"series": series_id}).scalar() or 0
        (started_ms,) = record_of_row((found,), tuple[int], "runs", ("started_ms",))
    first, last = LOWEST if first_step is None else first_step, HIGHEST if last_step is None else last_step
    sealed = _sealed_points(connection, series_id, sealed_step, first, last)
    return joined([*sealed, *rows_between(connection, series_id, first, last)]).since(started_ms)


def read_at_most(
    connection: Connection, series_id: int, sealed_step: int, most: int, *, first_step: int, last_step: int
) -> SeriesRows | None:
    """`read_points` with times since the run's start; None if more than `most` points would have to be read."""
    sealed = 0
    if sealed_step != NO_BLOCKS and first_step <= sealed_step:
        sealed = sum(one.count for one in blocks.headers(connection, series_id, first_step, last_step))
    if sealed > most:
        return None
    rows = some_rows(connection, series_id, (first_step, -1), (last_step + 1, -1), most - sealed + 1)
    if len(rows) > most - sealed:
        return None
    return joined([*_sealed_points(connection, series_id, sealed_step, first_step, last_step), rows])


def count_unsealed(connection: Connection, series_id: int) -> int:
    """How many rows of `metric_points` the series has."""
    return int(connection.execute(_COUNT, {"series": series_id}).scalar() or 0)


def read_pieces(
    connection: Connection,
    series_id: int,
    most: int,
    *,
    first_step: int | None = None,
    last_step: int | None = None,
    started_ms: int,
) -> Iterator[SeriesRows]:
    """`read_points` in pieces of about `most` points, in order."""
    first, last = LOWEST if first_step is None else first_step, HIGHEST if last_step is None else last_step
    sealed = blocks.headers(connection, series_id, first, last)
    place, begin, end = (first, -1), 0, (last + 1, -1)
    while place < end:
        bound = _end_of_piece(sealed[begin:], place, most, end)
        rows = some_rows(connection, series_id, place, bound, most)
        if len(rows) >= most:
            bound = (int(rows.steps[-1]), int(rows.takes[-1]) + 1)
        parts = [
            between(blocks.points(connection, series_id, one), place, bound)
            for one in sealed[begin:]
            if one.first < bound and one.last >= place
        ]
        yield joined([*parts, rows]).since(started_ms)
        place = bound
        while begin < len(sealed) and sealed[begin].last < place:
            begin += 1


def _sealed_points(
    connection: Connection, series_id: int, sealed_step: int, first_step: int, last_step: int
) -> list[SeriesRows]:
    """The points in blocks between two steps, times since the run's start."""
    if sealed_step == NO_BLOCKS or first_step > sealed_step:
        return []
    found = blocks.points_between(connection, series_id, first_step, last_step)
    return [between(rows, (first_step, -1), (last_step + 1, -1)) for rows in found]


def _end_of_piece(sealed: Sequence[Header], place: Place, most: int, end: Place) -> Place:
    """A place after `place`, and not after `end`, before which these blocks have about `most` points, or all.

    It is the beginning of a block where that is near. Blocks that overlap are taken to have their points evenly.
    """
    high = min(max((one.last_step for one in sealed), default=HIGHEST) + 1, end[0])
    if high <= place[0] or sum(one.count for one in sealed) <= most:
        return end

    import numpy as np

    firsts, lasts, counts = (
        np.array([getattr(one, name) for one in sealed], np.float64) for name in ("first_step", "last_step", "count")
    )
    lasts += 1

    def points_before(step: int) -> float:
        spans = np.minimum(lasts, float(step)) - np.maximum(firsts, float(place[0]))
        return float((counts * np.clip(spans / np.maximum(lasts - firsts, 1.0), 0.0, 1.0)).sum())

    low = min(max(place[0], sealed[0].first_step), high - 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if points_before(middle) >= most else (middle, high)
    aligned = next((one.first for one in sealed if one.first >= (high, -1)), end)
    for bound in (aligned, (high, -1)):
        if points_before(bound[0]) <= 2 * most:
            return min(bound, end)
    # One step has too many: its blocks follow each other by take.
    count = 0
    for one in sealed:
        if count >= most and one.first > place:
            return min(one.first, end)
        count += one.count
    return end


def between(rows: SeriesRows, first: Place, end: Place) -> SeriesRows:
    """The points from the place `first` to before the place `end`."""
    low, high = index_of(rows, first), index_of(rows, end)
    if low == 0 and high == len(rows):
        return rows
    # A copy, so that the rest does not stay in memory.
    return SeriesRows(*(getattr(rows, name)[low:high].copy() for name in SeriesRows.__slots__))


def index_of(rows: SeriesRows, place: Place) -> int:
    """The index of the first point at or after the place."""
    step, take = place
    if step > HIGHEST:
        return len(rows)
    low, high = int(rows.steps.searchsorted(step)), int(rows.steps.searchsorted(step, "right"))
    return low + int(rows.takes[low:high].searchsorted(take))


def rows_between(connection: Connection, series_id: int, first_step: int, last_step: int) -> Iterator[SeriesRows]:
    """The rows of `metric_points` between two steps, in pieces, times since the run's start."""
    place, end = (first_step, -1), (last_step + 1, -1)
    while True:
        rows = some_rows(connection, series_id, place, end, _PACKED)
        yield rows
        if len(rows) < _PACKED:
            return
        place = (int(rows.steps[-1]), int(rows.takes[-1]) + 1)


def some_rows(connection: Connection, series_id: int, first: Place, end: Place, most: int) -> SeriesRows:
    """The first `most` rows of `metric_points` from the place `first` to before `end`, times since the run's start."""
    import numpy as np

    bounds = "step >= :step AND" if first[1] < 0 else "(step, take) >= (:step, :take) AND"
    wanted = {"series": series_id, "step": first[0], "most": most}
    if first[1] >= 0:
        wanted["take"] = first[1]
    if end[1] < 0:
        bounds += " step <= :end_step"
        wanted["end_step"] = end[0] - 1
    else:
        bounds += " (step, take) < (:end_step, :end_take)"
        wanted |= {"end_step": end[0], "end_take": end[1]}
    if connection.dialect.name == "postgresql":
        # One value with all of them: PostgreSQL packs them four times as fast as the driver unpacks rows.
        data = connection.execute(_packed_rows(bounds), wanted).scalar()
        found = np.frombuffer(data or b"", dtype=[(name, f">{kind}") for name, kind in _COLUMNS])
    else:
        found = array_of(connection, _plain_rows(bounds), wanted, _COLUMNS)
    return SeriesRows(
        found["step"].astype(np.int64),
        found["take"].astype(np.int64),
        found["fit"].astype(np.int64),
        found["offset"].astype(np.int64),
        found["value"].astype(np.float64),
    )


_select_started = select(runs.c.started_ms).join(series).where(series.c.id == bindparam("series"))
_COUNT = text("SELECT count(*) FROM metric_points WHERE series_id = :series")


@cache
def _plain_rows(bounds: str) -> TextClause:
    return text(
        f"SELECT step, take, fit, offset_ms, value FROM metric_points WHERE series_id = :series AND {bounds}"
        " ORDER BY step, take LIMIT :most"
    )


@cache
def _packed_rows(bounds: str) -> TextClause:
    return text(
        "SELECT string_agg(int8send(step) || int8send(take) || int8send(fit) || int8send(offset_ms)"
        " || float8send(coalesce(value, 'NaN')), '' ORDER BY step, take) FROM ("
        f"SELECT * FROM metric_points WHERE series_id = :series AND {bounds} ORDER BY step, take LIMIT :most) AS rows"
    )
