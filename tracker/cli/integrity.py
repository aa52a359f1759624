"""Whether a SQLite file is whole. Asked of SQLite itself, since a damaged file opens nowhere else."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path


def damages(file: Path) -> Iterator[str]:
    """What SQLite finds damaged in `file`, or referring to what is not there; nothing is changed."""
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            for (line,) in connection.execute("PRAGMA integrity_check"):
                if line != "ok":
                    yield f"integrity: {line}"
            for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
                yield f"integrity: row {row} of {table} refers to a row of {parent} that is not there"
    except sqlite3.DatabaseError as error:
        yield f"integrity: {error}"
