"""Inserts rows with statements that are cached for each table: building them each time would slow a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Table

from tracker.store.database.driver_cursor import DriverCursor


class RowBuffer:
    """Rows that wait to be inserted, in order within a table.

    Values are those of the driver: text for JSON.
    """

    def __init__(self) -> None:
        self._rows: dict[str, list[tuple[Any, ...]]] = {}

    def add(
        self, table: Table, row: Mapping[str, Any], keys: tuple[str, ...] = (), overwrite: tuple[str, ...] = ()
    ) -> None:
        """Add a row; if the table has one of the same `keys`, its `overwrite` columns are set, or it is left."""
        statement = _insert(table.name, tuple(row), keys, overwrite)
        self._rows.setdefault(statement, []).append(tuple(row.values()))

    def flush(self, raw: DriverCursor) -> None:
        """Insert them. Raises the driver's errors."""
        for statement, rows in self._rows.items():
            if len(rows) == 1:
                raw.run(statement, rows[0])
            else:
                raw.many(statement, rows)
        self._rows.clear()


def write(raw: DriverCursor, table: Table, row: Mapping[str, Any], keys: tuple[str, ...] = ()) -> None:
    """Insert a row at once, unless there is one of the same `keys`. Raises the driver's errors."""
    raw.run(_insert(table.name, tuple(row), keys, ()), tuple(row.values()))


def write_numbered(raw: DriverCursor, table: Table, row: Mapping[str, Any]) -> int:
    """Insert a row into a table with an `id`; return its id. Raises the driver's errors."""
    return raw.insert(_insert(table.name, tuple(row), (), ()), [tuple(row.values())])[0]


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
