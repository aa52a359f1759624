"""Converts rows to records, and checks that each value has the type of its field.

Any program can write a database, and SQLite keeps any value in any column. Records check the rest: what becomes part of
a path (see `tracker.domain.records`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from tracker.domain.errors import InvalidRecord
from tracker.domain.limits import excerpt, shortened

T = TypeVar("T")
_WHERE = re.compile(r" - at `(?:key in )?\$(?P<path>.*)`\Z")
_FIRST = re.compile(r"\.?(\w+)|\[(\d+)\]")
Json = dict[str, Any]


def record(kind: type[T], table: str, values: Mapping[str, Any]) -> T:
    """The record of these field values, which a row of `table` has. InvalidRecord names the first wrong field."""
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise _invalid(table, error, values) from error


def typed(rows: Iterable[Any], kind: type[T], table: str, columns: Sequence[str]) -> list[T]:
    """`rows` of `table` with these columns, as tuples of the type `kind`. InvalidRecord names the first wrong value."""
    plain = [row if type(row) is tuple else tuple(row) for row in rows]
    if not plain:
        return []
    try:
        return msgspec.convert(plain, list[kind])  # type: ignore[valid-type]
    except msgspec.ValidationError:
        for row in plain:
            record_of_row(row, kind, table, columns)
        raise


def record_of_row(row: tuple[Any, ...], kind: type[T], table: str, columns: Sequence[str]) -> T:
    """One row of `typed`."""
    try:
        return msgspec.convert(row, kind)
    except msgspec.ValidationError as error:
        raise _invalid(table, error, dict(zip(columns, row, strict=True)), columns) from error


def from_json(text: Any, kind: type[T], column: str) -> T:
    """The JSON value of a text column, named `table.column`. InvalidRecord if it is none, or not of the type `kind`."""
    try:
        if not isinstance(text, str):
            raise msgspec.ValidationError(f"Expected `str`, got `{type(text).__name__}`")
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRecord(column, excerpt(text), shortened(str(error))) from error


def _invalid(
    table: str, error: msgspec.ValidationError, values: Mapping[str, Any], columns: Sequence[str] = ()
) -> InvalidRecord:
    text = str(error)
    where = _WHERE.search(text)
    problem = shortened(text[: where.start()] if where else text)
    first = _FIRST.match(where["path"]) if where else None
    if first is None:  # a record's own check, whose message names the field and the value
        return InvalidRecord(table, "", problem)
    name = first[1] or columns[int(first[2])]
    return InvalidRecord(f"{table}.{name}", excerpt(values.get(name)), problem)
