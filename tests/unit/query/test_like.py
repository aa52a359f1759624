"""LIKE and ILIKE where they are compared in Python: as SQL means them, and in bounded time."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.domain.errors import InvalidFilter
from tracker.mlflow_bridge.in_memory_filters import conditions
from tracker.query.filter_parser import parse_filter
from tracker.query.filter_tree import In
from tracker.query.like import matcher

TEXTS = st.text(alphabet="ab%_.\\\nÄ", max_size=8)


@given(pattern=TEXTS, text=TEXTS)
def test_a_pattern_means_what_its_regular_expression_means(pattern: str, text: str) -> None:
    expression = re.escape(pattern).replace("%", ".*").replace("_", ".")
    assert matcher(pattern)(text) == (re.fullmatch(expression, text, re.DOTALL) is not None)


@pytest.mark.parametrize(
    ("pattern", "text", "meets"),
    [("%BEST%", "the best run", True), ("ÄRGER_", "ärger!", True), ("a_", "A", False), ("", "", True), ("%", "", True)],
)
def test_ilike_compares_in_lower_case(pattern: str, text: str, meets: bool) -> None:
    assert matcher(pattern, ignore_case=True)(text) is meets


MANY = "%a" * 40 + "%z"


def test_many_wildcards_take_no_longer_than_few() -> None:
    """A backtracking match of these would not end within the test's time limit."""
    assert not matcher(MANY)("a" * 100_000)
    (condition,) = conditions(f"name LIKE '{MANY}'")
    assert not condition.holds("a" * 500)
    assert not conditions(f"name ILIKE '{MANY}'")[0].holds("A" * 500)
    assert conditions(f"name NOT LIKE '{MANY}'")[0].holds("a" * 500)


@pytest.mark.parametrize("operator", ["LIKE", "ILIKE"])
def test_a_status_is_matched_in_bounded_time_too(operator: str) -> None:
    found = parse_filter(f"status {operator} '{'%' * 5000}z'")
    assert isinstance(found, In)
    assert found.values == ()
    found = parse_filter(f"status {operator} '{'%' * 5000}d'")
    assert isinstance(found, In)
    assert "finished" in found.values


def test_a_filter_that_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidFilter, match="longer than 10000 characters"):
        parse_filter(f"status LIKE '{'%' * 10_001}'")
