"""Encodes values as JSON for columns of text."""

from __future__ import annotations

from typing import Any

import msgspec

from tracker.domain.errors import InvalidValue
from tracker.domain.limits import number_text


def as_text(value: Any) -> str:
    """`value` as JSON; InvalidValue if it has no JSON form, which our own clients never send."""
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValue("value", f"cannot be written as JSON: {error}") from error


def json_number(value: float) -> float | str:
    """A float as JSON can hold it: as text if it is NaN or infinite."""
    return value if value - value == 0 else number_text(value)
