"""`tracker token`: access tokens of a tracking server, kept in the store itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import get_args

import click
from rich.text import Text

from tracker import compose
from tracker.cli.output import jsonable, print_json, print_lines, print_text, say, table_width
from tracker.cli.stores import Database, full_url, store_option
from tracker.cli.tables import Column, cell, table
from tracker.domain.access import Role, Tokens
from tracker.domain.errors import NoStore


@click.group()
def token() -> None:
    """Manage the access tokens of a tracking server, in its database.

    Once a store has a token, its server requires one from every client, on every address. Created and revoked tokens
    take effect within seconds. A viewer reads. A writer also records, changes, deletes and restores runs. An admin
    may do everything, such as deleting experiments and registered models.
    """


@token.command()
@click.argument("name")
@click.option("--role", default="writer", show_default=True, type=click.Choice(get_args(Role)))
@store_option
def create(name: str, role: Role, store: str | None) -> None:
    """Create a token and print it. It is printed only once, since only its SHA-256 is stored.

    Clients take it from TRACKER_TOKEN or MLFLOW_TRACKING_TOKEN. In a browser it is the password, with any user name.
    """
    with _tokens(store, make=True) as tokens:
        print_text(tokens.create(name, role) + "\n")
    say(f"token {name} ({role}) is created; it is shown only this once")


@token.command("list")
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
@store_option
def list_(format_: str, store: str | None) -> None:
    """List the tokens: name, role, times of creation and revocation."""
    with _tokens(store) as tokens:
        found = tokens.list()
    if format_ == "json":
        print_json([jsonable(one) for one in found])
    elif found:
        columns = [Column(title="name"), Column(title="role"), Column(title="made"), Column(title="revoked")]
        rows = [[cell(one.name), Text(one.role), _time(one.created_ms), _time(one.revoked_ms)] for one in found]
        print_lines(table(columns, rows, width=table_width()))
    else:
        say("no tokens; `tracker token create NAME` makes one")


@token.command()
@click.argument("name")
@click.option(
    "--forget", is_flag=True, help="Delete the token. Without any token left, 127.0.0.1 needs no login again."
)
@store_option
def revoke(name: str, forget: bool, store: str | None) -> None:
    """Revoke a token. Servers refuse it within seconds."""
    with _tokens(store) as tokens:
        tokens.revoke(name, forget=forget)
    say(f"token {name} is revoked" + (" and forgotten" if forget else ""))


@contextmanager
def _tokens(store: str | None, *, make: bool = False) -> Iterator[Tokens]:
    """Context manager of the store's tokens. NoStore if there is no store, unless `make` creates it."""
    url = full_url(store)
    database = Database(url)
    try:
        if not make and database.revision() is None:
            raise NoStore(database.url)
    finally:
        database.close()
    with compose.open_sql_store(url) as opened:
        yield opened.tokens


def _time(ms: int | None) -> Text:
    return Text("" if ms is None else datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S"))
