"""Recorded things as texts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.query.text_format import aligned_numbers, number, printable, short_ids, value_text


@given(st.text())
def test_printable_text_is_one_line_without_controls(text: str) -> None:
    """Whatever was recorded, nothing in the text can move a cursor, colour, or break a line."""
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    assert all(ord(c) >= 0x20 and not 0x7F <= ord(c) <= 0x9F and not 0x202A <= ord(c) <= 0x202E for c in shown)
    shown.encode()


@pytest.mark.parametrize(("text", "shown"), [
    ("plain, näme 日本語 🚀", "plain, näme 日本語 🚀"), ("a\nb\tc", r"a\nb\tc"), ("\x1b[31m", r"\x1b[31m"),
    ("\u202eevil", r"\u202eevil"), ("\ud800", r"\ud800"), ("[red]x[/red]", "[red]x[/red]"),
])  # fmt: skip
def test_printable_writes_what_is_unsafe_as_escapes(text: str, shown: str) -> None:
    """Letters of all languages stay; what a terminal would obey is spelled out."""
    assert printable(text) == shown


@pytest.mark.parametrize(("value", "text"), [
    (0.0, "0"), (1.0, "1"), (-3.0, "-3"), (0.1, "0.1"), (0.123456, "0.1235"), (12.3456, "12.35"), (123456.7, "123457"),
    (1e-7, "1e-07"), (1.23456e-9, "1.235e-09"), (2.5e20, "2.5e+20"), (0.0005, "0.0005"), (-0.99999, "-1"),
    (57460.3, "57460"), (-1999.6, "-2000"),
    (math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity"),
])  # fmt: skip
def test_number_shows_about_four_digits(value: float, text: str) -> None:
    """Numbers are as short as a person wants them."""
    assert number(value) == text


@given(st.floats(-1e308, 1e308))
def test_number_is_near_the_value(value: float) -> None:
    """Shortening changes no number by more than its fourth digit."""
    assert math.isclose(float(number(value)), value, rel_tol=1e-3, abs_tol=1e-300)


@pytest.mark.parametrize(("values", "texts"), [
    ([0.5, 0.25, 1.0], ["0.50", "0.25", "1.00"]),
    ([0.12345, 0.5], ["0.1235", "0.5000"]),
    ([10.0, 20.0], ["10", "20"]),
    ([0.97221, 0.97224], ["0.97221", "0.97224"]),
    ([0.5, math.nan, math.inf], ["0.5", "NaN", "Infinity"]),
    ([1e-9, 0.5], ["1e-09", "0.5"]),
    ([math.nan], ["NaN"]),
    ([0.0, 0.0], ["0", "0"]),
    ([], []),
])  # fmt: skip
def test_aligned_numbers_have_as_many_decimals_as_tell_them_apart(values: list[float], texts: list[str]) -> None:
    """Values of one size get equally many decimals, more where they would look the same, none in vain."""
    assert aligned_numbers(values) == texts


@given(st.lists(st.floats(-1e308, 1e308) | st.just(math.nan) | st.just(-math.inf)))
def test_aligned_numbers_take_any_values(values: list[float]) -> None:
    """Each value gets a text that reads as a number near it."""
    for value, text in zip(values, aligned_numbers(values), strict=True):
        assert math.isnan(value) or math.isclose(float(text), value, rel_tol=1e-2, abs_tol=1e-300)


@given(st.lists(st.text("ab1-", min_size=1, max_size=30), unique=True, min_size=1), st.integers(1, 10))
def test_short_ids_name_one_run_each(ids: list[str], shortest: int) -> None:
    """No other id begins with a short one, unless it is the whole id, which then means that run."""
    short = short_ids(ids[: len(ids) // 2 + 1], ids, shortest=shortest)
    for one, prefix in short.items():
        assert one.startswith(prefix)
        assert [other for other in ids if other.startswith(prefix)] == [one] or prefix == one


def test_short_ids_are_as_short_as_they_may_be() -> None:
    """Ids that differ early keep the shortest length; all get the length that the closest pair needs."""
    assert short_ids(["a" * 32, "b" * 32]) == {"a" * 32: "a" * 8, "b" * 32: "b" * 8}
    assert short_ids(["abcdefghi1xx", "zzzzzzzzzzzz"], ["abcdefghi2xx"]) == {
        "abcdefghi1xx": "abcdefghi1",
        "zzzzzzzzzzzz": "zzzzzzzzzz",
    }


def test_value_text_is_json_but_for_strings() -> None:
    """Strings stand without quotes, all else as JSON."""
    assert [value_text(value) for value in ("a b", 1, 0.5, True, None, [1, "x"], {"ä": 1})] == [
        "a b", "1", "0.5", "true", "null", '[1, "x"]', '{"ä": 1}',
    ]  # fmt: skip
