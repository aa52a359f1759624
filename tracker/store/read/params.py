"""Converts parameters to typed JSON and back."""

from __future__ import annotations

import math
from typing import Any, Literal

from tracker.store.database.json_columns import as_text
from tracker.store.database.typed_rows import from_json

ParamType = Literal["str", "num", "bool", "null", "json"]
"""Column `type`: how the value is written in `text`."""


def param_value(type_: ParamType, text: str) -> Any:
    """The value of a row's `type` and `text`."""
    return text if type_ == "str" else from_json(text, Any, "params.text")


def typed_text(value: Any) -> tuple[str, str]:
    """The type and text of a value in a row; InvalidValue if it has no JSON form."""
    if isinstance(value, str):
        return "str", value
    return {type(None): "null", bool: "bool", int: "num", float: "num"}.get(type(value), "json"), as_text(value)


def number_of(type_: str, text: str) -> float | None:
    """The parameter as a number, if it is one or a string that reads as one."""
    return text_number(text) if type_ in ("num", "str") else None


def text_number(text: str) -> float | None:
    """The text as a finite number, else None. Strings that read as one count: MLflow's clients send only strings."""
    if len(text) > 400:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
