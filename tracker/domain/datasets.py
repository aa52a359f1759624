"""Limits on the description of a run's data sets."""

from __future__ import annotations

from tracker.domain.errors import InvalidValue
from tracker.domain.frames import DatasetLogged

CONTEXT = "mlflow.data.context"
"""The tag that says what a run used its data for."""
_LENGTHS = {"name": 500, "digest": 36, "source_type": 64, "source": 65_535, "schema": 1_048_575, "profile": 1_048_575}


def check_dataset(item: DatasetLogged) -> DatasetLogged:
    """`item` if every database, and MLflow, can hold it, else InvalidValue."""
    for field, length in _LENGTHS.items():
        _check(field, getattr(item, field), length, may_be_empty=field not in ("name", "digest"))
    for key, value in item.tags.items():
        _check("tag", key, 250, may_be_empty=False)
        _check(f"tag {key!r}", value, 5000, may_be_empty=True)
    return item


def _check(field: str, text: str | None, length: int, *, may_be_empty: bool) -> None:
    if text is None:
        return
    if not isinstance(text, str) or len(text) > length or not (text or may_be_empty):
        size = f"{len(text)} characters" if isinstance(text, str) else f"{text!r}"
        raise InvalidValue(f"data set's {field}", size, limit=f"{0 if may_be_empty else 1} to {length} characters")
    if "\0" in text or any("\ud800" <= one <= "\udfff" for one in text):
        raise InvalidValue(f"data set's {field}", f"{text[:80]!r} is not a text", limit="Unicode without NUL")
