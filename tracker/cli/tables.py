"""Tables of styled text without borders: columns as wide as their content, cut only if a terminal is too narrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.text import Text

from tracker.query.text_format import printable

GAP = 2
_NARROWEST = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column. If the table is too wide, `flexible` columns are cut, and `optional` ones are left out before a
    flexible one is narrower than `least`; others are kept whole.
    """

    title: str = ""
    right: bool = False
    flexible: bool = False
    optional: bool = False
    least: int = _NARROWEST


def cell(text: str, style: str = "") -> Text:
    """Recorded text, with control characters escaped, in the given style."""
    return Text(printable(text), style=style, no_wrap=True)


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[Text]], *, width: int | None = None, indent: int = 0
) -> Iterator[Text]:
    """The lines of a table; the first has the titles, if there are any."""
    titles = [Text(column.title, style="dim") for column in columns]
    lines = [titles, *rows] if any(column.title for column in columns) else list(rows)
    widths = [max((line[i].cell_len for line in lines), default=0) for i in range(len(columns))]
    kept = list(range(len(columns)))
    if width is not None:
        kept = _kept(widths, columns, width - indent)
        _shrink(widths, columns, kept, width - indent)
    for line in lines:
        yield _joined([(line[i], columns[i], widths[i]) for i in kept], indent)


def pairs(items: Sequence[tuple[Text, Text]], *, width: int, indent: int = 0) -> Iterator[Text]:
    """Keys and values, read downwards; in two columns unless they are few, or that would cut keys or many values."""
    half = (len(items) + 1) // 2
    left, right = items[:half], [*items[half:], (Text(), Text())][:half]
    doubled = [(*one, *other) for one, other in zip(left, right, strict=True)]
    widths = [max((line[i].cell_len for line in doubled), default=0) for i in range(4)]
    gaps = 3 * GAP + indent
    keys_fit = widths[0] + widths[2] + sum(min(wide, _NARROWEST) for wide in widths[1::2]) + gaps <= width
    value = Column(flexible=True)
    if len(items) > 3 and keys_fit and (sum(widths) + gaps <= width * 5 // 4 or len(items) > 16):
        return table([Column(), value, Column(), value], doubled, width=width, indent=indent)
    key = Column(flexible=max(widths[0], widths[2]) > width * 2 // 3)
    return table([key, value], items, width=width, indent=indent)


def _kept(widths: Sequence[int], columns: Sequence[Column], width: int) -> list[int]:
    """The columns to show: all, or without the last optional ones where even cut ones would not fit."""
    kept = list(range(len(columns)))
    least = [min(wide, column.least) if column.flexible else wide for wide, column in zip(widths, columns, strict=True)]
    for i in reversed(range(len(columns))):
        if columns[i].optional and sum(least[j] + GAP for j in kept) - GAP > width:
            kept.remove(i)
    return kept


def _shrink(widths: list[int], columns: Sequence[Column], kept: Sequence[int], width: int) -> None:
    """Narrow the widest flexible column repeatedly until all fit or none can be narrower."""
    while sum(widths[i] + GAP for i in kept) - GAP > width:
        flexible = [i for i in kept if columns[i].flexible and widths[i] > _NARROWEST]
        if not flexible:
            return
        widths[max(flexible, key=lambda i: widths[i])] -= 1


def _joined(cells: Sequence[tuple[Text, Column, int]], indent: int) -> Text:
    joined = Text(" " * indent, no_wrap=True)
    for i, (whole, column, wide) in enumerate(cells):
        text = whole.copy()
        text.truncate(wide, overflow="ellipsis")
        padding = Text(" " * (wide - text.cell_len))
        joined.append(" " * GAP * (i > 0))
        for part in (padding, text) if column.right else (text, padding):
            joined.append_text(part)
    return joined
