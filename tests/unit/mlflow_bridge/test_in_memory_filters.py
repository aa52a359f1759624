"""Filters of experiments and logged models."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.mlflow_bridge.bridge_entities import BridgeError
from tracker.mlflow_bridge.in_memory_filters import Condition, conditions, order_term, ordered
from tracker.mlflow_bridge.pages import offset_of, token_at
from tracker.query.filter_parser import parse_filter
from tracker.query.filter_tree import Compare, Field


def test_comparisons_are_read() -> None:
    """Entities, keys in quotes, lists, numbers and NULL come out as they were meant."""
    assert conditions("name = 'a' AND tags.`b c` ilike \"%x\" and metrics.m <= -1.5e3") == (
        Condition("", "name", "=", "a"),
        Condition("tags", "b c", "ILIKE", "%x"),
        Condition("metrics", "m", "<=", -1500.0),
    )
    assert conditions("experiment_id NOT IN ('1', \"2\")") == (Condition("", "experiment_id", "NOT IN", ("1", "2")),)
    assert conditions("tags.x is  not null") == (Condition("tags", "x", "IS NOT NULL"),)
    assert conditions("  ") == ()


@pytest.mark.parametrize(
    "text", ["name", "name =", "name = 'a", "name = a", "= 'a'", "a = 'b' OR c = 'd'", "x IN 'a'", "x IN ()", "x = ('a')", "a = 1 b = 2", "(a = 1)"]
)  # fmt: skip
def test_what_is_no_filter_is_refused(text: str) -> None:
    """Nothing that is not understood is passed over."""
    with pytest.raises(BridgeError) as refused:
        conditions(text)
    assert refused.value.code == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize("text", ["a = 'b' OR c = 'd'", "NOT a = 'b'", "(a = 'b')", "metrics.m IS NAN", "x IN (1.5)"])
def test_what_only_run_filters_have_is_refused(text: str) -> None:
    """The grammar reads more than MLflow's filters of experiments and models may say."""
    with pytest.raises(BridgeError, match="expected"):
        conditions(text)


@pytest.mark.parametrize("quoted", ["'it''s'", '"it\'s"', "'50%'", "'AND'", "' b = c '"])
def test_quotes_end_where_those_of_run_filters_end(quoted: str) -> None:
    """One text in quotes is one value in both languages."""
    [one] = conditions(f"tags.t = {quoted}")
    assert parse_filter(f"tags.t = {quoted}") == Compare(Field("tag", "t"), "=", one.text())


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text makes the reader fail in another way."""
    with contextlib.suppress(BridgeError):
        conditions(text)
    with contextlib.suppress(BridgeError):
        order_term(text)


def test_patterns_mind_case_as_asked() -> None:
    """LIKE minds case and ILIKE does not; `%` is any text, `_` one character, nothing else is special."""
    assert Condition("", "name", "LIKE", "a_c%").holds("abc.d\n")
    assert not Condition("", "name", "LIKE", "A%").holds("abc")
    assert Condition("", "name", "ILIKE", "A%").holds("abc")
    assert not Condition("", "name", "LIKE", "a.c").holds("abc")


def test_missing_values_come_last_in_both_directions() -> None:
    """NaN and None follow all that has a value, whatever the direction."""
    things = [None, 2.0, float("nan"), 1.0]
    assert ordered(things, [(lambda one: one, True)])[:2] == [1.0, 2.0]
    assert ordered(things, [(lambda one: one, False)])[:2] == [2.0, 1.0]


@pytest.mark.parametrize("token", ["x", "e30=", "eyJvZmZzZXQiOiAtMX0=", "eyJvZmZzZXQiOiB0cnVlfQ==", "WzFd", "é"])
def test_a_page_token_that_is_none_is_refused(token: str) -> None:
    """Tokens are ours or refused; what they hold is an offset above 0."""
    with pytest.raises(BridgeError):
        offset_of(token)
    assert offset_of(token_at(7)) == 7
