"""A metric's history as one line of block characters."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.text import Text

# Without the full block: lines of curves below each other must not touch.
LEVELS = "▁▂▃▄▅▆▇"
NOT_A_NUMBER = "×"
FLAT = "▄"
_WIDEST = 4


def curve(steps: Sequence[int], values: Sequence[float], width: int, *, mark: int | None = None) -> Text:
    """The points as at most `width` characters, as high as their values; the one at step `mark` is emphasised.

    Few points are drawn several characters wide. If there are more points than characters, each character is an equal
    part of the steps, and shows the middle between the smallest and the largest value there. NaN and infinities are
    crosses.
    """
    wide = min(_WIDEST, width // max(len(values), 1))
    columns = [[value] for value in values] if wide else _columns(steps, values, width)
    marked = None if mark is None else _column_of(steps, mark, len(columns), one_each=wide > 0)
    heights = [_middle(column) for column in columns]
    finite = [height for height in heights if height is not None]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    line = Text(no_wrap=True)
    for i, height in enumerate(heights):
        if height is None:
            line.append(NOT_A_NUMBER * max(wide, 1), style="red")
        else:
            line.append(_level(height, low, high) * max(wide, 1), style="bold green" if i == marked else "blue")
    return line


def _columns(steps: Sequence[int], values: Sequence[float], width: int) -> list[list[float]]:
    columns: list[list[float]] = [[] for _ in range(width)]
    first, span = steps[0], steps[-1] - steps[0] + 1
    for step, value in zip(steps, values, strict=True):
        columns[(step - first) * width // span].append(value)
    for i in range(1, width):  # without a point the line continues
        columns[i] = columns[i] or columns[i - 1][-1:]
    return columns


def _column_of(steps: Sequence[int], step: int, width: int, *, one_each: bool) -> int | None:
    if not steps or not steps[0] <= step <= steps[-1]:
        return None
    if one_each:
        return next((i for i, one in enumerate(steps) if one == step), None)
    return (step - steps[0]) * width // (steps[-1] - steps[0] + 1)


def _middle(column: Sequence[float]) -> float | None:
    finite = [value for value in column if math.isfinite(value)]
    return min(finite) / 2 + max(finite) / 2 if finite else None


def _level(height: float, low: float, high: float) -> str:
    if high <= low:
        return FLAT
    share = (height / 2 - low / 2) / (high / 2 - low / 2)
    return LEVELS[min(int(share * len(LEVELS)), len(LEVELS) - 1)]
