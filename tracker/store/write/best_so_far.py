"""Decides whether a checkpoint was the best of its run when it was saved.

Only values known at its step count, whenever its row arrives: not those of later epochs and later fits. So the answer
is the same live, after a sync, and however long the upload of its bytes took.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sqlalchemy import Connection, select

from tracker.domain.checkpoint_ranking import is_mid_epoch
from tracker.domain.frames import CheckpointLogged
from tracker.domain.goals import GoalSource
from tracker.store.points.series_rows import read_points
from tracker.store.points.supersession import FitStarts, visible
from tracker.store.tables import series

USUAL = ("val_loss", "loss")
"""The metrics that decide if none is monitored, in order."""


def deciding_metrics(monitor: str | None, source: GoalSource | None) -> Sequence[str]:
    """The metrics that may decide which checkpoint is the best so far, in order.

    A metric that a callback monitors may have no value yet at the step of a save: then the usual ones decide, as they
    did for rows that came before the callback was known. A metric that the user declared decides alone.
    """
    if monitor and source == "declared":
        return (monitor,)
    return (*((monitor,) if monitor else ()), *(key for key in USUAL if key != monitor))


def best_so_far(
    connection: Connection, run: int, item: CheckpointLogged, keys: Sequence[str], starts: FitStarts
) -> tuple[bool, str | None]:
    """Whether no better value was known at the step of the save, and by which metric: the first of `keys` with a value.

    A checkpoint saved at the end of its epoch has the value of that epoch. One saved in the middle of an epoch has the
    value in its own metrics; without one it counts as good as the last epoch before it. Returns (False, None) if no
    value was known yet.
    """
    for key in keys:
        if (answer := _answer(connection, run, item, key, starts)) is not None:
            return answer, key
    return False, None


def _answer(connection: Connection, run: int, item: CheckpointLogged, key: str, starts: FitStarts) -> bool | None:
    """The answer by one metric; None if no value of it was known."""
    c = series.c
    columns = (c.id, c.sealed_step, c.goal, c.min_step, c.min_value, c.max_step, c.max_value)
    one = connection.execute(
        select(*columns).where(c.run_id == run, c.key == key, c.axis == "epoch", c.goal.is_not(None))
    ).one_or_none()
    if one is None:
        return None
    small = one.goal == "min"
    best_epoch, best = (one.min_step, one.min_value) if small else (one.max_step, one.max_value)
    if best_epoch is None:
        return None
    mid = is_mid_epoch(item.state)
    known: list[tuple[int, float]] = []
    first = 0
    if best_epoch < item.epoch and all(number <= item.fit for number, _ in starts):
        # The summary has the best value before, so only later points are read; for a save at its epoch's end only that
        # epoch.
        known, first = [(best_epoch, best)], best_epoch + 1 if mid else item.epoch
    known += _points(connection, one.id, one.sealed_step, item, starts, first)
    return _by_values(known, item, item.metrics.get(key, math.nan), small, mid=mid)


def _points(
    connection: Connection, series_id: int, sealed_step: int, item: CheckpointLogged, starts: FitStarts, first: int
) -> list[tuple[int, float]]:
    """The visible (epoch, value) points of the checkpoint's fit and earlier ones, from `first` to its epoch; no NaN."""
    import numpy as np

    points = read_points(connection, series_id, sealed_step, first_step=first, last_step=item.epoch)
    if item.fit:
        starts = [(number, epoch) for number, epoch in starts if number <= item.fit]
        points = points[points.fits <= item.fit]
    seen = visible(points, starts) & ~np.isnan(points.values)
    return list(zip(points.steps[seen].tolist(), points.values[seen].tolist(), strict=True))


def _by_values(
    known: Sequence[tuple[int, float]], item: CheckpointLogged, own: float, small: bool, *, mid: bool
) -> bool | None:
    before = [value for epoch, value in known if epoch < item.epoch]
    its = [] if mid else [value for epoch, value in known if epoch == item.epoch]
    if not before and not its:
        return None
    best = (min if small else max)(before, default=math.nan)
    value = its[-1] if its else own
    if not math.isnan(value):
        return math.isnan(best) or (value < best if small else value > best)
    return mid and before[-1] == best and before.count(best) == 1
