"""Converts parameters to rows of typed JSON and back; the first value of a key is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from sqlalchemy import Connection

from tracker.store.database.json_columns import as_text
from tracker.store.database.row_writer import rows_of, write
from tracker.store.database.typed_rows import from_json
from tracker.store.tables import params

ParamType = Literal["str", "num", "bool", "null", "json"]
"""Column `type`: how the value is written in `text`."""
_KNOWN = "SELECT key, type, text FROM params WHERE run_id = ?"


def add_params(connection: Connection, run: int, fit: int, values: Mapping[str, Any]) -> None:
    """Add `values` to the run's parameters.

    A key that has another value already keeps it, and the new value is stored as `fit.<fit>.<key>`; outside any fit,
    `<fit>` is 0.
    """
    known = {key: (type_, text) for key, type_, text in rows_of(connection, _KNOWN, (run,))}
    rows = []
    for key, value in sorted(values.items()):
        row = _row(run, key, value)
        stands = known.get(key)
        if stands == (row["type"], row["text"]):
            continue
        if stands is not None:
            row["key"] = f"fit.{fit}.{key}"[:250]
        rows.append(row)
    write(connection, params, rows, ("run_id", "key"), ("type", "text", "number"))


def param_value(type_: ParamType, text: str) -> Any:
    """The value of a row's `type` and `text`."""
    return text if type_ == "str" else from_json(text, Any, "params.text")


def _row(run: int, key: str, value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        type_, text = "str", value
    else:
        type_ = {type(None): "null", bool: "bool", int: "num", float: "num"}.get(type(value), "json")
        text = as_text(value)
    return {
        "run_id": run,
        "key": key,
        "type": type_,
        "text": text,
        "number": text_number(text) if type_ in ("num", "str") else None,
    }


def text_number(text: str) -> float | None:
    """The text as a finite number, else None. Strings that read as one count: MLflow's clients send only strings."""
    if len(text) > 400:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
