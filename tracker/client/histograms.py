"""Makes histogram frames: counts between edges."""

from __future__ import annotations

from typing import Any, get_args

from tracker.client.clock import now_ms
from tracker.client.values import one_of
from tracker.domain.errors import InvalidValue
from tracker.domain.frames import HistogramLogged
from tracker.domain.limits import check_key, check_step
from tracker.domain.vocabulary import Axis

MOST_BINS = 10_000


def histogram_of(key: str, values: Any, *, step: int, bins: int, axis: Axis, fit: int) -> HistogramLogged:
    """The histogram frame of the finite `values`, an array of any shape; InvalidValue for invalid arguments."""
    import numpy as np

    if not isinstance(bins, int) or not 1 <= bins <= MOST_BINS:
        raise InvalidValue("bins", f"{bins!r}", limit=f"1 to {MOST_BINS}")
    flat = np.asarray(values, dtype=np.float64).ravel()
    counts, edges = np.histogram(flat[np.isfinite(flat)], bins=bins)
    return histogram_between(key, edges, counts, step=step, axis=axis, fit=fit)


def histogram_between(
    key: str, edges: Any, counts: Any, *, step: int, axis: Axis, fit: int, ms: int | None = None
) -> HistogramLogged:
    """The histogram frame of n `counts` between n + 1 finite, non-decreasing `edges`; InvalidValue for others."""
    import numpy as np

    name, number = check_key("histogram", key), check_step("step", step)
    along = one_of("axis", axis, get_args(Axis))
    borders, numbers = np.asarray(edges, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    if borders.ndim != 1 or numbers.ndim != 1 or not 1 <= len(numbers) <= MOST_BINS or len(borders) != len(numbers) + 1:
        problem = f"{borders.shape} edges of {numbers.shape} counts"
        raise InvalidValue(f"histogram {key!r}", problem, limit=f"1 to {MOST_BINS} counts and one edge more")
    if not np.isfinite(borders).all() or (np.diff(borders) < 0).any():
        raise InvalidValue(f"histogram {key!r}", "its edges are not finite, or fall", limit="finite edges in order")
    if not np.isfinite(numbers).all() or (numbers < 0).any() or (numbers >= 2**63).any():
        raise InvalidValue(f"histogram {key!r}", "its counts are not all counts", limit="whole numbers from 0 on")
    whole = np.rint(numbers).astype(np.int64).tolist()
    return HistogramLogged(now_ms() if ms is None else ms, name, along, number, fit, borders.tolist(), whole)
