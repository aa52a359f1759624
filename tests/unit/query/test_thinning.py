"""Thinning: fewer points, and no spike lost."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tracker.query.thinning import thin

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
