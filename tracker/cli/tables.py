"""Columns of styled text without borders: as wide as what is in them, cut only where a terminal is too narrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.text import Text

from tracker.query.texts import printable

GAP = 2
_NARROWEST = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column. A `flexible` one is cut, with an ellipsis, where the table is too wide; ids and numbers never are."""

    title: str = ""
    right: bool = False
    flexible: bool = False


def cell(text: str, style: str = "") -> Text:
    """Recorded text, made harmless, in a style of ours."""
    return Text(printable(text), style=style, no_wrap=True)


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[Text]], *, width: int | None = None, indent: int = 0
) -> Iterator[Text]:
    """The lines of a table; the first holds the titles, if there are any."""
    titles = [Text(column.title, style="dim") for column in columns]
    lines = [titles, *rows] if any(column.title for column in columns) else list(rows)
    widths = [max((line[i].cell_len for line in lines), default=0) for i in range(len(columns))]
    if width is not None:
        _shrink(widths, columns, width - indent - GAP * (len(columns) - 1))
    for line in lines:
        yield _joined(line, columns, widths, indent)


def pairs(items: Sequence[tuple[Text, Text]], *, width: int, indent: int = 2, key_width: int = 30) -> Iterator[Text]:
    """Keys and values, read downwards: in two columns if they fit, with long values cut."""
    if not items:
        return
    keys = min(max(key.cell_len for key, _ in items), key_width)
    half = (width - indent - GAP) // 2
    needed = keys + GAP + max(value.cell_len for _, value in items)
    doubled = len(items) > 3 and (needed <= half or _fits(items, keys, half))
    room = (half if doubled else width - indent) - keys - GAP
    cells = [_pair(key, value, keys, room) for key, value in items]
    if not doubled:
        for one in cells:
            yield Text(" " * indent) + one
        return
    height = (len(cells) + 1) // 2
    for left, right in zip(cells, [*cells[height:], *[Text()] * height], strict=False):
        left.pad_right(half - left.cell_len)
        yield Text(" " * indent) + left + Text(" " * GAP) + right
        if (height := height - 1) == 0:
            return


def _fits(items: Sequence[tuple[Text, Text]], keys: int, half: int) -> bool:
    """Whether few enough values are too long for half a line that cutting them is the lesser evil."""
    room = half - keys - GAP
    long = sum(value.cell_len > room for _, value in items)
    return room >= _NARROWEST and long <= len(items) // 5


def _pair(key: Text, value: Text, keys: int, room: int) -> Text:
    key, value = key.copy(), value.copy()
    key.truncate(keys, overflow="ellipsis", pad=True)
    value.truncate(room, overflow="ellipsis")
    return key + Text(" " * GAP) + value


def _shrink(widths: list[int], columns: Sequence[Column], room: int) -> None:
    """Narrow the widest flexible column, again and again, until all fit or none can give more."""
    while sum(widths) > room:
        flexible = [i for i, column in enumerate(columns) if column.flexible and widths[i] > _NARROWEST]
        if not flexible:
            return
        widths[max(flexible, key=lambda i: widths[i])] -= 1


def _joined(line: Sequence[Text], columns: Sequence[Column], widths: Sequence[int], indent: int) -> Text:
    joined = Text(" " * indent, no_wrap=True)
    for i, (text, column, wide) in enumerate(zip(line, columns, widths, strict=True)):
        text = text.copy()
        text.truncate(wide, overflow="ellipsis")
        padding = " " * (wide - text.cell_len)
        joined.append(padding if column.right else "").append_text(text).append("" if column.right else padding)
        if i < len(columns) - 1:
            joined.append(" " * GAP)
    return joined
