"""Integrity of a SQLite file. SQLite itself checks it, since a damaged file cannot be opened as a store."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path


def damages(file: Path) -> Iterator[str]:
    """Damages and dangling references that SQLite finds in `file`; nothing is changed."""
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            for (line,) in connection.execute("PRAGMA integrity_check"):
                if line != "ok":
                    yield f"integrity: {line}"
            for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
                yield f"integrity: row {row} of {table} refers to a row of {parent} that is not there"
    except sqlite3.DatabaseError as error:
        yield f"integrity: {error}"
