"""Addresses of files: absolute for readers, relative to the database's folder in rows.

A SQLite file and the artifact folders next to it are moved and copied together, so an address below one of these
folders is stored relative to the database's folder. It has no scheme then: `tracker-artifacts/<run id>`. All other
addresses are stored unchanged, as are all addresses in PostgreSQL, which has no folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Dialect, Engine, Text, TypeDecorator, case, literal, or_, type_coerce

FOLDERS = ("tracker-artifacts", "mlartifacts", "mlruns")
"""Default artifact folders next to a database: Tracker's own, and those of MLflow's server."""
_ATTRIBUTE = "tracker_addresses"


class Addresses:
    """Translates addresses for a database in the folder `place`, a URI; None if it has no folder."""

    def __init__(self, place: str | None = None) -> None:
        self.place = None if place is None else place.rstrip("/")
        self._begins = tuple(f"{self.place}/{name}" for name in FOLDERS)

    def stored(self, uri: str) -> str:
        """`uri` in the form that rows have."""
        if self.place is not None:
            for begin in self._begins:
                if uri.startswith(begin) and uri[len(begin) :][:1] in ("", "/"):
                    return uri[len(self.place) + 1 :]
        return uri

    def shown(self, stored: str) -> str:
        """The absolute address of one from a row: the reverse of `stored`."""
        if self.place is not None and stored.partition("/")[0] in FOLDERS:
            return f"{self.place}/{stored}"
        return stored

    def shown_in_sql(self, column: ColumnElement[str]) -> ColumnElement[str]:
        """`shown` as a SQL expression over a column of stored addresses."""
        text = type_coerce(column, Text)
        if self.place is None:
            return text
        relative = or_(*(text.startswith(f"{name}/") for name in FOLDERS))
        return case((relative, literal(f"{self.place}/", Text) + text), else_=text)


class Address(TypeDecorator[str]):
    """Column type of addresses: in rows as `stored`, in Python as `shown`."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else of(dialect).stored(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        # A value of another type, which another program wrote, is refused where the row becomes a record.
        return of(dialect).shown(value) if isinstance(value, str) else value


def attach(engine: Engine, file: Path) -> None:
    """Make the engine translate addresses for the database in `file`."""
    setattr(engine.dialect, _ATTRIBUTE, Addresses(file.parent.as_uri()))


def of(dialect: Dialect) -> Addresses:
    """The `Addresses` of an engine with this dialect."""
    found: Any = getattr(dialect, _ATTRIBUTE, _NOWHERE)
    return found  # type: ignore[no-any-return]


_NOWHERE = Addresses()
