"""What of a series is shown: its points, and the one rule of what supersedes what."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from tracker.domain.words import Axis
from tracker.store.tables import fits, metric_points, runs, series

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Points:
    """All rows of a series in order of step and take: int64 (n,), values float64 (n,) with NaN for NULL."""

    steps: NDArray[np.int64]
    fits: NDArray[np.int64]
    ms: NDArray[np.int64]
    values: NDArray[np.float64]


def read_points(connection: Connection, series_id: int) -> Points:
    """The rows of a series, superseded ones included."""
    import numpy as np

    c = metric_points.c
    started_ms = select(runs.c.started_ms).join(series).where(series.c.id == series_id).scalar_subquery()
    statement = (
        select(c.step, c.fit, (c.offset_ms + started_ms).label("ms"), c.value)
        .where(c.series_id == series_id)
        .order_by(c.step, c.take)
    )
    rows = connection.execute(statement).cursor.fetchall()
    steps, numbers, ms, values = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Points(
        steps=np.array(steps, dtype=np.int64),
        fits=np.array(numbers, dtype=np.int64),
        ms=np.array(ms, dtype=np.int64),
        values=np.array(values, dtype=np.float64),
    )


def cuts(connection: Connection, run: int, axis: Axis) -> list[tuple[int, int]]:
    """(fit, step): where each fit of the run begins on `axis`; nothing supersedes on the axis `time`."""
    if axis == "time":
        return []
    first = fits.c.first_epoch if axis == "epoch" else fits.c.first_step
    return [(fit, step) for fit, step in connection.execute(select(fits.c.number, first).where(fits.c.run_id == run))]


def visible(points: Points, begins: Iterable[tuple[int, int]]) -> NDArray[np.bool_]:
    """Which points are not superseded, bool (n,).

    A fit supersedes what earlier fits wrote at or after its beginning (what was written outside fits stays); of what
    remains the last written at each step counts.
    """
    import numpy as np

    keep = np.ones(len(points.steps), dtype=np.bool_)
    for fit, step in begins:
        keep &= ~((points.fits > 0) & (points.fits < fit) & (points.steps >= step))
    index = np.flatnonzero(keep)
    steps = points.steps[index]
    keep[index[:-1][steps[:-1] == steps[1:]]] = False
    return keep
