"""What the store keeps as JSON in columns of text."""

from __future__ import annotations

from typing import Any

import msgspec

from tracker.domain.errors import InvalidValue
from tracker.domain.limits import number_text


def as_text(value: Any) -> str:
    """JSON; InvalidValue for what it has no form for, which no client of ours sends."""
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValue("value", f"cannot be written as JSON: {error}") from error


def json_number(value: float) -> float | str:
    """A float as JSON can keep it."""
    return value if value - value == 0 else number_text(value)
