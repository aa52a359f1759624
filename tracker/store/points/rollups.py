"""Rollups: the extremes of stretches of a long series, so that a thinned history reads few rows.

A **stretch** is a sequence of consecutive visible points; its row in `metric_rollups` has the smallest and the largest
one (if all are NaN, the first). Stretches follow each other without a gap up to `series.rolled_step`, and never split
points of one step. They are derived data: `extend` adds stretches of older points, `cut` deletes those whose points
change, `absorb` adds late points to existing ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tracker.store.database.driver_cursor import Raw
from tracker.store.points.series_rows import read_points
from tracker.store.points.summaries import Summary
from tracker.store.points.supersession import fit_starts, visible

STRETCH = 256
"""Points of a new stretch; those of its last step may be more."""
LAG = 256
"""How many of the newest points are not rolled up: late points come close to the end."""
LEAST = 1024
"""How many points outside stretches make a call of `extend` worthwhile."""
_MOST = 32_768
"""How many rows one call of `extend` reads: a long series without stretches gets them over several calls."""
_LOWEST = -(2**63)

_Stretch = tuple[int, int, int, float | None, int, int, float | None, int, int]
"""first_step, last_step, count, then value, step and offset_ms of the minimum and of the maximum."""


def extend(raw: Raw, changed: Iterable[Summary]) -> None:
    """Roll up the series in `changed` that have grown enough; their points and rows must be written already.

    `Summary.count` must be the number of visible points. Most points are rolled up once, which takes 0.2 µs a point; a
    call takes milliseconds at most. Raises the driver's errors, like the other functions here.
    """
    for one in changed:
        if one.count - one.rolled_count < LEAST or one.last is None:
            continue
        top = one.last[1]
        ((first,),) = raw.rows(_SELECT_STEP_FROM, (one.id, _begin(one)))
        if first is None or first >= top:
            continue  # all at one step, as from clients that log without steps: a step is never split
        made = _plain_stretches(raw, one, first, top)
        if made is None:
            made = _visible_stretches(raw, one, first, top)
        if made:
            raw.many(_INSERT, [(one.id, *stretch) for stretch in made])
            _set_rolled(raw, one, made[-1][1], one.rolled_count + sum(stretch[2] for stretch in made))


def cut(raw: Raw, one: Summary, from_step: int) -> None:
    """Delete the stretches that reach `from_step`: points at or after it change, arrive or are superseded."""
    if not one.rolled_count or from_step > one.rolled_step:
        return
    ((begin,),) = raw.rows(_SELECT_BEGIN, (one.id, from_step))
    begin = from_step if begin is None else begin
    ((gone,),) = raw.rows(
        "SELECT sum(count) FROM metric_rollups WHERE series_id = ? AND first_step >= ?", (one.id, begin)
    )
    raw.run("DELETE FROM metric_rollups WHERE series_id = ? AND first_step >= ?", (one.id, begin))
    ((left,),) = raw.rows("SELECT max(last_step) FROM metric_rollups WHERE series_id = ?", (one.id,))
    _set_rolled(raw, one, -1 if left is None else left, one.rolled_count - int(gone or 0))


def absorb(raw: Raw, one: Summary, points: Iterable[tuple[int, int, float | None]]) -> None:
    """Add late visible points, (step, offset_ms, value) up to `one.rolled_step`, to their stretches.

    Only for points that replace no other point; otherwise use `cut`. Else a client that writes to both ends of a series
    in turn would have all of it rolled up again and again.
    """
    stretch: _Stretch | None = None
    was = count = 0
    for step, offset, value in sorted(points, key=lambda point: point[0]):
        if stretch is None or step > stretch[1]:
            if stretch is not None:
                raw.run(_UPDATE, (*stretch, one.id, was))
            (stretch,) = raw.rows(_SELECT_AROUND, (one.id, step)) or raw.rows(_SELECT_FIRST, (one.id,))
            was = stretch[0]
        stretch = _with_point(stretch, step, offset, value)
        count += 1
    if stretch is not None:
        raw.run(_UPDATE, (*stretch, one.id, was))
        _set_rolled(raw, one, one.rolled_step, one.rolled_count + count)


def _with_point(stretch: _Stretch, step: int, offset: int, value: float | None) -> _Stretch:
    first, last, count, low, low_step, low_offset, high, high_step, high_offset = stretch
    if value is not None and (low is None or value < low):
        low, low_step, low_offset = value, step, offset
    if value is not None and (high is None or value > high):
        high, high_step, high_offset = value, step, offset
    return (
        min(first, step), max(last, step), count + 1, low, low_step, low_offset, high, high_step, high_offset,
    )  # fmt: skip


def _set_rolled(raw: Raw, one: Summary, step: int, count: int) -> None:
    one.rolled_step, one.rolled_count = step, count
    raw.run("UPDATE series SET rolled_step = ?, rolled_count = ? WHERE id = ?", (step, count, one.id))


def _begin(one: Summary) -> int:
    """The first step after the stretches; the last step of a series is never in one."""
    return one.rolled_step + 1 if one.rolled_count else _LOWEST


# -- series whose rows are all visible, as nearly always: by the database ---------------------------------------------


def _plain_stretches(raw: Raw, one: Summary, first: int, top: int) -> list[_Stretch] | None:
    """New stretches from the step `first` on, by SQLite without reading the points; None if that is not possible."""
    left = one.count - one.rolled_count
    if raw.postgres or left > _MOST:
        return None
    ((rows,),) = raw.rows("SELECT count(*) FROM metric_points WHERE series_id = ? AND step >= ?", (one.id, first))
    if rows != left:
        return None
    made = []
    while left >= STRETCH + LAG and first < top:
        (last,), (following,) = raw.rows(_SELECT_END, (one.id, first))
        if last == following:
            ((found,),) = raw.rows(_SELECT_STEP_FROM, (one.id, last + 1)) if last < top else ((None,),)
            if found is None:
                # More points of the last step may come: the stretch ends before it.
                ((last,),) = raw.rows(
                    "SELECT max(step) FROM metric_points WHERE series_id = ? AND step < ?", (one.id, top)
                )
            following = top if found is None else found
        within = (one.id, first, last)
        ((low, low_step, low_offset, count),) = raw.rows(_SELECT_MIN, within)
        ((high, high_step, high_offset),) = raw.rows(_SELECT_MAX, within)
        if low is None:
            ((low_step, low_offset),) = raw.rows(_SELECT_POINT, within)
            high_step, high_offset = low_step, low_offset
        made.append((first, last, count, low, low_step, low_offset, high, high_step, high_offset))
        first, left = following, left - count
    return made


# -- series with superseded rows, and PostgreSQL: from the visible points ---------------------------------------------


def _visible_stretches(raw: Raw, one: Summary, first: int, top: int) -> list[_Stretch]:
    import numpy as np

    ((started_ms,),) = raw.rows("SELECT started_ms FROM runs WHERE id = ?", (one.run,))
    starts_of_fits = fit_starts(raw.connection, one.run, one.axis)
    while True:
        far = raw.rows(_SELECT_FAR, (one.id, first))
        last = min(far[0][0], top - 1) if far else None
        points = read_points(raw.connection, one.id, first_step=first, last_step=last, started_ms=started_ms)
        seen = visible(points, starts_of_fits)
        if last is None or last >= top - 1 or seen.any():
            break
        first = last + 1  # all rows read are superseded
    steps, offsets, values = points.steps[seen], points.ms[seen] - started_ms, points.values[seen]
    size = len(steps)
    starts = np.flatnonzero(steps[1:] != steps[:-1]) + 1  # where a stretch may begin
    if last is not None:
        starts = np.append(starts, size)
    made: list[_Stretch] = []
    at = 0
    while len(starts) and at + STRETCH <= (size - LAG if last is None else size):
        following = int(starts[min(int(np.searchsorted(starts, at + STRETCH)), len(starts) - 1)])
        if following <= at:
            break
        made.append(_stretch(steps[at:following], offsets[at:following], values[at:following]))
        at = following
    if last is not None and not made and size:
        made.append(_stretch(steps, offsets, values))  # short, but else the same rows would be read again in every call
    return made


def _stretch(steps: Any, offsets: Any, values: Any) -> _Stretch:
    import numpy as np

    low = high = 0
    numbers = np.flatnonzero(~np.isnan(values))
    if len(numbers):
        low, high = int(numbers[np.argmin(values[numbers])]), int(numbers[np.argmax(values[numbers])])
    return (
        int(steps[0]), int(steps[-1]), len(steps),
        float(values[low]) if len(numbers) else None, int(steps[low]), int(offsets[low]),
        float(values[high]) if len(numbers) else None, int(steps[high]), int(offsets[high]),
    )  # fmt: skip


_COLUMNS: Sequence[str] = (
    "first_step", "last_step", "count",
    "min_value", "min_step", "min_offset_ms", "max_value", "max_step", "max_offset_ms",
)  # fmt: skip
_LIST = ", ".join(_COLUMNS)
_INSERT = f"INSERT INTO metric_rollups (series_id, {_LIST}) VALUES (?, {', '.join('?' * len(_COLUMNS))})"
_UPDATE = (
    f"UPDATE metric_rollups SET {', '.join(f'{name} = ?' for name in _COLUMNS)} WHERE series_id = ? AND first_step = ?"
)
_SELECT_STEP_FROM = "SELECT min(step) FROM metric_points WHERE series_id = ? AND step >= ?"
_SELECT_BEGIN = "SELECT max(first_step) FROM metric_rollups WHERE series_id = ? AND first_step <= ?"
_SELECT_AROUND = (
    f"SELECT {_LIST} FROM metric_rollups WHERE series_id = ? AND first_step <= ? ORDER BY first_step DESC LIMIT 1"
)
_SELECT_FIRST = f"SELECT {_LIST} FROM metric_rollups WHERE series_id = ? ORDER BY first_step LIMIT 1"
_SELECT_END = (
    f"SELECT step FROM metric_points WHERE series_id = ? AND step >= ? ORDER BY step, take LIMIT 2 OFFSET {STRETCH - 1}"
)
_SELECT_FAR = (
    f"SELECT step FROM metric_points WHERE series_id = ? AND step >= ? ORDER BY step, take LIMIT 1 OFFSET {_MOST - 1}"
)
_WITHIN = "FROM metric_points WHERE series_id = ? AND step >= ? AND step <= ?"
# SQLite takes the other columns of a lone min() or max() from its row (https://sqlite.org/lang_select.html).
_SELECT_MIN = f"SELECT min(value), step, offset_ms, count(*) {_WITHIN}"
_SELECT_MAX = f"SELECT max(value), step, offset_ms {_WITHIN}"
_SELECT_POINT = f"SELECT step, offset_ms {_WITHIN} ORDER BY step, take LIMIT 1"
