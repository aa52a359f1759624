"""Revision 0004: makes addresses relative to the database's folder.

Rows of earlier versions have absolute addresses. Those below a default folder next to the database become relative,
also if the database was moved or copied since: a default folder elsewhere counts as having been next to it if it no
longer exists there, or if files of its runs are next to the database now.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

import sqlalchemy as sa

_OWNER = r"(?P<tail>[0-9]+/(?:models/)?[^/]+/artifacts|[^/]+)"
_ADDRESS = re.compile(rf"(?P<place>file://.*)/(?P<name>tracker-artifacts|mlartifacts|mlruns)/{_OWNER}", re.DOTALL)
_COLUMNS = (
    ("runs", "artifact_uri"),
    ("checkpoints", "uri"),
    ("models", "artifact_uri"),
    ("experiments", "artifact_location"),
)
_REGISTRY = (("model_versions", "source"), ("model_versions", "storage_location"))


def make_relative(connection: sa.Connection, file: Path) -> None:
    """Make the addresses in the SQLite file relative, and those in the registry next to it."""
    roots = _roots(connection, file.parent)
    _make_registry_relative(file.with_name(f"{file.stem}.registry{file.suffix or '.db'}"), roots)
    for place, name in sorted(roots):
        _make_relative(connection, place, name)
        folder = sa.text("INSERT INTO database_folders (folder) VALUES (:folder) ON CONFLICT DO NOTHING")
        connection.execute(folder, {"folder": place})


def _roots(connection: sa.Connection, here: Path) -> set[tuple[str, str]]:
    """The default folders that were next to the database: the URI of the folder that had them, and their name."""
    tails: dict[tuple[str, str], list[str]] = {}
    for table in ("runs", "models"):
        for uid, uri in connection.execute(sa.text(f"SELECT uid, artifact_uri FROM {table}")):
            found = _ADDRESS.fullmatch(uri)
            if found is not None and uid in found["tail"].split("/"):
                tails.setdefault((found["place"], found["name"]), []).append(unquote(found["tail"]))
    return {
        (place, name)
        for (place, name), some in tails.items()
        if place == here.as_uri()
        or not Path(unquote(place.removeprefix("file://")), name).is_dir()
        or any((here / name / tail).is_dir() for tail in some)
    }


def _make_relative(connection: sa.Connection, place: str, name: str) -> None:
    values = {"old": f"{place}/{name}", "begin": f"{place}/{name}/", "name": name}
    for table, column in _COLUMNS:
        connection.execute(sa.text(_relative(table, column)), values)
    connection.execute(
        sa.text(
            """UPDATE events SET detail = replace(detail, '"uri":"' || :begin, '"uri":"' || :name || '/')"""
            """ WHERE kind = 'checkpoint_saved' AND instr(detail, '"uri":"' || :begin) > 0"""
        ),
        values,
    )


def _make_registry_relative(file: Path, roots: set[tuple[str, str]]) -> None:
    """`_make_relative` for MLflow's registry, a database of its own."""
    if not roots or not file.exists():
        return
    with closing(sqlite3.connect(file, timeout=60)) as registry, registry:
        if registry.execute("SELECT 1 FROM sqlite_master WHERE name = 'model_versions'").fetchone():
            for place, name in sorted(roots):
                for table, column in _REGISTRY:
                    values = {"old": f"{place}/{name}", "begin": f"{place}/{name}/", "name": name}
                    registry.execute(_relative(table, column), values)


def _relative(table: str, column: str) -> str:
    return (
        f"UPDATE {table} SET {column} = :name || substr({column}, length(:old) + 1)"
        f" WHERE {column} = :old OR substr({column}, 1, length(:begin)) = :begin"
    )
