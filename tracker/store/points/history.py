"""Reads the points of one series: all of them, or a thinned selection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, and_, bindparam, select, text

from tracker.domain.errors import RunNotFound, SeriesNotFound
from tracker.domain.records import History
from tracker.domain.vocabulary import Axis
from tracker.store.database.driver_cursor import array_of
from tracker.store.database.typed_rows import record_of_row, typed
from tracker.store.points.series_rows import HIGHEST, LOWEST, SeriesRows, read_pieces, read_points
from tracker.store.points.supersession import fit_starts, visible
from tracker.store.tables import metric_points, metric_rollups, runs, series

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def history(
    connection: Connection,
    run_id: str,
    key: str,
    *,
    max_points: int | None = None,
    raw: bool = False,
    first_step: int | None = None,
    last_step: int | None = None,
    most_rows: int | None = None,
) -> History | None:
    """`RunReader.history` in one snapshot. None if more rows than `most_rows` would have to be read."""
    found = find_series(connection, run_id, key)
    if max_points is not None and not raw and found.rolled_count:
        thinned = _from_stretches(connection, found, key, max_points, first_step, last_step)
        if thinned is not None:
            return thinned
    if most_rows is not None and first_step is None and last_step is None and found.points > most_rows:
        return None
    starts = fit_starts(connection, found.run, found.axis)
    steps: NDArray[np.int64]
    plain = None if raw or first_step is not None or last_step is not None else _plain(connection, found, starts)
    if plain is not None:
        steps, ms, values = plain
    else:
        bounds = {"first_step": first_step, "last_step": last_step, "started_ms": found.started_ms}
        if most_rows is None:
            points = read_points(connection, found.id, **bounds)
        else:
            points = next(read_pieces(connection, found.id, most_rows + 1, **bounds))
            if len(points.steps) > most_rows:
                return None
        seen = visible(points, starts)
        if raw:
            return History(
                key=key,
                axis=found.axis,
                steps=points.steps,
                ms=points.ms,
                values=points.values,
                fits=points.fits,
                superseded=~seen,
            )
        steps, ms, values = points.steps[seen], points.ms[seen], points.values[seen]
    if max_points is not None:
        from tracker.query.thinning import thin

        kept = thin(steps, values, max_points)
        steps, ms, values = steps[kept], ms[kept], values[kept]
    return History(key=key, axis=found.axis, steps=steps, ms=ms, values=values)


def find_series(connection: Connection, run_id: str, key: str) -> Any:
    """The columns of a series and its run that `history` needs. RunNotFound, SeriesNotFound."""
    found = connection.execute(_select_series, {"uid": run_id, "name": key}).one_or_none()
    if found is None:
        raise RunNotFound(run_id)
    if found.id is None:
        keys = connection.execute(select(series.c.key).where(series.c.run_id == found.run))
        raise SeriesNotFound(run_id, key, [one for (one,) in typed(keys, tuple[str], "series", ("key",))])
    record_of_row(
        (found.started_ms, found.axis, found.points, found.rolled_count),
        tuple[int, Axis, int, int],
        "runs, series",
        ("started_ms", "axis", "count", "rolled_count"),
    )
    return found


def _plain(
    connection: Connection, found: Any, starts: Sequence[tuple[int, int]]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]] | None:
    """Steps, times and values of a series whose rows are all visible, as nearly always; None if some are not.

    Reading SQLite's rows without their fits, which are not needed then, takes four fifths of the time.
    """
    if connection.dialect.name != "sqlite" or len(starts) > 1:
        return None
    rows = array_of(
        connection, _select_plain, {"series": found.id}, [("step", "i8"), ("offset", "i8"), ("value", "f8")]
    )
    if len(rows) != found.points:
        return None
    return rows["step"].copy(), rows["offset"] + found.started_ms, rows["value"].copy()


def _from_stretches(
    connection: Connection, found: Any, key: str, max_points: int, first_step: int | None, last_step: int | None
) -> History | None:
    """The thinned history from rollups and from the points around them; None if that would show too little."""
    import numpy as np

    from tracker.query.thinning import thin_spans

    first, last = LOWEST if first_step is None else first_step, HIGHEST if last_step is None else last_step
    # The stretches at both ends are read as points, because the first and the last point must be shown.
    inner = _stretches(connection, {"series": found.id, "first": first, "last": last})[1:-1]
    if 4 * len(inner) < max_points:
        return None
    starts = fit_starts(connection, found.run, found.axis)

    def shown(low: int, high: int) -> SeriesRows:
        points = read_points(connection, found.id, first_step=low, last_step=high, started_ms=found.started_ms)
        seen = visible(points, starts)
        return SeriesRows(points.steps[seen], points.fits[seen], points.ms[seen], points.values[seen])

    left = shown(first, int(inner["first_step"][0]) - 1)
    right = shown(int(inner["last_step"][-1]) + 1, last)

    def spans(of_left: Any, of_inner: Any, of_right: Any) -> NDArray[Any]:
        return np.concatenate((of_left, of_inner, of_right))

    low = [spans(left.steps, inner["min_step"], right.steps),
           spans(left.ms, inner["min_offset_ms"] + found.started_ms, right.ms),
           spans(left.values, inner["min_value"], right.values)]  # fmt: skip
    high = [spans(left.steps, inner["max_step"], right.steps),
            spans(left.ms, inner["max_offset_ms"] + found.started_ms, right.ms),
            spans(left.values, inner["max_value"], right.values)]  # fmt: skip
    lowest, highest = thin_spans(
        spans(left.steps, inner["first_step"], right.steps),
        spans(np.ones_like(left.steps), inner["count"], np.ones_like(right.steps)),
        low[2],
        high[2],
        max_points,
    )
    # A point that is both is shown once.
    highest = highest[~np.isin(highest, lowest) | (low[2][highest] < high[2][highest])]
    columns = [np.concatenate((of_low[lowest], of_high[highest])) for of_low, of_high in zip(low, high, strict=True)]
    order = np.lexsort((columns[1], columns[0], np.concatenate((lowest, highest))))
    steps, ms, values = (column[order] for column in columns)
    return History(key=key, axis=found.axis, steps=steps, ms=ms, values=values)


def _stretches(connection: Connection, wanted: dict[str, int]) -> NDArray[Any]:
    """The stretches between two steps, with the columns of `metric_rollups` as fields."""
    import numpy as np

    if connection.dialect.name == "postgresql":
        # One value with all of them: PostgreSQL packs faster than the driver unpacks row by row.
        data = connection.execute(_select_packed, wanted).scalar()
        packed = np.frombuffer(data or b"", dtype=[(name, f">{kind}") for name, kind in _STRETCH])
        return packed.astype(_STRETCH)
    return array_of(connection, _select_stretches, wanted, _STRETCH)


_STRETCH: list[tuple[str, str]] = [
    ("first_step", "i8"), ("last_step", "i8"), ("count", "i8"),
    ("min_value", "f8"), ("min_step", "i8"), ("min_offset_ms", "i8"),
    ("max_value", "f8"), ("max_step", "i8"), ("max_offset_ms", "i8"),
]  # fmt: skip
_select_series = (
    select(
        runs.c.id.label("run"),
        runs.c.started_ms,
        series.c.id,
        series.c.axis,
        series.c.rolled_count,
        series.c.count.label("points"),
    )
    .select_from(runs)
    .outerjoin(series, and_(series.c.run_id == runs.c.id, series.c.key == bindparam("name")))
    .where(runs.c.uid == bindparam("uid"))
)
_p = metric_points.c
_select_plain = (
    select(_p.step, _p.offset_ms, _p.value).where(_p.series_id == bindparam("series")).order_by(_p.step, _p.take)
)
_s = metric_rollups.c
_select_stretches = (
    select(*(_s[name] for name, _ in _STRETCH))
    .where(
        _s.series_id == bindparam("series"),
        _s.first_step >= bindparam("first"),
        _s.first_step <= bindparam("last"),
        _s.last_step <= bindparam("last"),
    )
    .order_by(_s.first_step)
)
_PACKED = " || ".join(
    f"int8send({name})" if kind == "i8" else f"float8send(coalesce({name}, 'NaN'))" for name, kind in _STRETCH
)
_select_packed = text(
    f"SELECT string_agg({_PACKED}, '' ORDER BY first_step) FROM metric_rollups"
    " WHERE series_id = :series AND first_step >= :first AND first_step <= :last AND last_step <= :last"
)
