"""Values as the filter language writes them."""

from __future__ import annotations


def quoted(text: str) -> str:
    """`text` as a string literal of the filter language; both kinds of quotes inside raise ValueError."""
    if "'" not in text:
        return f"'{text}'"
    if '"' not in text:
        return f'"{text}"'
    raise ValueError(f"{text!r} has both kinds of quotes, which no literal can hold")
