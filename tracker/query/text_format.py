"""Formats recorded data for people: ids, numbers, values, without control characters that a terminal would obey."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from tracker.domain.limits import number_text

SHORT_ID = 8

# Control characters, line and paragraph separators, marks that turn the direction of writing, lone surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def printable(text: str) -> str:
    """`text` on one line, with escapes for characters that move a cursor, colour or reorder it."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def value_text(value: Any) -> str:
    """A parameter's value: strings as they are, the rest as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def number(value: float) -> str:
    """`value` with about four significant digits, and no trailing zeros."""
    if not math.isfinite(value):
        return number_text(value)
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    if not 1e-4 <= abs(value) < 1e7:
        return f"{value:.4g}"
    text = f"{value:.{_decimals(abs(value))}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def aligned_numbers(values: Sequence[float]) -> list[str]:
    """`values` as texts for a column: with the same number of decimals, if they are of similar size.

    The smallest has about four significant digits, and some more if different values would look the same.
    """
    sizes = [abs(value) for value in values if math.isfinite(value) and value]
    top = max(sizes, default=0.0)
    whole = all(size == int(size) for size in sizes)
    if whole or not 1e-3 <= top < 1e7 or min(sizes) < top / 1e3:
        return [number(value) for value in values]
    least = min(_decimals(min(sizes)), _decimals(top) + 2)
    finite = {value for value in values if math.isfinite(value)}
    enough = (places for places in range(least, least + 3) if len({f"{v:.{places}f}" for v in finite}) == len(finite))
    places = next(enough, least + 3)
    while all(f"{value:.{places}f}".endswith("0") for value in finite) and places > 1:
        places -= 1
    return [f"{value:.{places}f}" if math.isfinite(value) else number_text(value) for value in values]


def short_ids(ids: Iterable[str], others: Iterable[str] = (), *, shortest: int = SHORT_ID) -> dict[str, str]:
    """By id its shortest prefix, all of one length, that no other one of `ids` and `others` begins with."""
    wanted = list(dict.fromkeys(ids))
    everyone = sorted({*wanted, *others})
    shared = [_shared(a, b) for a, b in itertools.pairwise(everyone)]
    place = {one: i for i, one in enumerate(everyone)}
    needed = [max(shared[max(place[one] - 1, 0) : place[one] + 1], default=0) + 1 for one in wanted]
    return {one: one[: max([shortest, *needed])] for one in wanted}


def _decimals(top: float) -> int:
    return max(0, 3 - math.floor(math.log10(top)))


def _shared(a: str, b: str) -> int:
    """The length of the common prefix of two texts."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
