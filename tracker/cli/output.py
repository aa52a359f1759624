"""Output: data to stdout, messages to stderr, colour only for a terminal that supports it."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.text import Text

from tracker.domain.limits import as_json, number_text

_T = TypeVar("_T")

PIPE_WIDTH = 80
"""Width of a page if stdout is no terminal and COLUMNS is not set."""

_CONTROL = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def stdout_is_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout.isatty()


def width() -> int:
    """Maximum number of columns of a page."""
    return _console().width if stdout_is_terminal() or os.environ.get("COLUMNS", "").isdigit() else PIPE_WIDTH


def table_width() -> int | None:
    """Maximum number of columns of a table; None for no limit, so that nothing is cut."""
    return _console().width if stdout_is_terminal() else None


def print_lines(lines: Iterable[Text]) -> None:
    """Write styled lines to stdout: never wrapped, without colour where it is not supported."""
    console = _console()
    plain = not console.is_terminal or console.no_color
    for line in lines:
        if plain:
            sys.stdout.write(_encodable(line.plain.rstrip()) + "\n")
        else:
            line.rstrip()
            console.print(line, soft_wrap=True)


def print_text(text: str) -> None:
    """Write text to stdout that is escaped already."""
    sys.stdout.write(_encodable(text))


def print_json(value: Any, *, compact: bool = False) -> None:
    """Write `value`, made by `jsonable`, to stdout as JSON; on one line if `compact`."""
    ascii_only = not _speaks_unicode()
    text = json.dumps(value, ensure_ascii=ascii_only, indent=None if compact else 2, allow_nan=False)
    # Control characters that a terminal might obey are escaped, as JSON allows.
    sys.stdout.write(_CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n")


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a header and rows to stdout; missing values are empty, NaN and infinities are named."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_csv_cell(cell) for cell in row] for row in rows)


def jsonable(record: Any) -> Any:
    """A record, or a mapping or sequence of them, as JSON with the same field names; NaN and infinities as strings."""
    if isinstance(record, Mapping):
        return {key: jsonable(value) for key, value in record.items()}
    if isinstance(record, (list, tuple)):
        return [jsonable(value) for value in record]
    return as_json(asdict(record) if hasattr(record, "__dataclass_fields__") else record)


def say(message: str) -> None:
    """Write a message to stderr."""
    click.echo(message, err=True)


def _console() -> Console:
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def _csv_cell(cell: Any) -> Any:
    if isinstance(cell, float):
        return repr(cell) if cell - cell == 0 else number_text(cell)
    return "" if cell is None else str(cell).lower() if isinstance(cell, bool) else cell


def _speaks_unicode() -> bool:
    return (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "").startswith("utf")


def _encodable(text: str) -> str:
    if _speaks_unicode():
        return text
    return text.encode(sys.stdout.encoding, "replace").decode(sys.stdout.encoding)


def with_progress(
    things: Iterable[_T], doing: str, amount: Callable[[_T], int], so_far: Callable[[int, int], str]
) -> Iterator[_T]:
    """Yield `things`, with a progress line on a terminal's stderr: `doing`, then `so_far(count, amount)`."""
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        yield from things
        return
    count = total = 0
    with console.status(doing) as status:
        for one in things:
            count, total = count + 1, total + amount(one)
            status.update(so_far(count, total))
            yield one
