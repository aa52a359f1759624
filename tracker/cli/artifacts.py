"""`tracker artifacts`: the files of runs, and where they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote, urlsplit

import click

from tracker.cli import styles
from tracker.cli.output import say
from tracker.cli.run_header import place
from tracker.cli.stores import Database, existing_store, full_url, store_option
from tracker.domain.errors import InvalidValue
from tracker.query.text_format import printable

if TYPE_CHECKING:
    from tracker.store.relocation import Relocated
    from tracker.store.store import SqlRunStore


@click.group()
def artifacts() -> None:
    """Manage the files of runs."""
    # A first word that is no subcommand is a run whose files are listed: this Group resolves it so.


@artifacts.command()
@click.argument("old")
@click.argument("new")
@click.option("--dry-run", "dry_run", is_flag=True, help="Show the changes without making them.")
@store_option
def relocate(old: str, new: str, dry_run: bool, store: str | None) -> None:
    """Record that files were moved from OLD to NEW.

    OLD and NEW are folders or URIs. The addresses of runs, checkpoints, logged models, experiments and registered
    models are changed in one transaction; no file is moved. Files in the default folder next to a SQLite file need
    this only if they are no longer next to it.

    The command opens the database itself. Restart servers of the store afterwards. Exit code 2 if no address is below
    OLD.
    """
    url = full_url(store)
    Database(url).close()  # raises for a server, with what to do: it does not change addresses for clients
    before, after = _uri("OLD", old), _uri("NEW", new)
    with existing_store(store) as opened:
        done = cast("SqlRunStore", opened).relocate(url, before, after, dry_run=dry_run)
    how = "would relocate" if dry_run else "relocated"
    say(printable(f"{how} {', '.join(_counts(done))}: now below {place(after)}"))
    if after.startswith("file:") and not Path(unquote(urlsplit(after).path)).is_dir():
        say(printable(f"note: there is no folder {place(after)} on this machine yet"))


def _counts(done: Relocated) -> Iterator[str]:
    for count, one, many in (
        (done.runs, "run", "runs"),
        (done.checkpoints, "checkpoint", "checkpoints"),
        (done.models, "logged model", "logged models"),
        (done.experiments, "experiment", "experiments"),
        (done.versions, "registered model version", "registered model versions"),
    ):
        if count:
            yield styles.plural(count, one, many)


def _uri(field: str, text: str) -> str:
    """The URI of a folder given as a path or a URI."""
    scheme = urlsplit(text).scheme
    if scheme == "file":
        text = unquote(urlsplit(text).path)
    elif "://" in text:
        return text.rstrip("/")
    if not text:
        raise InvalidValue(field, "is empty", limit="a folder or a URI")
    return Path(text).absolute().as_uri()
