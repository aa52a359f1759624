"""Counts weights into the buckets of TensorBoard's histograms."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BUCKETS = 30
_CHUNK = 1 << 20


def buckets(values: Any) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The finite `values` (an array of any shape) in 30 buckets: 31 edges, 30 counts.

    The buckets are of equal width from the smallest value to the largest, a value on an edge is in the upper one, and
    equal values are all in the last bucket, of no width, as `tf.summary.histogram` has it; TensorBoard's own NumPy
    version of it needs 30 bytes a value more.
    """
    flat = np.asarray(values).ravel()
    flat = flat[np.isfinite(flat)]
    counts = np.zeros(BUCKETS, dtype=np.int64)
    if not flat.size:
        return np.zeros(BUCKETS + 1), counts
    low, high = float(flat.min()), float(flat.max())
    if low == high:
        counts[-1] = flat.size
        return np.full(BUCKETS + 1, low), counts
    width = (high - low) / BUCKETS
    for start in range(0, flat.size, _CHUNK):
        offsets = flat[start : start + _CHUNK].astype(np.float64) - low
        places = np.minimum(np.floor(offsets / width).astype(np.int64), BUCKETS - 1)
        counts += np.bincount(places, minlength=BUCKETS)
    edges = np.linspace(low, high, BUCKETS + 1)
    return edges, counts
