"""Unnumbered writes: places points of clients without a journal. Each is stored once.

Such points carry no frame numbers. A point that arrives twice is recognised by its step, time and value. A point above
all points of its series, by step and then time, is new: the common case by far. Other points are looked up in the
table. Once a series had a late point, its newest points are cached with the summary, which saves that lookup.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence

from tracker.domain.vocabulary import UNNUMBERED
from tracker.store.database.driver_cursor import DriverCursor
from tracker.store.points import blocks
from tracker.store.points.bulk import PointRows
from tracker.store.points.summaries import Mark, Summary
from tracker.store.points.supersession import is_superseded
from tracker.store.write.claimed_run import ClaimedRun

RECENT = 128
"""Maximum number of newest points that are cached for a series."""

_Points = list[tuple[int, int, float]]
"""Points of one series to place: (step, ms, value)."""
_Late = tuple[Summary, ClaimedRun, _Points]
_Place = tuple[Summary, ClaimedRun, int, int]
"""A series of a run, a step of it, and ms since the run's start."""
_Row = tuple[int, int, int, float | None]
"""step, take, ms since the run's start, value."""


def place(raw: DriverCursor, waiting: Iterable[tuple[Summary, ClaimedRun]], rows: PointRows) -> list[Summary]:
    """Place the waiting points of each series into `rows` and its summary; return the series that changed."""
    changed: list[Summary] = []
    late: list[_Late] = []
    for one, run in waiting:
        points, one.points = one.points or [], None
        columns, one.columns = one.columns, None
        if columns is not None and not points and _place_rising(one, run.started_ms, *columns, rows):
            changed.append(one)
            run.is_changed = True
            continue
        if columns is not None:
            points.extend(zip(*columns, strict=True))
        if len(points) == 1:
            rising = _place_one(one, run.started_ms, *points[0], rows)
        else:
            points.sort()
            rising = points[0][0] > one.top_step and _place_rising(one, run.started_ms, *_columns(points), rows)
        if not rising:
            late.append((one, run, points))
            continue
        changed.append(one)
        run.is_changed = True
    for one, run in _place_late(raw, late, rows):
        changed.append(one)
        run.is_changed = True
    return changed


def _columns(points: _Points) -> tuple[Sequence[int], Sequence[int], Sequence[float]]:
    steps, times, numbers = zip(*points, strict=True)
    return steps, times, numbers


def _place_one(one: Summary, started_ms: int, step: int, ms: int, number: float, rows: PointRows) -> bool:
    """Place a point if it is above all others of the series; return whether it was."""
    last = one.last
    if last is not None and step <= last[1] and (step < last[1] or ms <= last[2]):
        return False
    if step > one.top_step:
        one.top_step = step
    else:
        one.take += 1
    one.count += 1
    one.dirty = True
    value = number if number == number else None
    mark: Mark = (value, step, ms)
    low, high = one.min, one.max
    if value is not None and (low is None or high is None or value < low[0] or value > high[0]):  # type: ignore[operator]
        one.widen(mark, mark)
    if last is None or value != last[0]:
        one.end_dirty = True
    one.last = mark
    if one.recent is not None:
        _remember(one, [mark])
    rows.add(one, step, one.take, UNNUMBERED, ms - started_ms, value)
    return True


def _place_rising(
    one: Summary,
    started_ms: int,
    steps: Sequence[int],
    times: Sequence[int],
    numbers: Sequence[float],
    rows: PointRows,
) -> bool:
    """`_place_one` for points with rising steps, all above those of the series; False if they do not rise."""
    if steps[0] <= one.top_step or not all(map(operator.lt, steps, steps[1:])):
        return False
    values: Sequence[float | None] = numbers
    if math.isnan(sum(numbers)):  # also with infinities of both signs, for which this changes nothing
        values = [None if number != number else number for number in numbers]
        numbers = [number for number in numbers if number == number]
    if numbers:
        low, high = values.index(min(numbers)), values.index(max(numbers))
        one.widen((values[low], steps[low], times[low]), (values[high], steps[high], times[high]))
    if one.last is None or one.last[0] != values[-1]:
        one.end_dirty = True
    one.last = (values[-1], steps[-1], times[-1])
    one.top_step = steps[-1]
    one.count += len(steps)
    one.dirty = True
    if one.recent is not None:
        _remember(one, zip(values, steps, times, strict=True))
    offsets = [ms - started_ms for ms in times]
    rows.add_columns(one, steps, one.take, UNNUMBERED, offsets, values)
    return True


def _place_late(raw: DriverCursor, late: Sequence[_Late], out: PointRows) -> Iterable[tuple[Summary, ClaimedRun]]:
    """`_place_one` for sorted points, any of which may be stored already."""
    unknown: list[_Place] = []
    for one, run, points in late:
        if one.last is not None:
            unknown.extend(_unknown(one, run, points, one.last))
    there = _visible_values(raw, unknown) if unknown else {}
    for one, run, points in late:
        rows = _place(one, run.started_ms, points, there)
        if rows:
            for step, take, offset, value in rows:
                out.add(one, step, take, UNNUMBERED, offset, value)
            yield one, run


def _unknown(one: Summary, run: ClaimedRun, points: _Points, last: Mark) -> Iterable[_Place]:
    """The places of the series to look up in the table."""
    end = last[1:]
    if points[0][:2] > end:
        return
    if one.recent is None:
        one.recent, one.floor = set(), end
    for step, ms, _ in points:
        if (step, ms) <= one.floor:
            yield one, run, step, ms - run.started_ms


def _place(
    one: Summary, started_ms: int, points: _Points, there: dict[tuple[int, int, int], set[float | None]]
) -> list[_Row]:
    """Merge those of the sorted points that are not stored yet into the summary; return their rows."""
    rows: list[_Row] = []
    marks: list[Mark] = []
    low: Mark | None = None
    high: Mark | None = None
    top, take = one.top_step, one.take
    at: tuple[int, int] | None = None
    seen: set[float | None] = set()
    for step, ms, number in points:
        value = None if number != number else number
        if (step, ms) != at:
            at = (step, ms)
            seen = set(there.get((one.id, step, ms - started_ms), ())) if there else set()
        mark = (value, step, ms)
        if value in seen or (one.recent is not None and mark in one.recent):
            continue
        seen.add(value)
        marks.append(mark)
        if step > top:
            top = step
        else:
            take += 1
        rows.append((step, take, ms - started_ms, value))
        if value is not None:
            if low is None or value < low[0]:  # type: ignore[operator]
                low = mark
            if high is None or value > high[0]:  # type: ignore[operator]
                high = mark
    if not rows:
        return rows
    one.top_step, one.take = top, take
    one.count += len(rows)
    one.dirty = True
    end = marks[-1] if len(marks) == 1 or marks[-2][1:] != marks[-1][1:] else max(marks, key=_order)
    if one.last is None or _order(end) > _order(one.last):
        one.last, one.end_dirty = end, True
    if low is not None and high is not None:
        one.widen(low, high)
    if one.recent is not None:
        _remember(one, marks)
    return rows


def _remember(one: Summary, marks: Iterable[Mark]) -> None:
    """Add points to the cached newest ones, of which all above `floor` are known."""
    recent = one.recent
    assert recent is not None
    recent.update(mark for mark in marks if mark[1:] > one.floor)
    if len(recent) > RECENT:
        ends = sorted(mark[1:] for mark in recent)
        one.floor = ends[len(ends) // 2]
        one.recent = {mark for mark in recent if mark[1:] > one.floor}


def _order(mark: Mark) -> tuple[int, int, float, bool]:
    """Sort key: step, time and value; NaN sorts before 0."""
    value = mark[0]
    return mark[1], mark[2], 0.0 if value is None else value, value is not None


def _visible_values(raw: DriverCursor, places: Sequence[_Place]) -> dict[tuple[int, int, int], set[float | None]]:
    """The values (None: NaN) of the visible points at each place, by id of the series, step and ms."""
    there: dict[tuple[int, int, int], set[float | None]] = {}
    for (one, run, step, offset), rows in zip(places, _rows_at(raw, places), strict=True):
        numbered = [row for row in rows if row[1] != UNNUMBERED]
        if numbered:
            starts = run.starts(raw.connection, one.axis)
            shown = [row for row in numbered if not is_superseded(row[1], step, starts)]
            rows = [row for row in rows if row[1] == UNNUMBERED] + shown[-1:]
        there[one.id, step, offset] = {value for at, _, value in rows if at == offset}
    return there


_Found = tuple[int, int, float | None]
"""offset_ms, fit, value."""


def _rows_at(raw: DriverCursor, places: Sequence[_Place]) -> list[list[_Found]]:
    """The points at each place, and all numbered points of its step, by take."""
    found: list[list[tuple[int, _Found]]] = [[] for _ in places]
    if raw.postgres:
        ids, steps, offsets = zip(*((one.id, step, offset) for one, _, step, offset in places), strict=True)
        for number, take, *row in raw.rows(_SELECT_ALL_AT, (list(ids), list(steps), list(offsets), UNNUMBERED)):
            found[number - 1].append((take, (row[0], row[1], row[2])))
    else:
        for at, (one, _, step, offset) in zip(found, places, strict=True):
            at.extend((row[0], row[1:]) for row in raw.rows(_SELECT_AT, (one.id, step, offset, UNNUMBERED)))
    sealed: dict[Summary, list[tuple[list[tuple[int, _Found]], int, int]]] = {}
    for at, (one, _, step, offset) in zip(found, places, strict=True):
        if step <= one.sealed_step:
            sealed.setdefault(one, []).append((at, step, offset))
    for one, wanted in sealed.items():
        _add_sealed(raw, one, wanted)
    return [[row for _, row in sorted(at, key=operator.itemgetter(0))] for at in found]


def _add_sealed(raw: DriverCursor, one: Summary, wanted: Sequence[tuple[list[tuple[int, _Found]], int, int]]) -> None:
    """Add to each list in `wanted` (list, step, offset) what blocks have at the place, by take."""
    import numpy as np

    wanted = sorted(wanted, key=operator.itemgetter(1))
    steps = np.array([step for _, step, _ in wanted], np.int64)
    offsets = np.array([offset for *_, offset in wanted], np.int64)
    for header in blocks.headers(raw.connection, one.id, int(steps[0]), int(steps[-1])):
        inside = np.arange(steps.searchsorted(header.first_step), steps.searchsorted(header.last_step, "right"))
        if header.fit == UNNUMBERED:
            times = offsets[inside]
            inside = inside[(times >= header.min_offset_ms) & (times <= header.max_offset_ms)]
        if not len(inside):
            continue
        rows = blocks.points(raw.connection, one.id, header)
        lows, highs = (rows.steps.searchsorted(steps[inside], side) for side in ("left", "right"))
        there = lows < highs
        for place, low, high in zip(*(each[there].tolist() for each in (inside, lows, highs)), strict=True):
            found, _, offset = wanted[place]
            for index in low + np.flatnonzero((rows.ms[low:high] == offset) | (rows.fits[low:high] != UNNUMBERED)):
                fit, ms, value = int(rows.fits[index]), int(rows.ms[index]), float(rows.values[index])
                found.append((int(rows.takes[index]), (ms, fit, None if value != value else value)))


_SELECT_AT = (
    "SELECT take, offset_ms, fit, value FROM metric_points"
    " WHERE series_id = ? AND step = ? AND (offset_ms = ? OR fit != ?) ORDER BY take"
)
_SELECT_ALL_AT = """
    SELECT at.number, p.take, p.offset_ms, p.fit, p.value
    FROM unnest(?::int8[], ?::int8[], ?::int8[]) WITH ORDINALITY AS at (series_id, step, offset_ms, number)
    JOIN metric_points AS p
    ON p.series_id = at.series_id AND p.step = at.step AND (p.offset_ms = at.offset_ms OR p.fit != ?)
    ORDER BY at.number, p.take
"""
