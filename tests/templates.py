"""SQLite stores to start from: one is migrated once a process, each test has a copy of its file."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path


@functools.cache
def _migrated() -> bytes:
    from tracker.store.store import SqlRunStore

    with tempfile.TemporaryDirectory(prefix="tracker-template-") as folder:
        file = Path(folder) / "tracker.db"
        SqlRunStore.open(f"sqlite:///{file}").close()
        return file.read_bytes()


def sqlite_store(folder: Path) -> str:
    """Put an empty store at the newest revision into `folder`; return its URL."""
    file = folder / "tracker.db"
    file.write_bytes(_migrated())
    return f"sqlite:///{file}"
