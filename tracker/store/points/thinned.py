"""Thinned histories from the extremes of blocks: few points of a long series are decoded.

The extremes of a block stand for its points if all of these are shown: no later fit supersedes any, and no other point
of the series lies among them. Other blocks, the rows, and what has the first and the last point are read as points.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from tracker.domain.errors import InvalidRecord
from tracker.domain.vocabulary import UNNUMBERED
from tracker.store.points import blocks
from tracker.store.points.block_codec import CHUNK, EXTREMES, VERSION, SeriesRows, joined
from tracker.store.points.blocks import Header
from tracker.store.points.series_rows import between, index_of, rows_between
from tracker.store.points.supersession import FitStarts, is_superseded, visible

if TYPE_CHECKING:
    from numpy.typing import NDArray


def thinned(
    connection: Connection, series_id: int, max_points: int, first_step: int, last_step: int, starts: FitStarts
) -> SeriesRows | None:
    """The points to show of those between two steps, times since the run's start; None if extremes show too little."""
    found = [
        one
        for one in blocks.headers(connection, series_id, first_step, last_step, extremes=True)
        if one.fit is None or not is_superseded(one.fit, one.first_step, starts)
    ]
    inside = [one for one in found if first_step <= one.first_step and one.last_step <= last_step]
    whole = _apart([one for one in inside if _is_shown(one, starts)], found)
    if 4 * sum(-(-one.count // CHUNK) for one in whole) < max_points:
        return None

    def read(some: Sequence[Header]) -> list[SeriesRows]:
        decoded = (blocks.points(connection, series_id, one) for one in some)
        return [between(rows, (first_step, -1), (last_step + 1, -1)) for rows in decoded]

    kept = {one.first for one in whole}
    points = joined(
        [*rows_between(connection, series_id, first_step, last_step), *read([o for o in found if o.first not in kept])]
    )
    mixed = [one for one, _, is_near in _placed(points, whole) if is_near and _has_points_among(points, one)]
    points = joined([points, *read(mixed)])
    points = points[visible(points, starts)]
    kept -= {one.first for one in mixed}
    whole = [one for one in whole if one.first in kept]
    ends = []
    if whole and index_of(points, whole[0].first) == 0:
        ends.append(whole.pop(0))
    if whole and index_of(points, whole[-1].last) == len(points):
        ends.append(whole.pop())
    return _shown(joined([points, *read(ends)]), whole, max_points)


def _is_shown(block: Header, starts: FitStarts) -> bool:
    """Whether the extremes of the block are of points that are all shown, if no others lie among them."""
    return block.codec == VERSION and block.fit is not None and not is_superseded(block.fit, block.last_step, starts)


def _apart(wanted: Sequence[Header], all_of: Sequence[Header]) -> list[Header]:
    """Those of `wanted` that overlap with no other block; both are sorted by first point."""
    overlapping = set()
    last: Header | None = None
    numbered: Header | None = None
    for one in all_of:
        # Blocks of points without numbers may lie between two of which one hides a point of the other.
        for before in (last, numbered):
            if before is not None and not _follows(before, one):
                overlapping |= {before.first, one.first}
        if last is None or one.last > last.last:
            last = one
        if one.fit != UNNUMBERED and (numbered is None or one.last > numbered.last):
            numbered = one
    return [one for one in wanted if one.first not in overlapping]


def _follows(one: Header, other: Header) -> bool:
    """Whether all points of `other` come after those of `one`, and none hides one: numbered points of one step do."""
    if one.last_step == other.first_step:
        return one.last < other.first and UNNUMBERED in (one.fit, other.fit)
    return one.last < other.first


def _placed(points: SeriesRows, some: Sequence[Header]) -> Iterable[tuple[Header, int, bool]]:
    """Each block with the index of the first point after its beginning, and whether points have a step that it has."""
    import numpy as np

    low = points.steps.searchsorted(np.array([one.first_step for one in some], np.int64)).tolist()
    high = points.steps.searchsorted(np.array([one.last_step for one in some], np.int64), "right").tolist()
    for one, at, end in zip(some, low, high, strict=True):
        yield one, at if at == end else index_of(points, one.first), at != end


def _has_points_among(points: SeriesRows, block: Header) -> bool:
    """Whether points lie among those of the block, or have its first or last step and are numbered as it is."""
    low, high = index_of(points, block.first), index_of(points, block.last)
    if high > low:
        return True
    if block.fit == UNNUMBERED:
        return False
    low, high = index_of(points, (block.first_step, -1)), index_of(points, (block.last_step + 1, -1))
    return bool((points.fits[low:high] != UNNUMBERED).any())


def _shown(points: SeriesRows, whole: Sequence[Header], max_points: int) -> SeriesRows:
    """The selection from visible points, the first and the last among them, and from the extremes of blocks between."""
    import numpy as np

    from tracker.query.thinning import thin_spans

    extremes = _extremes(whole)
    chunks = np.array([-(-one.count // CHUNK) for one in whole], np.int64)
    sizes = np.full(len(extremes), CHUNK)
    sizes[np.cumsum(chunks) - 1] = [one.count - CHUNK * (-(-one.count // CHUNK) - 1) for one in whole]
    # A block's chunks come before the point at its place.
    places = np.array([place for _, place, _ in _placed(points, whole)], np.float64)
    order = np.argsort(np.concatenate((np.arange(len(points)), np.repeat(places - 0.5, chunks))), kind="stable")
    every = np.concatenate((_as_spans(points), extremes))[order]
    counts = np.concatenate((np.ones(len(points), np.int64), sizes))[order]
    low, high = every["min_value"], every["max_value"]
    lowest, highest = thin_spans(every["first_step"], counts, low, high, max_points)
    # A point that is both is shown once.
    highest = highest[~np.isin(highest, lowest) | (low[highest] < high[highest])]
    index = np.concatenate((lowest, highest))
    steps, ms, values = (
        np.concatenate((every[f"min_{name}"][lowest], every[f"max_{name}"][highest]))
        for name in ("step", "offset_ms", "value")
    )
    order = np.lexsort((ms, steps, index))
    none = np.zeros(len(order), np.int64)
    return SeriesRows(steps[order], none, none, ms[order], values[order])


def _as_spans(points: SeriesRows) -> NDArray[Any]:
    """Each point as its own minimum and maximum."""
    import numpy as np

    spans = np.empty(len(points), dtype=EXTREMES)
    spans["first_step"] = points.steps
    for name in ("min", "max"):
        spans[f"{name}_step"], spans[f"{name}_offset_ms"] = points.steps, points.ms
        spans[f"{name}_value"] = points.values
    return spans


def _extremes(some: Sequence[Header]) -> NDArray[Any]:
    """The extremes of all chunks of the blocks."""
    import numpy as np

    size = np.dtype(EXTREMES).itemsize
    for one in some:
        if len(one.extremes) != size * -(-one.count // CHUNK):
            raise InvalidRecord("metric_blocks.extremes", "bytes", f"they are not those of {one.count} points")
    return np.frombuffer(b"".join([one.extremes for one in some]), dtype=EXTREMES)
