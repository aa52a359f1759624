"""`tracker token`: making, listing and revoking access tokens."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing

import pytest
from e2e.cli_lab import installed, invoke

from tracker.domain.access import digest_of

TOKEN = re.compile(r"trk_[A-Za-z0-9_-]{43}\n")


def test_create_list_revoke(store_url: str) -> None:
    """A token is printed once, alone on stdout; the list has name, role and times; revoking shows there."""
    made = installed("token", "create", "ci")
    assert made.returncode == 0
    assert TOKEN.fullmatch(made.stdout)
    assert made.stderr == "token ci (writer) is created; it is shown only this once\n"
    assert invoke("token", "create", "eve", "--role", "viewer").exit_code == 0
    assert installed("token", "revoke", "ci").stderr == "token ci is revoked\n"
    listed = installed("token", "list").stdout
    assert [line.split()[:2] for line in listed.splitlines()] == [["name", "role"], ["ci", "writer"], ["eve", "viewer"]]
    assert made.stdout.strip() not in listed
    (ci, eve) = json.loads(installed("token", "list", "--format", "json").stdout)
    assert (ci["name"], ci["role"], eve["name"], eve["role"]) == ("ci", "writer", "eve", "viewer")
    assert ci["revoked_ms"] >= ci["created_ms"]
    assert eve["revoked_ms"] is None
    with closing(sqlite3.connect(store_url[10:])) as connection:
        kept = connection.execute("SELECT digest FROM tokens WHERE name = 'ci'").fetchone()[0]
        assert kept == digest_of(made.stdout.strip())
        assert made.stdout.strip()[4:] not in "\n".join(connection.iterdump())


def test_forget(store_url: str) -> None:
    """A forgotten token leaves no trace."""
    invoke("token", "create", "a")
    assert installed("token", "revoke", "a", "--forget").stderr == "token a is revoked and forgotten\n"
    empty = invoke("token", "list")
    assert (empty.exit_code, empty.stdout) == (0, "")
    assert "no tokens; `tracker token create NAME` makes one" in empty.stderr


@pytest.mark.parametrize(("arguments", "code", "words"), [
    (["create", "a"], 1, "there is a token 'a' already; revoke it first"),
    (["create", "b c"], 2, "'b c' cannot name a token"),
    (["create", "b", "--role", "king"], 2, "'king' is not one of 'viewer', 'writer', 'admin'"),
    (["create"], 2, "Missing argument 'NAME'"),
    (["revoke", "nobody"], 1, "token 'nobody' not found; `tracker token list` lists them"),
    (["list", "--store", "http://127.0.0.1:1"], 2, "the URL of the database behind it"),
    (["list", "--store", "sqlite:///none.db"], 1, "there is no store at"),
    (["revoke", "a", "--store", "sqlite:///none.db"], 1, "there is no store at"),
])  # fmt: skip
def test_what_cannot_be_done(store_url: str, arguments: list[str], code: int, words: str) -> None:
    """What is wrong is said plainly, and nothing is printed where a token would be."""
    assert invoke("token", "create", "a").exit_code == 0
    done = installed("token", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_postgresql(postgres_url: str) -> None:
    """The same in PostgreSQL, whose password is nowhere in what is said."""
    made = installed("token", "create", "ci", "--store", postgres_url)
    assert TOKEN.fullmatch(made.stdout)
    assert [
        one["name"]
        for one in json.loads(installed("token", "list", "--format", "json", "--store", postgres_url).stdout)
    ] == ["ci"]
