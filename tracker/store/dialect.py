"""Statements that each database spells its own way."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import Insert


def upsert(connection: Connection, table: Table, keys: Sequence[str], overwrite: Sequence[str]) -> Insert:
    """Insert rows into `table`; where one of the same `keys` stands, set its `overwrite` columns, or leave it."""
    return _upsert(connection.dialect.name, table, tuple(keys), tuple(overwrite))


@cache
def _upsert(dialect: str, table: Table, keys: tuple[str, ...], overwrite: tuple[str, ...]) -> Insert:
    statement: Any = (postgresql if dialect == "postgresql" else sqlite).insert(table)
    if not overwrite:
        return statement.on_conflict_do_nothing(index_elements=keys)  # type: ignore[no-any-return]
    changes = {column: statement.excluded[column] for column in overwrite}
    return statement.on_conflict_do_update(index_elements=keys, set_=changes)  # type: ignore[no-any-return]
