"""Numbered writes: stores points of journals as rows and updates the summaries of their series.

Points with steps above all steps of their series, the common case by far, are inserted and merged into the summary.
Other points may meet older ones at their step: they get the next free `take`, and the summary is computed again from
the visible points. When a fit supersedes the end of a series, its points get a `take` above all superseded ones, so
that a resumed training is the common case again.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from tracker.domain.frames import FitStarted, PointBlock
from tracker.domain.goals import GOAL_RANK, Goal, GoalSource
from tracker.domain.vocabulary import Axis
from tracker.store.database.driver_cursor import Raw, driver_errors
from tracker.store.points import rollups
from tracker.store.points.bulk import PointColumns, insert_points
from tracker.store.points.summaries import Mark, Summary, new_summary, save_summaries
from tracker.store.points.supersession import cuts, cuts_now, read_points, visible
from tracker.store.tables import metric_points


@dataclass(frozen=True, slots=True)
class Best:
    """The best value of a series on the epoch axis."""

    key: str
    step: int
    value: float


class SeriesBook:
    """The series of one run while one batch is applied."""

    def __init__(
        self, connection: Connection, run: int, started_ms: int, load: Callable[[Raw], dict[str, Summary]]
    ) -> None:
        self._connection = connection
        self._run = run
        self._started_ms = started_ms
        self._load = load
        self._known: dict[str, Summary] | None = None
        self._begins: dict[Axis, list[tuple[int, int]]] = {}
        self.changed: set[str] = set()
        """The keys of the series whose summaries `finish` wrote."""

    def add(self, blocks: Sequence[PointBlock]) -> None:
        """Add points. A key keeps its first axis."""
        if not blocks:
            return
        self._create_missing(blocks)
        for block in blocks:
            offsets = [ms - self._started_ms for ms in block.ms]
            for column, key in enumerate(block.keys):
                one = self._series[key]
                if one.blocks is None:
                    one.blocks = []
                one.blocks.append((block, column, offsets))
        columns = PointColumns()
        for one in sorted((s for s in self._series.values() if s.blocks), key=lambda s: s.id):
            self._rows(one, columns)
            one.blocks = None
        insert_points(self._connection, columns)

    def define(self, key: str, goal: Goal, source: GoalSource) -> None:
        """Set whether small or large is better, for later points too. A source of lower rank changes nothing."""
        one = self._series.get(key) or self._create([(key, "epoch")])[0]
        if one.goal_source is None or GOAL_RANK[source] >= GOAL_RANK[one.goal_source]:
            one.goal, one.goal_source, one.dirty, one.bounds_dirty = goal, source, True, True

    def supersede(self, fit: FitStarted) -> None:
        """Supersede the points at or after the new fit's beginning; the fit's own row must be written already."""
        self._begins.clear()
        first = {"epoch": fit.first_epoch, "step": fit.first_step}
        for one in self._series.values():
            begin = first.get(one.axis)
            if begin is not None and one.top_step >= begin:
                c = metric_points.c
                behind = select(func.max(c.take)).where(c.series_id == one.id, c.step >= begin)
                one.take = max(one.take, (self._connection.execute(behind).scalar() or 0) + 1)
                rollups.cut(self._connection, one, begin)
                self._recompute(one)
                one.top_step = one.last[1] if one.last else -1

    def finish(self) -> None:
        """Write the summaries of the series that changed."""
        if self._known is None:
            return
        for one in self._known.values():
            if one.stale:
                self._recompute(one)
        changed = [one for one in self._known.values() if one.dirty]
        self.changed = {one.key for one in changed}
        self._save(changed)
        long = [one for one in changed if one.count - one.rolled_count >= rollups.LEAST]
        if long:
            rollups.extend(self._connection, long)

    def _save(self, changed: Iterable[Summary]) -> None:
        with driver_errors(self._connection, "series"):
            save_summaries(Raw(self._connection), changed)

    def best(self, *keys: str) -> Best | None:
        """The best value of the first of `keys` that has one."""
        for key in keys:
            one = self._series.get(key)
            if one is not None and one.axis == "epoch" and one.best is not None and one.best[0] is not None:
                return Best(key=key, step=one.best[1], value=one.best[0])
        return None

    @property
    def _series(self) -> dict[str, Summary]:
        if self._known is None:
            with driver_errors(self._connection, "series"):
                self._known = self._load(Raw(self._connection))
        return self._known

    def _create_missing(self, blocks: Sequence[PointBlock]) -> None:
        known = self._series
        missing = {key: block.axis for block in blocks for key in block.keys if key not in known}
        if missing:
            self._create(missing.items())

    def _create(self, keys: Iterable[tuple[str, Axis]]) -> list[Summary]:
        created = [new_summary(self._run, key, axis) for key, axis in keys]
        self._save(created)
        self._series.update({one.key: one for one in created})
        return created

    def _rows(self, one: Summary, out: PointColumns) -> None:
        """Append the rows of the points that wait for `one` to `out`."""
        first = len(out.steps)
        for block, column, offsets in one.blocks or ():
            if one.count == 0 and one.top_step < 0:
                one.axis, one.bounds_dirty = block.axis, True
            values = [None if value != value else value for value in block.values[column]]
            if self._is_late(block):
                one.stale = True
            if _above(one.top_step, block.steps):
                takes = [one.take] * len(values)
                if not one.stale:
                    _merge(one, block, values)
            else:
                takes = self._takes(one, zip(out.steps[first:], out.takes[first:], strict=True), block.steps)
                one.take = max(one.take, *takes)
                one.stale = True
            if one.rolled_count and (lowest := min(block.steps)) <= one.rolled_step:
                rollups.cut(self._connection, one, lowest)
            one.top_step = max(one.top_step, max(block.steps))
            one.dirty = one.end_dirty = True
            one.recent = None
            out.series.extend([one.id] * len(values))
            out.steps.extend(block.steps)
            out.takes.extend(takes)
            out.fits.extend([block.fit] * len(values))
            out.offsets.extend(offsets)
            out.values.extend(values)
        if one.stale:
            order = sorted(range(first, len(out.steps)), key=lambda row: (out.steps[row], out.takes[row]))
            for rows in out.all():
                rows[first:] = [rows[row] for row in order]

    def _is_late(self, block: PointBlock) -> bool:
        """Whether a later fit supersedes some of `block`: a dead process's journal may arrive after its successor's."""
        if block.fit == 0:
            return False
        if block.axis not in self._begins:
            self._begins[block.axis] = cuts_now(self._connection, self._run, block.axis)
        top = max(block.steps)
        return any(fit > block.fit and step <= top for fit, step in self._begins[block.axis])

    def _takes(self, one: Summary, pending: Iterable[tuple[int, int]], steps: Sequence[int]) -> list[int]:
        """The next free take of each of `steps`, after those in the table and in `pending`."""
        c = metric_points.c
        found = self._connection.execute(
            select(c.step, func.max(c.take).label("top"))
            .where(c.series_id == one.id, c.step >= min(steps), c.step <= max(steps))
            .group_by(c.step)
        )
        top = {row.step: row.top for row in found}
        for step, take in pending:
            top[step] = max(top.get(step, -1), take)
        takes = []
        for step in steps:
            top[step] = top.get(step, -1) + 1
            takes.append(top[step])
        return takes

    def _recompute(self, one: Summary) -> None:
        points = read_points(self._connection, one.id)
        seen = visible(points, cuts(self._connection, self._run, one.axis))
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


def _above(top: int, steps: Sequence[int]) -> bool:
    """Whether `steps` rise strictly from above `top`."""
    if steps[0] <= top:
        return False
    return len(steps) == 1 or all(map(operator.lt, steps, steps[1:]))


def _merge(one: Summary, block: PointBlock, values: Sequence[float | None]) -> None:
    steps, ms = block.steps, block.ms
    one.count += len(values)
    one.last = (values[-1], steps[-1], ms[-1])
    numbers = values if None not in values else [value for value in values if value is not None]
    if not numbers:
        return
    low, high = values.index(min(numbers)), values.index(max(numbers))  # type: ignore[type-var]
    one.widen((values[low], steps[low], ms[low]), (values[high], steps[high], ms[high]))
