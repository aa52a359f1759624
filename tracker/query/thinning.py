"""Thins a series to fewer points and keeps its extremes, so that a spike never vanishes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FEWEST = 4


def thin(steps: ArrayLike, values: ArrayLike, max_points: int) -> NDArray[np.int64]:
    """Indices (int64, sorted, at most `max_points`) of the points to show of a series of n, in step order.

    `steps` and `values` are (n,). All are kept if n <= max_points. Otherwise the first, the last, and the minimum and
    the maximum of each of (max_points - 2) // 2 buckets of the points between are kept. All buckets have equal shares
    of the axis and of the points, half and half: neither a gap nor an outlying step takes the detail from the rest.

    NaN is neither minimum nor maximum; it is kept if a bucket has nothing else. Infinities are extremes. Of equal
    extremes the first is kept. Raises ValueError if max_points < 4 or the shapes differ.
    """
    x, y = np.asarray(steps), np.asarray(values, dtype=np.float64)
    if x.shape != y.shape or y.ndim != 1:
        raise ValueError(f"steps {x.shape} and values {y.shape} must be one-dimensional and equally long")
    if max_points < FEWEST:
        raise ValueError(f"max_points is {max_points}; at least {FEWEST} are needed")
    count = len(y)
    if count <= max_points:
        return np.arange(count, dtype=np.int64)
    starts = _bucket_starts(x, (max_points - 2) // 2)
    inner = y[1:-1]
    lowest = first_of_each(inner, np.fmin.reduceat(inner, starts), starts)
    highest = first_of_each(inner, np.fmax.reduceat(inner, starts), starts)
    return np.unique(np.concatenate(([0], lowest + 1, highest + 1, [count - 1])))


def thin_spans(
    steps: ArrayLike, counts: ArrayLike, lows: ArrayLike, highs: ArrayLike, max_points: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`thin` for a series of which only extremes are known: which spans' low and which spans' high points to show.

    Each of the n spans represents `counts` consecutive points from its step in `steps` on, and has the smallest and the
    largest of their values; both are NaN if there is no number. The first and the last span are points themselves, and
    are in both results. A bucket is made of whole spans. All are kept if 2 (n - 1) <= max_points. Returns two arrays of
    indices (int64, sorted), together of at most `max_points` points. Raises ValueError as `thin` does.
    """
    x, sizes = np.asarray(steps), np.asarray(counts)
    low, high = np.asarray(lows, dtype=np.float64), np.asarray(highs, dtype=np.float64)
    if not x.shape == sizes.shape == low.shape == high.shape or x.ndim != 1:
        raise ValueError(
            f"{x.shape}, {sizes.shape}, {low.shape} and {high.shape} must be one-dimensional and equally long"
        )
    if max_points < FEWEST:
        raise ValueError(f"max_points is {max_points}; at least {FEWEST} are needed")
    end = len(x) - 1
    if 2 * end <= max_points:
        every = np.arange(end + 1, dtype=np.int64)
        return every, every
    starts = _bucket_starts(x, (max_points - 2) // 2, np.cumsum(sizes) - sizes)
    edges = ([0], [end])
    lowest = first_of_each(low[1:-1], np.fmin.reduceat(low[1:-1], starts), starts)
    highest = first_of_each(high[1:-1], np.fmax.reduceat(high[1:-1], starts), starts)
    return np.concatenate((edges[0], lowest + 1, edges[1])), np.concatenate((edges[0], highest + 1, edges[1]))


def _bucket_starts(
    steps: NDArray[np.generic], buckets: int, places: NDArray[np.integer[Any]] | None = None
) -> NDArray[np.int64]:
    """Where buckets of the inner points begin, counted from the second point; none is empty, so there may be fewer.

    `places` are the positions of the points in the series, if they are not those of the array.
    """
    count = len(steps)
    first, span = float(steps[0]), float(steps[-1]) - float(steps[0])
    total = count - 1 if places is None else int(places[-1])
    edges = np.arange(buckets) / buckets
    # For each edge the first inner point at or after it, by bisection of all edges at once: it is not worth computing
    # the positions of a million points.
    low, high = np.zeros(buckets, dtype=np.int64), np.full(buckets, count - 2)
    for _ in range(count.bit_length()):
        middle = (low + high) // 2
        point = np.minimum(middle + 1, count - 1)
        place = (point if places is None else places[point]) / total
        if span > 0:
            place = (place + (steps[point].astype(np.float64) - first) / span) / 2
        before = (place < edges) & (low < high)
        low, high = np.where(before, middle + 1, low), np.where(before | (low >= high), high, middle)
    return np.unique(low[low < count - 2])


def first_of_each(
    values: NDArray[np.float64], wanted: NDArray[np.float64], starts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """For each bucket the index of the first value that equals the wanted one, for NaN the first of the bucket."""
    sizes = np.diff(starts, append=len(values))
    equal = np.flatnonzero(values == np.repeat(wanted, sizes))
    found = np.searchsorted(equal, starts)
    return np.where(np.isnan(wanted), starts, equal[np.minimum(found, len(equal) - 1)] if len(equal) else starts)
