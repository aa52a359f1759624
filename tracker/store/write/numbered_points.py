"""Numbered writes: places points of journals. A step that is written again replaces what was there.

Points with steps above all steps of their series, the common case by far, are merged into the summary. Other points may
meet older ones at their step: they get the next free `take`, and the summary is computed again from the visible points.
When a fit supersedes the end of a series, its points get a `take` above all superseded ones, so that a resumed training
is the common case again.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence

from sqlalchemy import func, select

from tracker.domain.frames import FitStarted, PointBlock
from tracker.store.database.driver_cursor import DriverCursor
from tracker.store.points import blocks
from tracker.store.points.bulk import PointRows
from tracker.store.points.series_rows import read_points
from tracker.store.points.summaries import Mark, Summary
from tracker.store.points.supersession import is_superseded, visible
from tracker.store.tables import metric_points
from tracker.store.write.claimed_run import ClaimedRun


def place(raw: DriverCursor, waiting: Iterable[tuple[Summary, ClaimedRun]], rows: PointRows) -> list[Summary]:
    """Place the waiting points of each series into `rows` and its summary, which may be stale then; return them."""
    changed = []
    shared: dict[int, _Shared] = {}
    for one, run in waiting:
        _place(raw, one, run, rows, shared)
        one.blocks = None
        changed.append(one)
    return changed


def supersede(raw: DriverCursor, run: ClaimedRun, series: Iterable[Summary], fit: FitStarted) -> list[Summary]:
    """Compute anew the series of which the new fit supersedes points; return them.

    The fit's own row, and all earlier points, must be written already.
    """
    changed = []
    first = {"epoch": fit.first_epoch, "step": fit.first_step}
    for one in series:
        begin = first.get(one.axis)
        if begin is not None and one.top_step >= begin:
            one.take += 1
            recompute(raw, one, run)
            one.top_step = one.last[1] if one.last else -1
            changed.append(one)
    return changed


def recompute(raw: DriverCursor, one: Summary, run: ClaimedRun) -> None:
    """Compute the summary from the visible points, which must be written already."""
    points = read_points(raw.connection, one.id, one.sealed_step, started_ms=run.started_ms)
    seen = visible(points, run.starts(raw.connection, one.axis))
    steps, ms, values = points.steps[seen], points.ms[seen], points.values[seen]
    one.count, one.stale, one.recent = len(steps), False, None
    one.dirty = one.bounds_dirty = True
    one.last = one.min = one.max = None
    if not len(steps):
        return

    import numpy as np

    def mark(index: int) -> Mark:
        value = float(values[index])
        return (None if math.isnan(value) else value, int(steps[index]), int(ms[index]))

    end = len(steps) - 1
    if end and steps[end - 1] == steps[end]:
        at_end = np.flatnonzero(steps == steps[end])
        zeroed = np.nan_to_num(values[at_end], nan=0.0, posinf=np.inf, neginf=-np.inf)
        end = int(at_end[np.lexsort((~np.isnan(values[at_end]), zeroed, ms[at_end]))[-1]])
    one.last = mark(end)
    numbers = np.flatnonzero(~np.isnan(values))
    if len(numbers):
        one.min = mark(int(numbers[np.argmin(values[numbers])]))
        one.max = mark(int(numbers[np.argmax(values[numbers])]))


class _Shared:
    """What the keys of a block share."""

    __slots__ = ("is_rising", "offsets", "top")

    def __init__(self, block: PointBlock, started_ms: int) -> None:
        steps = block.steps
        self.is_rising = len(steps) == 1 or all(map(operator.lt, steps, steps[1:]))
        self.top = steps[-1] if self.is_rising else max(steps)
        self.offsets = [ms - started_ms for ms in block.ms]


def _place(raw: DriverCursor, one: Summary, run: ClaimedRun, rows: PointRows, shared: dict[int, _Shared]) -> None:
    blocks = one.blocks or []
    placed: list[tuple[Sequence[int], Sequence[int] | int]] = []
    for block, column in blocks:
        steps = block.steps
        if one.count == 0 and one.top_step < 0:
            one.axis, one.bounds_dirty = block.axis, True
        values: Sequence[float | None] = block.values[column]
        if math.isnan(sum(block.values[column])):  # also with infinities of both signs, for which this changes nothing
            values = [None if value != value else value for value in block.values[column]]
        of_block = shared.get(id(block))
        if of_block is None:
            of_block = shared[id(block)] = _Shared(block, run.started_ms)
        top = of_block.top
        # A dead process's journal may arrive after its successor's: then a later fit supersedes some of the block.
        if block.fit and is_superseded(block.fit, top, run.starts(raw.connection, block.axis)):
            one.stale = True
        if of_block.is_rising and steps[0] > one.top_step:
            takes: Sequence[int] | int = one.take
            if not one.stale:
                _merge(one, block, values)
        else:
            takes = _takes(raw, one, placed, steps)
            one.take = max(one.take, *takes)
            one.stale = True
        placed.append((steps, takes))
        one.top_step = max(one.top_step, top)
        one.dirty = one.end_dirty = True
        one.recent = None
        rows.add_columns(one, steps, takes, block.fit, of_block.offsets, values)


def _takes(
    raw: DriverCursor, one: Summary, placed: Iterable[tuple[Sequence[int], Sequence[int] | int]], steps: Sequence[int]
) -> list[int]:
    """The next free take of each of `steps`, after those that are stored and those `placed`: (steps, takes)."""
    c = metric_points.c
    found = raw.connection.execute(
        select(c.step, func.max(c.take).label("top"))
        .where(c.series_id == one.id, c.step >= min(steps), c.step <= max(steps))
        .group_by(c.step)
    )
    top = {row.step: row.top for row in found}
    sealed = []
    if min(steps) <= one.sealed_step:
        sealed = blocks.points_between(raw.connection, one.id, min(steps), max(steps))
    for columns in (*((rows.steps.tolist(), rows.takes.tolist()) for rows in sealed), *placed):
        takes_of = [columns[1]] * len(columns[0]) if isinstance(columns[1], int) else columns[1]
        for step, take in zip(columns[0], takes_of, strict=True):
            top[step] = max(top.get(step, -1), take)
    takes = []
    for step in steps:
        top[step] = top.get(step, -1) + 1
        takes.append(top[step])
    return takes


def _merge(one: Summary, block: PointBlock, values: Sequence[float | None]) -> None:
    steps, ms = block.steps, block.ms
    one.count += len(values)
    one.last = (values[-1], steps[-1], ms[-1])
    numbers = values if None not in values else [value for value in values if value is not None]
    if not numbers:
        return
    low, high = values.index(min(numbers)), values.index(max(numbers))  # type: ignore[type-var]
    one.widen((values[low], steps[low], ms[low]), (values[high], steps[high], ms[high]))
