"""Limits: each refusal names the field, the value and the limit."""

from __future__ import annotations

import datetime
import enum
import math
from pathlib import Path

import numpy as np
import pytest

from tracker.domain import limits
from tracker.domain.errors import InvalidValue


@pytest.mark.parametrize("key", ["a", "batch/loss", "ü 😀", "x" * 250, "a.b-c_d"])
def test_keys(key: str) -> None:
    """Nearly anything names a metric."""
    assert limits.check_key("metric", key) == key


@pytest.mark.parametrize(("key", "said"), [("", "0 characters"), ("x" * 251, "251 characters"), ("a\nb", "control character at 1"),
                                           ("\x7f", "control character"), (3, "of type int, not a string"), ("\ud800", "control character")])  # fmt: skip
def test_keys_that_are_none(key: object, said: str) -> None:
    """The message says what is wrong with the key and what the limit is."""
    with pytest.raises(InvalidValue, match=said) as caught:
        limits.check_key("metric", key)
    assert caught.value.field == "metric key"
    assert "1 to 250 characters" in str(caught.value)


@pytest.mark.parametrize("step", [0, 5, 2**63 - 1, np.int32(7), 3.0, np.float32(2)])
def test_steps(step: object) -> None:
    """Whole numbers of any type, as int."""
    got = limits.check_step("step", step)
    assert type(got) is int
    assert got == step


@pytest.mark.parametrize("step", [-1, 2**63, 0.5, "3", None, True, math.nan, math.inf, [1]])
def test_steps_that_are_none(step: object) -> None:
    """Negative, huge, fractional, and what is no number."""
    with pytest.raises(InvalidValue, match="whole number from 0 to"):
        limits.check_step("step", step)


@pytest.mark.parametrize(
    "value", [1, True, 1.5, np.float32(1.5), np.array(1.5), np.array([1.5]), np.array([[1.5]]), np.int64(3)]
)
def test_numbers(value: object) -> None:
    """Numbers, and arrays of one element."""
    got = limits.as_number("x", value)
    assert type(got) is float
    assert got == np.asarray(value).item()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_kept(value: float) -> None:
    """NaN and infinities are numbers."""
    np.testing.assert_equal(limits.as_number("x", np.float32(value)), value)


@pytest.mark.parametrize(("value", "said"), [("1.0", "not a number"), (None, "not a number"), ([1.0], "not a number"), ({}, "not a number"),
                                             (10**400, "does not fit"), (np.zeros((2, 3)), r"shape \(2, 3\)"), (np.zeros(0), r"shape \(0,\)")])  # fmt: skip
def test_values_that_are_no_number(value: object, said: str) -> None:
    """The message names the metric and says what came instead."""
    with pytest.raises(InvalidValue, match=f"metric 'x'.*{said}"):
        limits.as_number("x", value)


class Colour(enum.Enum):
    RED = 1


@pytest.mark.parametrize(("value", "stored"), [
    (1, 1), (True, True), (None, None), ("a\0b", "a\ufffdb"), (math.nan, "NaN"), (-math.inf, "-Infinity"), (np.float32(0.5), 0.5),
    (np.array([1, 2]), [1, 2]), ((1, "x"), [1, "x"]), ({"a": {1: 2}}, {"a": {"1": 2}}), ({2, 1}, [1, 2]), (Path("/x"), "/x"),
    (datetime.date(2026, 1, 2), "2026-01-02"), (2**80, str(2**80)), (Colour.RED, "Colour.RED"), ("\ud800", "\\ud800"),
])  # fmt: skip
def test_json(value: object, stored: object) -> None:
    """Parameters become JSON that every database keeps."""
    got = limits.as_json(value)
    assert got == stored
    assert type(got) is type(stored)


def test_flatten() -> None:
    """Nested mappings flatten with dots."""
    assert limits.flatten({"a": {"b": 1, "c": {"d": 2}}, "e": {}, 3: 4}) == {"a.b": 1, "a.c.d": 2, "e": {}, "3": 4}
