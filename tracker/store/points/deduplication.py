"""Unnumbered writes: stores each point of clients without a journal once, as a row and in its summary.

Such points carry no frame numbers. A point that arrives twice is recognised by its step, time and value. A point above
all points of its series, by step and then time, is new: the common case by far. Other points are looked up in the
table. Once a series had a late point, its newest points are cached with the summary, which saves that lookup.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from tracker.domain.vocabulary import UNNUMBERED
from tracker.store.database.driver_cursor import Raw
from tracker.store.points import rollups
from tracker.store.points.bulk import insert_flat
from tracker.store.points.summaries import Mark, Summary, save_summaries
from tracker.store.points.supersession import visible_values

RECENT = 128
"""Maximum number of newest points that are cached for a series."""

Waiting = list[tuple[int, int, float]]
"""Points of one series to store: (step, ms, value)."""
_Row = tuple[int, int, int, float | None]
"""step, take, ms since the run's start, value."""
_Rows = Iterable[_Row]


def write_points(connection: Connection, raw: Raw, waiting: Iterable[tuple[Summary, int]]) -> list[Summary]:
    """Store the waiting points of each series, given with its run's `started_ms`; return the series that changed."""
    changed: list[Summary] = []
    rows: list[tuple[Summary, _Rows]] = []
    late: list[tuple[Summary, int, Waiting]] = []
    for one, started_ms in waiting:
        points, one.waiting = one.waiting or [], None
        columns, one.columns = one.columns, None
        rising: _Rows | None = None
        if columns is not None and not points:
            rising = _place_rising(one, started_ms, *columns)
        if columns is not None and rising is None:
            points.extend(zip(*columns, strict=True))
        if len(points) == 1:
            step, ms, value = points[0]
            last = one.last
            if last is None or step > last[1] or (step == last[1] and ms > last[2]):
                rising = [_place_one(one, started_ms, step, ms, value)]
        elif points:
            points.sort()
            if points[0][0] > one.top_step:
                rising = _place_rising(one, started_ms, *zip(*points, strict=True))
        if rising is not None:
            rows.append((one, rising))
            changed.append(one)
        else:
            late.append((one, started_ms, points))
    for one, placed in _place_late(connection, raw, late):
        rows.append((one, placed))
        changed.append(one)
    save_summaries(raw, changed)
    _insert(raw, rows)
    return changed


def _place_one(one: Summary, started_ms: int, step: int, ms: int, number: float) -> _Row:
    """Merge a point above all others of the series into its summary; return its row."""
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
    if one.last is None or mark[0] != one.last[0]:
        one.end_dirty = True
    one.last = mark
    if one.recent is not None:
        _remember(one, [mark])
    return step, one.take, ms - started_ms, value


def _place_rising(
    one: Summary, started_ms: int, steps: tuple[int, ...], times: tuple[int, ...], numbers: tuple[float, ...]
) -> _Rows | None:
    """`_place_one` for points with rising steps, all above those of the series; None if they do not rise."""
    if steps[0] <= one.top_step or not all(map(operator.lt, steps, steps[1:])):
        return None
    values: Sequence[float | None] = numbers
    if math.isnan(sum(numbers)):  # also with infinities of both signs, for which this changes nothing
        values = [None if number != number else number for number in numbers]
        numbers = tuple(number for number in numbers if number == number)
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
    return zip(steps, itertools.repeat(one.take), offsets, values, strict=False)


def _place_late(
    connection: Connection, raw: Raw, late: Sequence[tuple[Summary, int, Waiting]]
) -> Iterable[tuple[Summary, list[_Row]]]:
    """`_place_one` for sorted points, any of which may be stored already."""
    asked: list[tuple[Summary, int, int]] = []
    for one, started_ms, points in late:
        if one.last is not None:
            asked.extend(_unknown(one, started_ms, points, one.last))
    there = visible_values(connection, raw, asked) if asked else {}
    for one, started_ms, points in late:
        rows = _place(one, started_ms, points, there)
        if rows:
            if rows[0][0] <= one.rolled_step and one.rolled_count:
                behind = [(row[0], row[2], row[3]) for row in rows if row[0] <= one.rolled_step]
                rollups.absorb(raw, one, behind)
            yield one, rows


def _unknown(one: Summary, started_ms: int, points: Waiting, last: Mark) -> Iterable[tuple[Summary, int, int]]:
    """The places of the series to look up in the table: (series, step, offset)."""
    end = last[1:]
    if points[0][:2] > end:
        return
    if one.recent is None:
        one.recent, one.floor = set(), end
    for step, ms, _ in points:
        if (step, ms) <= one.floor:
            yield one, step, ms - started_ms


def _place(
    one: Summary, started_ms: int, points: Waiting, there: dict[tuple[int, int, int], set[float | None]]
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


def _insert(raw: Raw, rows: list[tuple[Summary, _Rows]]) -> None:
    rows.sort(key=_id)
    flat: list[object] = []
    for one, placed in rows:
        number = one.id
        for step, take, offset, value in placed:
            flat += (number, step, take, UNNUMBERED, offset, value)
    insert_flat(raw, flat)


def _id(pair: tuple[Summary, object]) -> int:
    return pair[0].id
