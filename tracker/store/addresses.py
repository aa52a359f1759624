"""Addresses of files: absolute for whoever reads them, relative to the database file in its rows.

A SQLite file and the folders of files beside it are moved and copied together, so an address below one of these folders
is kept relative to the folder that the database is in. It has no scheme then: `tracker-artifacts/<run id>`. Any other
address is kept as it is, and so are all of a PostgreSQL database, which is in no folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Dialect, Engine, Text, TypeDecorator, case, literal, or_, type_coerce

FOLDERS = ("tracker-artifacts", "mlartifacts", "mlruns")
"""Folders of files beside a database: ours by default, and those of a server of MLflow's own by default."""
_ATTRIBUTE = "tracker_addresses"


class Addresses:
    """Translates addresses for a database in the folder at `place`, a URI; None: it is in none."""

    def __init__(self, place: str | None = None) -> None:
        self.place = None if place is None else place.rstrip("/")
        self._begins = tuple(f"{self.place}/{name}" for name in FOLDERS)

    def stored(self, uri: str) -> str:
        """`uri` as rows have it."""
        if self.place is not None:
            for begin in self._begins:
                if uri.startswith(begin) and uri[len(begin) :][:1] in ("", "/"):
                    return uri[len(self.place) + 1 :]
        return uri

    def shown(self, stored: str) -> str:
        """The address that a row has, as readers are told it: the reverse of `stored`."""
        if self.place is not None and stored.partition("/")[0] in FOLDERS:
            return f"{self.place}/{stored}"
        return stored

    def shown_in_sql(self, column: ColumnElement[str]) -> ColumnElement[str]:
        """`shown` as an expression of SQL over a column of stored addresses."""
        text = type_coerce(column, Text)
        if self.place is None:
            return text
        relative = or_(*(text.startswith(f"{name}/") for name in FOLDERS))
        return case((relative, literal(f"{self.place}/", Text) + text), else_=text)


class Address(TypeDecorator[str]):
    """A column of addresses: rows have them as `stored`, Python as `shown`."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else of(dialect).stored(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else of(dialect).shown(value)


def attach(engine: Engine, file: Path) -> None:
    """Make the engine translate addresses for a database that is this file."""
    setattr(engine.dialect, _ATTRIBUTE, Addresses(file.parent.as_uri()))


def of(dialect: Dialect) -> Addresses:
    """What translates the addresses of an engine with this dialect."""
    found: Any = getattr(dialect, _ATTRIBUTE, _NOWHERE)
    return found  # type: ignore[no-any-return]


_NOWHERE = Addresses()
