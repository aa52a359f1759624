"""Curves of block characters."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.cli.curves import curve


@pytest.mark.parametrize(("values", "width", "drawn"), [
    ([1.0, 2.0, 3.0], 3, "▁▄▇"), ([1.0, 2.0, 3.0], 7, "▁▁▄▄▇▇"), ([3.0, 1.0], 100, "▇▇▇▇▁▁▁▁"), ([5.0, 5.0], 2, "▄▄"),
    ([7.0], 1, "▄"), ([], 10, ""), ([math.nan, 1.0, math.inf, 2.0], 4, "×▁×▇"), ([math.nan], 3, "×××"),
    ([-1e308, 1e308], 2, "▁▇"),
])  # fmt: skip
def test_each_point_is_as_high_as_its_value(values: list[float], width: int, drawn: str) -> None:
    """The smallest value is the lowest block, the largest the highest, and what is no number is a cross."""
    assert curve(range(len(values)), values, width).plain == drawn


def test_many_points_share_characters_by_their_steps() -> None:
    """With more points than characters each stands for an equal part of the steps; a spike is still seen."""
    values = [0.0] * 1000
    values[500] = 100.0
    drawn = curve(range(1000), values, 10).plain
    assert len(drawn) == 10
    assert [i for i, c in enumerate(drawn) if c != "▁"] == [5]


def test_steps_without_points_go_on_from_the_last() -> None:
    """Where points are far apart the line goes on, and does not fall."""
    steps = [0, 1, 2, 3, 4, 99]
    assert curve(steps, [1.0, 1.0, 1.0, 1.0, 1.0, 2.0], 5).plain == "▁▁▁▁▇"


@pytest.mark.parametrize(("width", "at"), [(10, 3), (40, 12), (5, 1)])
def test_the_marked_step_is_emphasised(width: int, at: int) -> None:
    """The characters that hold the marked step, and only those, are set apart."""
    drawn = curve(range(10), [float(i) for i in range(10)], width, mark=3)
    (marked,) = [span for span in drawn.spans if "bold" in str(span.style)]
    assert marked.start == at


@given(st.lists(st.floats(), max_size=300), st.integers(1, 60))
def test_any_values_fit_the_width(values: list[float], width: int) -> None:
    """Whatever the values are, the curve is drawn and no wider than asked."""
    assert len(curve(range(len(values)), values, width).plain) <= width
