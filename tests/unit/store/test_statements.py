"""SQL that is spelled out fits the schema: each statement names tables and columns that both databases have."""

from __future__ import annotations

import importlib
import pkgutil
import re
import sqlite3
from contextlib import closing

import psycopg

import tracker.store

POSTGRES_ONLY = re.compile(r"unnest\(|string_agg\(|::\w+|FOR UPDATE|= ANY")
SQLITE_ONLY = re.compile(r"SELECT (min|max)\(value\), step")
"""The row that has the extreme: SQLite gives columns beside one."""
_BEGINS = ("SELECT ", "INSERT INTO ", "UPDATE ", "DELETE FROM ")


def statements() -> dict[str, str]:
    """The statements that modules of the store hold, by `module.NAME`, completed where a module completes them."""
    found = {}
    for info in pkgutil.walk_packages(tracker.store.__path__, "tracker.store."):
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            if isinstance(value, str) and value.lstrip().startswith(_BEGINS):
                text = value.replace("{ids}", "= ?")
                found[f"{info.name.removeprefix('tracker.store.')}.{name}"] = re.sub(
                    r"(r\.uid|AND key)$", r"\1 = ?", text
                )
    return found


STATEMENTS = statements()


def test_they_are_found() -> None:
    """The store's hot statements are among them."""
    assert {"write.claimed_run._SELECT", "points.summaries._INSERT", "write.sessions.END_FIT"} <= STATEMENTS.keys()
    assert len(STATEMENTS) > 30


def test_sqlite_has_what_they_name(store_url: str) -> None:
    """SQLite compiles each against a new store."""
    errors = {}
    with closing(sqlite3.connect(store_url.removeprefix("sqlite:///"))) as connection:
        for name, text in STATEMENTS.items():
            try:
                if not POSTGRES_ONLY.search(text):
                    connection.execute(f"EXPLAIN {text}", [None] * text.count("?"))
            except sqlite3.Error as error:
                errors[name] = str(error)
    assert errors == {}


def test_postgresql_has_what_they_name(postgres_url: str) -> None:
    """PostgreSQL plans each against a new store."""
    errors = {}
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for name, text in STATEMENTS.items():
            try:
                if not SQLITE_ONLY.search(text):
                    connection.execute(f"EXPLAIN {text.replace('?', '%s')}".encode(), [None] * text.count("?"))
            except psycopg.Error as error:
                errors[name] = str(error)
    assert errors == {}
