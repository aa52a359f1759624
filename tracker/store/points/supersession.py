"""The rule of supersession: which rows of a run a later fit replaced."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, FromClause, exists

from tracker.domain.vocabulary import UNNUMBERED, Axis
from tracker.store.database.driver_cursor import DriverCursor, driver_errors
from tracker.store.database.typed_rows import typed
from tracker.store.points.block_codec import SeriesRows
from tracker.store.tables import fits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FitStarts = list[tuple[int, int]]
"""(number, step): where each fit of a run begins on one axis."""


def superseded_by(fit: Any, step: Any, later: Any, begin: Any) -> Any:
    """Whether a row of `fit` at `step` is superseded by the fit `later`, which begins at the step `begin`.

    A fit supersedes the rows of earlier fits at or after its beginning. Rows outside fits (0), and points of clients
    without a journal (UNNUMBERED), stay. The arguments are numbers, NumPy arrays or columns of SQL; so is the answer.
    """
    return (fit > 0) & (fit < later) & (step >= begin)


def fit_starts(connection: Connection, run: int, axis: Axis) -> FitStarts:
    """Where each fit of the run begins on `axis`; empty for the axis `time`, where nothing is superseded."""
    if axis == "time":
        return []
    first = "first_epoch" if axis == "epoch" else "first_step"
    statement = f"SELECT number, {first} FROM fits WHERE run_id = ?"
    with driver_errors(connection, statement):
        rows = DriverCursor(connection).rows(statement, (run,))
    return typed(rows, tuple[int, int], "fits", ("number", first))


def is_superseded(fit: int, step: int, starts: Iterable[tuple[int, int]]) -> bool:
    """Whether some fit supersedes a row of `fit` at `step`."""
    return any(superseded_by(fit, step, later, begin) for later, begin in starts)


def not_superseded(rows: FromClause, step: ColumnElement[int], begin: ColumnElement[int]) -> ColumnElement[bool]:
    """The rows (columns `run_id`, `fit`) at `step` that no fit supersedes, which begins at its column `begin`."""
    return ~exists().where(fits.c.run_id == rows.c.run_id, superseded_by(rows.c.fit, step, fits.c.number, begin))


def visible(points: SeriesRows, starts: Iterable[tuple[int, int]]) -> NDArray[np.bool_]:
    """Which points are not superseded, bool (n,).

    Of the points of fits and journals that are left at a step the last one written counts. Points of clients without a
    journal supersede nothing.
    """
    import numpy as np

    keep = np.ones(len(points.steps), dtype=np.bool_)
    for later, begin in starts:
        keep &= ~superseded_by(points.fits, points.steps, later, begin)
    index = np.flatnonzero(keep & (points.fits != UNNUMBERED))
    steps = points.steps[index]
    keep[index[:-1][steps[:-1] == steps[1:]]] = False
    return keep
