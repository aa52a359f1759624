"""Statements whose SQL differs between SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, Text, cast, func
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import Insert


def upsert(connection: Connection, table: Table, keys: Sequence[str], overwrite: Sequence[str]) -> Insert:
    """Insert rows into `table`; if a row has the same `keys`, set its `overwrite` columns, or leave it."""
    return _upsert(connection.dialect.name, table, tuple(keys), tuple(overwrite))


def add(connection: Connection, table: Table, keys: Sequence[str], row: Mapping[str, Any]) -> bool:
    """Insert a row unless one has the same `keys`; return whether it was inserted."""
    statement = upsert(connection, table, keys, ()).inline()
    return connection.execute(statement, row, execution_options={"preserve_rowcount": True}).rowcount == 1


def possible_ids(ids: Iterable[int]) -> list[int]:
    """The ids that a column of ids can hold, each once, in order; PostgreSQL fails for others."""
    return sorted({id for id in ids if 0 <= id < 2**31})


def text_of_json(column: ColumnElement[Any], key: str, dialect: str) -> ColumnElement[Any]:
    """The text under `key` in a column of JSON objects; NULL where there is none."""
    if dialect == "postgresql":
        found: ColumnElement[Any] = cast(column, postgresql.JSON)[key].astext
        return found
    return cast(func.json_extract(column, f'$."{key}"'), Text)


@cache
def _upsert(dialect: str, table: Table, keys: tuple[str, ...], overwrite: tuple[str, ...]) -> Insert:
    statement: Any = (postgresql if dialect == "postgresql" else sqlite).insert(table)
    if not overwrite:
        return statement.on_conflict_do_nothing(index_elements=keys)  # type: ignore[no-any-return]
    changes = {column: statement.excluded[column] for column in overwrite}
    return statement.on_conflict_do_update(index_elements=keys, set_=changes)  # type: ignore[no-any-return]
