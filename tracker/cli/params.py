"""A run's parameters on its page: no name is cut, and related ones are grouped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.text import Text

from tracker.cli.tables import cell, pairs
from tracker.query.text_format import value_text

_MOST = 60
_MOST_OF_FAMILY = 24
_FAMILY = 4
_HANG = 4
_LONGEST_VALUE = 60


def parameters(params: Mapping[str, Any], *, width: int, indent: int, everything: bool) -> tuple[Sequence[Text], int]:
    """The lines, and how many parameters were left out.

    Single ones are listed as key and value. Groups follow, as `name: key=value, key=value`: parameters below a dotted
    name (`data.x`), and four or more below a plain one (`optimizer`).
    """
    families: dict[str, list[str]] = {}
    for key in params:
        families.setdefault(key.rpartition(".")[0], []).append(key)
    families = {name: keys for name, keys in families.items() if "." in name or (name and len(keys) >= _FAMILY)}
    taken = {key for keys in families.values() for key in keys}
    single = [(cell(key, "dim"), cell(value_text(value))) for key, value in params.items() if key not in taken]
    most = None if everything else _MOST
    lines = list(pairs(single[:most], width=width, indent=indent))
    hidden = len(single[most:]) if most else 0
    for name, keys in families.items():
        shown = keys if everything else keys[:_MOST_OF_FAMILY]
        hidden += len(keys) - len(shown)
        items = [(key.removeprefix(f"{name}."), value_text(params[key])) for key in shown]
        lines.extend(_family(name, items, width, indent))
    return lines, hidden


def _family(name: str, items: Sequence[tuple[str, str]], width: int, indent: int) -> Iterator[Text]:
    line = Text.assemble(" " * indent, cell(f"{name}:", "dim"), no_wrap=True)
    for i, (key, value) in enumerate(items):
        text = cell(value)
        text.truncate(min(_LONGEST_VALUE, max(width - indent - _HANG - len(key) - 2, 1)), overflow="ellipsis")
        item = Text.assemble(cell(f"{key}=", "dim"), text, "," * (i + 1 < len(items)))
        if line.cell_len + 1 + item.cell_len > width:
            yield line
            line = Text(" " * (indent + _HANG - 1), no_wrap=True)
        line.append(" ")
        line.append_text(item)
    yield line
