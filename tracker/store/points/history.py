"""Reads the points of one series: all of them, or a thinned selection."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, and_, bindparam, select

from tracker.domain.errors import RunNotFound, SeriesNotFound
from tracker.domain.records import History
from tracker.domain.vocabulary import Axis
from tracker.store.database.typed_rows import record_of_row, typed
from tracker.store.points.series_rows import HIGHEST, LOWEST, NO_BLOCKS, read_at_most, read_points
from tracker.store.points.supersession import fit_starts, visible
from tracker.store.points.thinned import thinned
from tracker.store.tables import runs, series


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
    """`RunReader.history` in one snapshot. None if more points than `most_rows` would have to be read."""
    found = find_series(connection, run_id, key)
    first = LOWEST if first_step is None else first_step
    last = HIGHEST if last_step is None else last_step
    starts = fit_starts(connection, found.run, found.axis)
    points = None
    if max_points is not None and not raw and found.sealed_step != NO_BLOCKS:
        points = thinned(connection, found.id, max_points, first, last, starts)
    if points is None:
        where = {"first_step": first, "last_step": last}
        if most_rows is None:
            points = read_points(connection, found.id, found.sealed_step, **where, started_ms=0)
        else:
            points = read_at_most(connection, found.id, found.sealed_step, most_rows, **where)
        if points is None:
            return None
        seen = visible(points, starts)
        if raw:
            points = points.since(found.started_ms)
            return History(
                key=key,
                axis=found.axis,
                steps=points.steps,
                ms=points.ms,
                values=points.values,
                fits=points.fits,
                superseded=~seen,
            )
        if not seen.all():
            points = points[seen]
        if max_points is not None:
            from tracker.query.thinning import thin

            points = points[thin(points.steps, points.values, max_points)]
    points = points.since(found.started_ms)
    return History(key=key, axis=found.axis, steps=points.steps, ms=points.ms, values=points.values)


def find_series(connection: Connection, run_id: str, key: str) -> Any:
    """The columns of a series and its run that `history` needs. RunNotFound, SeriesNotFound."""
    found = connection.execute(_select_series, {"uid": run_id, "name": key}).one_or_none()
    if found is None:
        raise RunNotFound(run_id)
    if found.id is None:
        keys = connection.execute(select(series.c.key).where(series.c.run_id == found.run))
        raise SeriesNotFound(run_id, key, [one for (one,) in typed(keys, tuple[str], "series", ("key",))])
    record_of_row(
        (found.started_ms, found.axis, found.sealed_step),
        tuple[int, Axis, int],
        "runs, series",
        ("started_ms", "axis", "sealed_step"),
    )
    return found


_select_series = (
    select(runs.c.id.label("run"), runs.c.started_ms, series.c.id, series.c.axis, series.c.sealed_step)
    .select_from(runs)
    .outerjoin(series, and_(series.c.run_id == runs.c.id, series.c.key == bindparam("name")))
    .where(runs.c.uid == bindparam("uid"))
)
