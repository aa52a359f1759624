"""Thinning: fewer points, and no spike lost."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tracker.query.thinning import thin, thin_spans

doubles = st.floats(width=32) | st.sampled_from([math.nan, math.inf, -math.inf, 0.0])
series = st.lists(st.tuples(st.integers(0, 10**6), doubles), min_size=1, max_size=300)


def _arrays(points: list[tuple[int, float]]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    ordered = sorted(points, key=lambda point: point[0])
    return np.array([step for step, _ in ordered]), np.array([value for _, value in ordered])


@given(series, st.integers(4, 60))
def test_extremes_stay(points: list[tuple[int, float]], most: int) -> None:
    """At most as many as asked, in order; the first, the last and the extremes of all are among them."""
    steps, values = _arrays(points)
    kept = thin(steps, values, most)
    assert kept.dtype == np.int64
    assert len(kept) <= most
    assert (np.diff(kept) > 0).all()
    assert kept[0] == 0
    assert kept[-1] == len(values) - 1
    if not np.isnan(values).all():
        assert np.nanmin(values[kept]) == np.nanmin(values)
        assert np.nanmax(values[kept]) == np.nanmax(values)
    if len(values) <= most:
        assert kept.tolist() == list(range(len(values)))


@given(st.integers(50, 2000), st.integers(4, 40), st.data())
def test_every_spike_of_its_own_stays(count: int, most: int, data: st.DataObject) -> None:
    """With evenly spaced steps each bucket is as long as the next, and shows the highest that it has."""
    values = np.zeros(count)
    buckets = (most - 2) // 2
    width = count / buckets
    spots = [
        data.draw(st.integers(math.ceil(i * width) + 2, math.floor((i + 1) * width) - 2))
        for i in range(buckets)
        if width > 6
    ]
    values[spots] = 1 + np.arange(len(spots))
    assert set(spots) <= set(thin(np.arange(count), values, most).tolist())


def test_nan_hides_nothing() -> None:
    """A spike among NaN is shown, and where there is nothing but NaN one of them is."""
    values = np.full(1000, np.nan)
    values[[300, 301]] = [5.0, -5.0]
    kept = thin(np.arange(1000), values, 20)
    assert {300, 301} <= set(kept.tolist())
    assert np.isnan(values[kept]).sum() >= 8


def test_infinities_are_extremes() -> None:
    """Both infinities stay, in the same bucket too."""
    values = np.sin(np.arange(1000))
    values[[500, 501, 502]] = [np.inf, np.nan, -np.inf]
    assert {500, 502} <= set(thin(np.arange(1000), values, 12).tolist())


def test_outlying_step_leaves_the_detail() -> None:
    """One step far away takes no more than half of the detail from the others, nor do many steps in one place."""
    near = thin(np.append(np.arange(9999), 10**12), np.random.default_rng(0).random(10_000), 202)
    assert len(near) >= 100
    dense = np.concatenate([np.linspace(0, 1, 9000), np.arange(2, 1002)])
    kept = thin(dense, np.random.default_rng(0).random(10_000), 202)
    assert (dense[kept] > 1).sum() >= 90


def test_steps_all_the_same() -> None:
    """Points of one step are thinned by their place."""
    values = np.zeros(1000)
    values[[100, 900]] = 1.0
    assert {100, 900} <= set(thin(np.full(1000, 7), values, 10).tolist())


def test_lists_are_fine() -> None:
    """Anything that NumPy reads as an array may be given; empty too."""
    assert thin([0, 1, 2, 3, 4, 5], [0, 9, 1, 2, -9, 0], 4).tolist() == [0, 1, 4, 5]
    assert thin([], [], 4).tolist() == []


@pytest.mark.parametrize(("steps", "values", "most", "words"), [
    ([1, 2], [1.0, 2.0], 3, "at least 4"),
    ([1, 2], [1.0], 10, "equally long"),
    ([[1], [2]], [[1.0], [2.0]], 10, "one-dimensional"),
])  # fmt: skip
def test_wrong_arguments(steps: list[int], values: list[float], most: int, words: str) -> None:
    """What cannot be thinned is a ValueError that says why."""
    with pytest.raises(ValueError, match=words):
        thin(steps, values, most)


def _spans(values: NDArray[np.float64], sizes: list[int]) -> tuple[NDArray[np.int64], ...]:
    """The first point, spans of the given sizes, and the last point: where each begins, and its low and its high."""
    starts = np.concatenate(([0], 1 + np.cumsum([0, *sizes[:-1]]), [len(values) - 1]))
    ends = np.append(starts[1:], len(values))
    inner = [values[start:end] for start, end in zip(starts, ends, strict=True)]
    low = [
        start + (0 if np.isnan(one).all() else int(np.nanargmin(one))) for start, one in zip(starts, inner, strict=True)
    ]
    high = [
        start + (0 if np.isnan(one).all() else int(np.nanargmax(one))) for start, one in zip(starts, inner, strict=True)
    ]
    return starts, ends - starts, np.array(low), np.array(high)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(4, 60), st.data())
def test_spans_show_what_points_show(sizes: list[int], most: int, data: st.DataObject) -> None:
    """Of spans of which only the extremes are known the extremes of all are shown, and the ends."""
    count = sum(sizes) + 2
    seed = data.draw(st.integers(0, 99))
    values = np.random.default_rng(seed).standard_normal(count)
    values[np.random.default_rng(seed + 1).random(count) < data.draw(st.sampled_from([0.0, 0.3, 1.0]))] = np.nan
    starts, counts, low, high = _spans(values, sizes)
    lowest, highest = thin_spans(starts * 3, counts, values[low], values[high], most)
    kept = np.union1d(low[lowest], high[highest])
    assert len(lowest) + len(highest) <= max(most, 2) + 2  # both ends stand in both
    assert len(kept) <= most
    assert (kept[0], kept[-1]) == (0, count - 1)
    assert (np.diff(lowest) > 0).all()
    assert (np.diff(highest) > 0).all()
    if not np.isnan(values).all():
        assert np.nanmin(values[kept]) == np.nanmin(values)
        assert np.nanmax(values[kept]) == np.nanmax(values)


def test_spans_of_one_point_are_thinned_as_points() -> None:
    """Where every span is one point, the same points are shown as of the series itself."""
    rng = np.random.default_rng(3)
    steps, values = np.cumsum(rng.integers(1, 50, 3000)), rng.standard_normal(3000)
    values[rng.random(3000) < 0.2] = np.nan
    lowest, highest = thin_spans(steps, np.ones(3000), values, values, 200)
    assert np.union1d(lowest, highest).tolist() == thin(steps, values, 200).tolist()


def test_every_span_bucket_shows_its_spike() -> None:
    """A spike in any span is shown while there are as many buckets as spans; a large span counts as many points do."""
    values = np.zeros(102)
    values[[3, 50, 90]] = [5.0, -5.0, 7.0]
    starts, counts, low, high = _spans(values, [10] * 10)
    lowest, highest = thin_spans(starts, counts, values[low], values[high], 24)
    assert {3, 50, 90} <= set(np.union1d(low[lowest], high[highest]).tolist())
    # 1000 points in one span, 10 in as many: half of the buckets by points, half by steps.
    x = np.concatenate(([0], [1], 1001 + np.arange(100), [1101]))
    lowest, _ = thin_spans(x, np.array([1, 1000, *[1] * 100, 1]), np.zeros(103), np.ones(103), 42)
    assert len(lowest) < 10


def test_wrong_spans() -> None:
    """What cannot be thinned is a ValueError that says why."""
    with pytest.raises(ValueError, match="equally long"):
        thin_spans([1, 2], [1], [0.0, 1.0], [0.0, 1.0], 10)
    with pytest.raises(ValueError, match="at least 4"):
        thin_spans([1, 2], [1, 1], [0.0, 1.0], [0.0, 1.0], 3)
