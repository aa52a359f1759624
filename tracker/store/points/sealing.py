"""Seals the points of long series: moves them from rows of `metric_points` into blocks.

The newest points of a series stay rows, so that a short series is read with plain SQL, and so that what comes a little
late meets rows. Whoever seals holds the run's lock, in the transaction that changes the series or in one of its own. A
transaction that brings thousands of points of one series stores them in blocks at once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from tracker.domain.limits import BLOCK_POINTS
from tracker.store.database.driver_cursor import DriverCursor
from tracker.store.points import blocks
from tracker.store.points.block_codec import SeriesRows, joined, order_of
from tracker.store.points.blocks import Header, Place
from tracker.store.points.series_rows import HIGHEST, LOWEST, NO_BLOCKS, some_rows
from tracker.store.points.summaries import Summary

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger("tracker.store")

_MOST_MERGED = 4_000_000
"""Most points that are rewritten at once: some 160 MB."""
_MOST_BLOCKS = 16
"""How many blocks of rows one call seals: it takes some ten milliseconds, and the rest is sealed by the next."""


@dataclass(frozen=True, slots=True)
class Sealing:
    """When points are sealed: once a series has a quarter more than `block` rows, in blocks of that size or more.

    A block has less than two times as many. `block` 0 seals nothing.
    """

    block: int = BLOCK_POINTS

    @property
    def kept(self) -> int:
        """How many of the newest points stay rows while a series is written; so few stay rows at its end too."""
        return max(self.block // 4, 1)

    @property
    def many(self) -> int:
        """How many points of a series, brought by one transaction, are sealed at once with all rows of the series."""
        return self.block // 2

    def is_due(self, one: Summary, new: int = 0) -> bool:
        """Whether the series has rows for a block, or has blocks and brings `new` points that are many."""
        if not self.block:
            return False
        return one.rows >= self.block + self.kept or (new >= self.many and one.sealed_step != NO_BLOCKS)

    def is_due_at_end(self, one: Summary) -> bool:
        """Whether its rows are worth a block when no more points are expected."""
        return self.block > 0 and one.rows > self.kept

    def seal(
        self, raw: DriverCursor, one: Summary, new: SeriesRows | None = None, *, at_end: bool = False
    ) -> SeriesRows | None:
        """Move the oldest rows of a series, and `new` points that have no rows yet, into blocks.

        Returns the points of `new` that the caller must store as rows, None if there are none. `one.rows` counts `new`.
        With `at_end`, and of many new points, no row is kept. Times are in ms since the run's start. Raises the
        driver's errors.
        """
        import numpy as np

        most = _MOST_BLOCKS * self.block
        old = some_rows(raw.connection, one.id, (LOWEST, -1), (HIGHEST + 1, -1), most)
        if new is None or len(old) == most:
            rows, is_new = old, np.zeros(len(old), dtype=np.bool_)
        else:
            rows, is_new = _merged(old, new)
        is_whole = at_end or (new is not None and len(new) >= self.many)
        size = len(rows) if is_whole else len(rows) - self.kept
        if not is_whole and size < self.block:
            size = 0
        if not size:
            if len(old) < most:
                one.rows = len(old) + (0 if new is None else len(new))
            return new
        blocks.add(raw, one.id, _parts(rows, size, self.block))
        from_rows = size - int(is_new[:size].sum())
        if from_rows:
            raw.run(_DELETE, (one.id, int(rows.steps[size - 1]), int(rows.takes[size - 1])))
        # The number of rows is known exactly here, unless there are many more.
        one.rows = len(rows) - size if len(old) < most else max(one.rows - size, 0)
        one.sealed_step = max(one.sealed_step, int(rows.steps[size - 1]), 0)
        raw.run(_UPDATE, (one.sealed_step, one.count - one.rows, one.id))
        if new is None or rows is old:
            return new
        left = rows[size:][is_new[size:]]
        return left if len(left) else None


def merge_overlaps(raw: DriverCursor, one: Summary, block: int) -> int:
    """Rewrite blocks of one fit that overlap, in the order of their points; return how many points that were.

    Blocks of different fits stay apart: the later one supersedes points of the earlier one, whole blocks at a time.
    Raises the driver's errors.
    """
    by_fit: dict[int | None, list[Header]] = {}
    for header in blocks.headers(raw.connection, one.id, LOWEST, HIGHEST):
        by_fit.setdefault(header.fit, []).append(header)
    count = 0
    for of_fit in by_fit.values():
        for group in _overlapping(of_fit):
            if sum(header.count for header in group) > _MOST_MERGED:
                log.warning(
                    "series %r of run %d: %d blocks that overlap stay as they are: they have more than %d points; "
                    "thinned histories of it take longer",
                    one.key, one.run, len(group), _MOST_MERGED,
                )  # fmt: skip
                continue
            rows = joined([blocks.points(raw.connection, one.id, header) for header in group])
            blocks.remove(raw, one.id, group)
            blocks.add(raw, one.id, _parts(rows, len(rows), block))
            count += len(rows)
    return count


def _overlapping(headers: Sequence[Header]) -> Iterable[list[Header]]:
    """Groups of blocks that overlap with each other, and not with other groups."""
    group: list[Header] = []
    last: Place | None = None
    for header in (*headers, None):
        if header is None or last is None or header.first > last:
            if len(group) > 1:
                yield group
            group = []
        if header is not None:
            group.append(header)
            last = header.last if last is None or header.last > last else last


def _parts(rows: SeriesRows, size: int, block: int) -> list[SeriesRows]:
    """The first `size` points in parts for blocks: as many as there are whole ones, equally long."""
    import numpy as np

    bounds = np.linspace(0, size, max(size // max(block, 1), 1) + 1).astype(int).tolist()
    return [rows[start:end] for start, end in pairwise(bounds)]


def _merged(old: SeriesRows, new: SeriesRows) -> tuple[SeriesRows, NDArray[np.bool_]]:
    """The points of both, in order, and which of them are new."""
    import numpy as np

    is_new = np.concatenate((np.zeros(len(old), dtype=np.bool_), np.ones(len(new), dtype=np.bool_)))
    both = SeriesRows(*(np.concatenate((getattr(old, name), getattr(new, name))) for name in SeriesRows.__slots__))
    order = order_of(both)
    return (both, is_new) if order is None else (both[order], is_new[order])


_DELETE = "DELETE FROM metric_points WHERE series_id = ? AND (step, take) <= (?, ?)"
_UPDATE = "UPDATE series SET sealed_step = ?, sealed_count = ? WHERE id = ?"
