"""Formats times, durations, sizes and counts."""

from __future__ import annotations

import math
from datetime import datetime

_AGES = ((60, 1, "s"), (3600, 60, "min"), (86_400, 3600, "h"), (30 * 86_400, 86_400, "d"))


def duration(seconds: float | None) -> str:
    """A duration as text: `0.25 s`, `3.2 s`, `48 s`, `12 min 5 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    seconds = max(seconds, 0.0)
    if seconds < 59.5:
        places = 2 if seconds < 0.995 else 1 if seconds < 9.95 else 0
        return f"{seconds:.{places}f} s"
    whole = round(seconds)
    for unit, name, smaller, rest_name in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{whole // unit} {name} {rest} {rest_name}" if rest else f"{whole // unit} {name}"
    return f"{whole} s"


def ago(ms: int, now: int) -> str:
    """How long before `now` a moment was: `just now`, `12 s ago`, `3 h ago`; its date if long ago or in the future."""
    seconds = (now - ms) / 1000
    if -5 < seconds < 5:
        return "just now"
    for size, unit, name in _AGES:
        if 0 < seconds < size:
            return f"{int(seconds // unit)} {name} ago"
    return clock(ms)[:10]


def clock(ms: int) -> str:
    """A moment in local time, to the second."""
    try:
        return datetime.fromtimestamp(ms / 1000).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"{ms} ms"


def took(started_ms: int, ended_ms: int | None, now: int) -> float:
    """Seconds from one moment to another, or to `now`; never negative, even if clocks differ."""
    return max((now if ended_ms is None else ended_ms) - started_ms, 0) / 1000


def size(count: int) -> str:
    """A number of bytes: `812 B`, `27 kB`, `1.2 MB`."""
    if count < 1000:
        return f"{count} B"
    amount = count / 1000
    for unit in ("kB", "MB", "GB"):
        if amount < 999.5:
            return f"{amount:.{1 if amount < 9.95 else 0}f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def thousands(count: int) -> str:
    """A whole number in groups of three digits."""
    return f"{count:,}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 epoch`, `2 epochs`."""
    return f"{thousands(count)} {one if count == 1 else many or one + 's'}"
