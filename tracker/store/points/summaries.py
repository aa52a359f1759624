"""Summaries of series: rows of `series`, and their changes in a transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from tracker.domain.frames import PointBlock
from tracker.domain.goals import Goal, GoalSource, infer_goal
from tracker.domain.vocabulary import Axis
from tracker.store.database.driver_cursor import DriverCursor

Mark = tuple[float | None, int, int]
"""A value (None: NaN) with its step and time."""


class Summary(Struct, eq=False, gc=False):
    """One row of `series`; `id` 0 means that it has no row yet.

    Thousands of them are cached, so they are excluded from garbage collection: no attribute may refer back to one.

    No point of the series has a higher `take` than `take`. So a new point above `top_step` with `take`, or one at or
    below it with the next higher take, meets no other point of its step.
    """

    id: int
    run: int
    key: str
    axis: Axis
    goal: Goal | None
    goal_source: GoalSource | None
    top_step: int = -1
    take: int = 0
    count: int = 0
    last: Mark | None = None
    min: Mark | None = None
    max: Mark | None = None
    sealed_step: int = -1
    """No point in blocks is above it; -1 without blocks."""
    rows: int = 0
    """How many of its points are rows of `metric_points`, superseded ones too; of a store from before there were
    blocks, only those that are not superseded."""
    dirty: bool = False
    """Whether anything differs from the row."""
    end_dirty: bool = False
    """Whether the value of the last point differs from the row."""
    bounds_dirty: bool = False
    """Whether more than the end of the series differs from the row."""
    stale: bool = False
    """Whether it must be computed again from the points."""
    blocks: list[tuple[PointBlock, int]] | None = None
    """Points of journals to place: block, and column in it."""
    points: list[tuple[int, int, float]] | None = None
    """Points of other clients to place: (step, ms, value)."""
    columns: tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...]] | None = None
    """The same by column: steps, times, values."""
    recent: set[Mark] | None = None
    """All points above `floor`, a step and time; None if unknown."""
    floor: tuple[int, int] = (0, 0)

    @property
    def best(self) -> Mark | None:
        return self.min if self.goal == "min" else self.max if self.goal == "max" else None

    def widen(self, low: Mark, high: Mark) -> None:
        """Merge the smallest and the largest of new points; of equal values the one of the smallest step counts."""
        if self.min is None or (low[0], low[1]) < (self.min[0], self.min[1]):
            self.min, self.bounds_dirty = low, True
        if self.max is None or (high[0], -high[1]) > (self.max[0], -self.max[1]):
            self.max, self.bounds_dirty = high, True


def new_summary(run: int, key: str, axis: Axis) -> Summary:
    """A series without points; its goal is inferred from its name."""
    goal = infer_goal(key)
    return Summary(id=0, run=run, key=key, axis=axis, goal=goal, goal_source="inferred" if goal else None)


def summaries_of(raw: DriverCursor, run: int) -> dict[str, Summary]:
    """All series of the run by key."""
    found = {}
    for row in raw.rows(_SELECT, (run,)):
        last_step, min_step, max_step = row[9], row[12], row[15]
        found[row[1]] = Summary(
            id=row[0],
            run=run,
            key=row[1],
            axis=row[2],
            goal=row[3],
            goal_source=row[4],
            top_step=row[5],
            take=row[6],
            count=row[7],
            last=None if last_step is None else (row[8], last_step, row[10]),
            min=None if min_step is None else (row[11], min_step, row[13]),
            max=None if max_step is None else (row[14], max_step, row[16]),
            sealed_step=row[17],
            rows=max(row[7] - row[18], 0),
        )
    return found


def save_summaries(raw: DriverCursor, changed: Iterable[Summary]) -> None:
    """Write the changes of `changed`; those without a row get one, and their id.

    Only changed columns are written: each index on a changed column costs as much as the row itself.
    """
    counts: list[tuple[Any, ...]] = []
    ends: list[tuple[Any, ...]] = []
    all_of: list[tuple[Any, ...]] = []
    new: list[Summary] = []
    for one in changed:
        if not one.id:
            new.append(one)
        elif one.bounds_dirty:
            all_of.append((*_values(one), one.id))
        elif one.end_dirty:
            ends.append((one.top_step, one.take, one.count, *(one.last or _NONE), one.id))
        elif one.dirty and one.last is not None:
            counts.append((one.top_step, one.take, one.count, one.last[1], one.last[2], one.id))
        one.dirty = one.end_dirty = one.bounds_dirty = False
    _update(raw, _UPDATE_COUNT, _ALL_COUNTS, counts)
    _update(raw, _UPDATE_END, _ALL_ENDS, ends)
    if all_of:
        raw.many(_UPDATE_ALL, all_of)
    if new:
        ids = raw.insert(_INSERT, [(one.run, one.key, *_values(one)) for one in new])
        for one, id_ in zip(new, ids, strict=True):
            one.id = id_


def _update(raw: DriverCursor, one_by_one: str, all_at_once: str, rows: Sequence[tuple[Any, ...]]) -> None:
    if raw.postgres and rows:
        raw.run(all_at_once, [list(column) for column in zip(*rows, strict=True)])
    elif rows:
        raw.many(one_by_one, rows)


_NONE = (None, None, None)


def _values(one: Summary) -> Sequence[Any]:
    best = one.best
    return (
        one.axis,
        one.goal,
        one.goal_source,
        one.top_step,
        one.take,
        one.count,
        *(one.last or _NONE),
        *(one.min or _NONE),
        *(one.max or _NONE),
        best[0] if best else None,
        one.sealed_step,
        one.count - one.rows,
    )


_COLUMNS = (
    "axis", "goal", "goal_source", "top_step", "take", "count", "last_value", "last_step", "last_ms",
    "min_value", "min_step", "min_ms", "max_value", "max_step", "max_ms", "best_value", "sealed_step", "sealed_count",
)  # fmt: skip
_SELECT = f"SELECT id, key, {', '.join(name for name in _COLUMNS if name != 'best_value')} FROM series WHERE run_id = ?"
_INSERT = f"INSERT INTO series (run_id, key, {', '.join(_COLUMNS)}) VALUES (?, ?{', ?' * len(_COLUMNS)})"
_UPDATE_ALL = f"UPDATE series SET {', '.join(f'{name} = ?' for name in _COLUMNS)} WHERE id = ?"
_COUNT = {"top_step": "int8", "take": "int4", "count": "int8", "last_step": "int8", "last_ms": "int8"}
_END = {
    "top_step": "int8", "take": "int4", "count": "int8", "last_value": "float8", "last_step": "int8", "last_ms": "int8",
}  # fmt: skip


def _one_by_one(types: dict[str, str]) -> str:
    return f"UPDATE series SET {', '.join(f'{name} = ?' for name in types)} WHERE id = ?"


def _all_at_once(types: dict[str, str]) -> str:
    """PostgreSQL takes the rows as one array a column."""
    changes = ", ".join(f"{name} = new.{name}" for name in types)
    arrays = ", ".join(f"?::{type_}[]" for type_ in (*types.values(), "int8"))
    return f"UPDATE series SET {changes} FROM unnest({arrays}) AS new ({', '.join(types)}, id) WHERE series.id = new.id"


_UPDATE_COUNT, _ALL_COUNTS = _one_by_one(_COUNT), _all_at_once(_COUNT)
_UPDATE_END, _ALL_ENDS = _one_by_one(_END), _all_at_once(_END)
