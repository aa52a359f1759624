"""Points and the summaries of their series.

Points whose steps lie above all that a series has, the common case by far, go straight in and are merged into the
summary. Others may meet older ones: they get the next free `take` of their step, and the summary is computed anew from
what is visible. When a fit supersedes the end of a series, the series goes on from there with a `take` above all that
lie behind, so that a resumed training is the common case again.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection, bindparam, func, select, update

from tracker.domain.frames import FitStarted, PointBlock
from tracker.domain.goals import GOAL_RANK, Goal, GoalSource, infer_goal
from tracker.domain.words import Axis
from tracker.store.bulk import PointColumns, insert_points
from tracker.store.tables import metric_points, series
from tracker.store.visible import cuts, read_points, visible

Mark = tuple[float | None, int, int]
"""A value (None: NaN) with its step and time."""


@dataclass(slots=True)
class _Series:
    """A series' row while a batch changes it."""

    id: int
    key: str
    axis: Axis
    goal: Goal | None
    goal_source: GoalSource | None
    top_step: int
    take: int
    count: int
    last: Mark | None = None
    min: Mark | None = None
    max: Mark | None = None
    dirty: bool = False
    stale: bool = False
    blocks: list[tuple[PointBlock, int, list[int]]] = field(default_factory=list)

    @property
    def best(self) -> Mark | None:
        return self.min if self.goal == "min" else self.max if self.goal == "max" else None


@dataclass(frozen=True, slots=True)
class Best:
    """The best value of a series on the epoch axis."""

    key: str
    step: int
    value: float


class SeriesBook:
    """The series of one run while one batch is applied."""

    def __init__(self, connection: Connection, run: int, started_ms: int) -> None:
        self._connection = connection
        self._run = run
        self._started_ms = started_ms
        self._known: dict[str, _Series] | None = None
        self._begins: dict[Axis, list[tuple[int, int]]] = {}

    def add(self, blocks: Sequence[PointBlock]) -> None:
        """Add points. A key keeps the axis that it had first."""
        if not blocks:
            return
        self._create_missing(blocks)
        for block in blocks:
            offsets = [ms - self._started_ms for ms in block.ms]
            for column, key in enumerate(block.keys):
                self._series[key].blocks.append((block, column, offsets))
        columns = PointColumns()
        for one in sorted((s for s in self._series.values() if s.blocks), key=lambda s: s.id):
            self._rows(one, columns)
            one.blocks.clear()
        insert_points(self._connection, columns)

    def define(self, key: str, goal: Goal, source: GoalSource) -> None:
        """Set what is better; a later word of lower rank changes nothing. Holds for points still to come as well."""
        one = self._series.get(key) or self._create([(key, "epoch")])[0]
        if one.goal_source is None or GOAL_RANK[source] >= GOAL_RANK[one.goal_source]:
            one.goal, one.goal_source, one.dirty = goal, source, True

    def supersede(self, fit: FitStarted) -> None:
        """Cut back the series that reach past the new fit's beginning; the fit's own row must stand already."""
        self._begins.clear()
        first = {"epoch": fit.first_epoch, "step": fit.first_step}
        for one in self._series.values():
            begin = first.get(one.axis)
            if begin is not None and one.top_step >= begin:
                c = metric_points.c
                behind = select(func.max(c.take)).where(c.series_id == one.id, c.step >= begin)
                one.take = (self._connection.execute(behind).scalar() or 0) + 1
                self._recompute(one)
                one.top_step = one.last[1] if one.last else -1

    def finish(self) -> None:
        """Write the summaries of the series that changed."""
        if self._known is None:
            return
        for one in self._known.values():
            if one.stale:
                self._recompute(one)
        changed = [_summary_row(one) for one in self._known.values() if one.dirty]
        if changed:
            self._connection.execute(_update_series, changed)

    @property
    def touched(self) -> bool:
        """Whether this batch had to do with any series."""
        return self._known is not None

    def best(self, *keys: str) -> Best | None:
        """The best of the first of `keys` that has one."""
        for key in keys:
            one = self._series.get(key)
            if one is not None and one.axis == "epoch" and one.best is not None and one.best[0] is not None:
                return Best(key=key, step=one.best[1], value=one.best[0])
        return None

    @property
    def _series(self) -> dict[str, _Series]:
        if self._known is None:
            found = self._connection.execute(_select_series, {"run": self._run})
            self._known = {row.key: _from_row(row) for row in found}
        return self._known

    def _create_missing(self, blocks: Sequence[PointBlock]) -> None:
        known = self._series
        missing = {key: block.axis for block in blocks for key in block.keys if key not in known}
        if missing:
            self._create(missing.items())

    def _create(self, keys: Iterable[tuple[str, Axis]]) -> list[_Series]:
        rows = [
            {
                "run_id": self._run,
                "key": key,
                "axis": axis,
                "goal": (goal := infer_goal(key)),
                "goal_source": None if goal is None else "inferred",
                "top_step": -1,
                "take": 0,
                "count": 0,
            }
            for key, axis in sorted(keys)
        ]
        self._connection.execute(series.insert(), rows)
        names = [row["key"] for row in rows]
        found = self._connection.execute(_select_series.where(series.c.key.in_(names)), {"run": self._run})
        created = [_from_row(row) for row in found]
        self._series.update({one.key: one for one in created})
        return created

    def _rows(self, one: _Series, out: PointColumns) -> None:
        """Append the rows of what waits for `one` to `out`."""
        first = len(out.steps)
        for block, column, offsets in one.blocks:
            if one.count == 0 and one.top_step < 0:
                one.axis = block.axis
            values = [None if value != value else value for value in block.values[column]]
            if self._is_late(block):
                one.stale = True
            if _above(one.top_step, block.steps):
                takes = [one.take] * len(values)
                if not one.stale:
                    _merge(one, block, values)
            else:
                takes = self._takes(one, zip(out.steps[first:], out.takes[first:], strict=True), block.steps)
                one.stale = True
            one.top_step = max(one.top_step, max(block.steps))
            one.dirty = True
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
        """Whether a later fit supersedes some of `block`: the journal of a dead process comes after its successor's."""
        if block.fit == 0:
            return False
        if block.axis not in self._begins:
            self._begins[block.axis] = cuts(self._connection, self._run, block.axis)
        top = max(block.steps)
        return any(fit > block.fit and step <= top for fit, step in self._begins[block.axis])

    def _takes(self, one: _Series, pending: Iterable[tuple[int, int]], steps: Sequence[int]) -> list[int]:
        """The next free take of each of `steps`, counting what stands in the table and what is about to."""
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

    def _recompute(self, one: _Series) -> None:
        points = read_points(self._connection, one.id)
        seen = visible(points, cuts(self._connection, self._run, one.axis))
        steps, ms, values = points.steps[seen], points.ms[seen], points.values[seen]
        one.count, one.dirty, one.stale = len(steps), True, False
        one.last = one.min = one.max = None
        if not len(steps):
            return

        import numpy as np

        def mark(index: int) -> Mark:
            value = float(values[index])
            return (None if math.isnan(value) else value, int(steps[index]), int(ms[index]))

        one.last = mark(len(steps) - 1)
        numbers = np.flatnonzero(~np.isnan(values))
        if len(numbers):
            one.min = mark(int(numbers[np.argmin(values[numbers])]))
            one.max = mark(int(numbers[np.argmax(values[numbers])]))


def _above(top: int, steps: Sequence[int]) -> bool:
    """Whether `steps` rise strictly from above `top`."""
    if steps[0] <= top:
        return False
    return len(steps) == 1 or all(map(operator.lt, steps, steps[1:]))


def _merge(one: _Series, block: PointBlock, values: Sequence[float | None]) -> None:
    steps, ms = block.steps, block.ms
    one.count += len(values)
    one.last = (values[-1], steps[-1], ms[-1])
    numbers = values if None not in values else [value for value in values if value is not None]
    if not numbers:
        return
    low, high = min(numbers), max(numbers)  # type: ignore[type-var]
    if one.min is None or one.min[0] is None or low < one.min[0]:  # type: ignore[operator]
        row = values.index(low)
        one.min = (low, steps[row], ms[row])
    if one.max is None or one.max[0] is None or high > one.max[0]:  # type: ignore[operator]
        row = values.index(high)
        one.max = (high, steps[row], ms[row])


_select_series = select(series).where(series.c.run_id == bindparam("run"))
_update_series = (
    update(series)
    .where(series.c.id == bindparam("row"))
    .values(
        {
            name: bindparam(f"new_{name}")
            for name in (
                "axis",
                "goal",
                "goal_source",
                "top_step",
                "take",
                "count",
                "last_value",
                "last_step",
                "last_ms",
                "min_value",
                "min_step",
                "min_ms",
                "max_value",
                "max_step",
                "max_ms",
                "best_value",
            )
        }
    )
)

_MARKS: tuple[Literal["last", "min", "max"], ...] = ("last", "min", "max")


def _from_row(row: Any) -> _Series:
    one = _Series(
        id=row.id,
        key=row.key,
        axis=row.axis,
        goal=row.goal,
        goal_source=row.goal_source,
        top_step=row.top_step,
        take=row.take,
        count=row._mapping["count"],
    )
    for name in _MARKS:
        step = getattr(row, f"{name}_step")
        if step is not None:
            setattr(one, name, (getattr(row, f"{name}_value"), step, getattr(row, f"{name}_ms")))
    return one


def _summary_row(one: _Series) -> dict[str, Any]:
    row: dict[str, Any] = {
        "row": one.id,
        "new_axis": one.axis,
        "new_goal": one.goal,
        "new_goal_source": one.goal_source,
        "new_top_step": one.top_step,
        "new_take": one.take,
        "new_count": one.count,
        "new_best_value": one.best[0] if one.best else None,
    }
    for name in _MARKS:
        mark: Mark | None = getattr(one, name)
        row[f"new_{name}_value"], row[f"new_{name}_step"], row[f"new_{name}_ms"] = mark or (None, None, None)
    return row
