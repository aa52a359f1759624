"""Inserts rows with statements that are cached for each table: building them each time would slow a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Table

from tracker.store.database.driver_cursor import Raw, driver_errors


def write(
    connection: Connection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    keys: tuple[str, ...] = (),
    overwrite: tuple[str, ...] = (),
) -> None:
    """Insert rows of the same columns; if a row has the same `keys`, set its `overwrite` columns, or leave it.

    Values are those of the driver: text for JSON. The connection's transaction must have begun.
    """
    if not rows:
        return
    statement = _insert(table.name, tuple(rows[0]), keys, overwrite)
    with driver_errors(connection, statement):
        raw, values = Raw(connection), [tuple(row.values()) for row in rows]
        if len(values) == 1:
            raw.run(statement, values[0])
        else:
            raw.many(statement, values)


def write_numbered(connection: Connection, table: Table, row: Mapping[str, Any]) -> int:
    """Insert a row into a table with an `id`; return its id."""
    statement = _insert(table.name, tuple(row), (), ())
    with driver_errors(connection, statement):
        return Raw(connection).insert(statement, [tuple(row.values())])[0]


def change(connection: Connection, statement: str, values: Sequence[Any]) -> None:
    """Execute a statement given as text, with `?` for values."""
    with driver_errors(connection, statement):
        Raw(connection).run(statement, values)


def rows_of(connection: Connection, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """The rows of a query given as text, with `?` for values."""
    with driver_errors(connection, statement):
        return Raw(connection).rows(statement, values)


@cache
def _insert(table: str, columns: tuple[str, ...], keys: tuple[str, ...], overwrite: tuple[str, ...]) -> str:
    names, places = _names(columns), ", ".join("?" * len(columns))
    statement = f"INSERT INTO {table} ({names}) VALUES ({places})"
    if not keys:
        return statement
    changes = ", ".join(f'"{name}" = excluded."{name}"' for name in overwrite)
    return f"{statement} ON CONFLICT ({_names(keys)}) DO {f'UPDATE SET {changes}' if changes else 'NOTHING'}"


def _names(columns: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in columns)
