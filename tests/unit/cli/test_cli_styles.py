"""Times, spans and sizes in words."""

from __future__ import annotations

import pytest

from tracker.cli.styles import ago, clock, duration, plural, size

NOW = 1_800_000_000_000


@pytest.mark.parametrize(("seconds", "text"), [
    (0.0, "0.00 s"), (0.254, "0.25 s"), (0.999, "1.0 s"), (3.21, "3.2 s"), (9.99, "10 s"), (48.4, "48 s"),
    (59.7, "1 min"), (125.0, "2 min 5 s"), (3600.0, "1 h"), (7500.0, "2 h 5 min"), (90_000.0, "1 d 1 h"),
    (-5.0, "0.00 s"), (None, "–"), (float("nan"), "–"),
])  # fmt: skip
def test_duration(seconds: float | None, text: str) -> None:
    """Spans have the precision that a person wants."""
    assert duration(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [
    (0, "just now"), (4, "just now"), (30, "30 s ago"), (90, "1 min ago"), (7200, "2 h ago"), (3 * 86_400, "3 d ago"),
])  # fmt: skip
def test_ago(seconds: int, text: str) -> None:
    """Moments near are told by their distance."""
    assert ago(NOW - seconds * 1000, NOW) == text


@pytest.mark.parametrize("distance", [-3600, 40 * 86_400])
def test_ago_tells_the_date_of_what_is_far_or_yet_to_come(distance: int) -> None:
    """Moments long ago, or in the future of a wrong clock, are told by their date."""
    assert ago(NOW - distance * 1000, NOW) == clock(NOW - distance * 1000)[:10]


@pytest.mark.parametrize("ms", [2**62, -(2**62)])
def test_clock_takes_any_number(ms: int) -> None:
    """A moment that no calendar has is told as it stands."""
    assert clock(ms) == f"{ms} ms"


@pytest.mark.parametrize(("count", "text"), [
    (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (27_530, "28 kB"), (1_234_567, "1.2 MB"), (999_700, "1.0 MB"),
    (5_000_000_000, "5.0 GB"), (2_500_000_000_000, "2.5 TB"),
])  # fmt: skip
def test_size(count: int, text: str) -> None:
    """Sizes have at most two digits that count, or three where they are whole."""
    assert size(count) == text


def test_plural() -> None:
    """One is singular, large numbers are in groups."""
    assert [plural(n, "epoch") for n in (0, 1, 2, 12345)] == ["0 epochs", "1 epoch", "2 epochs", "12,345 epochs"]
