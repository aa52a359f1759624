"""`tracker db`: the database below a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from tracker.cli.integrity import damages
from tracker.cli.output import print_text, say
from tracker.cli.stores import Database, full_url, store_option
from tracker.domain.errors import NoStore, SchemaOutdated, SchemaTooNew
from tracker.query.text_format import printable


@click.group()
def db() -> None:
    """Manage the database of a SQL store."""


@db.command()
@store_option
def upgrade(store: str | None) -> None:
    """Upgrade the database to this version's schema, or create it.

    If the upgrade fails, nothing is changed. Make a backup first all the same.
    """
    with _database(store) as database:
        before = database.revision()
        if (points := database.rewritten_points()) > 1_000_000:
            say(
                f"{database.url}: about {points / 1e6:.0f} million rows of points are rewritten, which takes some 10 s "
                "a million, and as much room again; nobody can read or write meanwhile"
            )
        database.upgrade()
        after = database.revision()
        how = "made" if before is None else "nothing to do" if before == after else f"upgraded from {before}"
        say(f"{database.url} is at revision {after}: {how}")


@db.command()
@store_option
def current(store: str | None) -> None:
    """Print the revision of the database's schema."""
    with _database(store) as database:
        found = _revision(database)
        print_text(f"{found}\n")
        if found < database.head:
            say(f"this version needs {database.head}; after a backup: tracker db upgrade --store {database.url}")
        elif found > database.head:
            say(f"newer than {database.head}, the newest that this version knows; upgrade callback-tracker")


@db.command()
@store_option
def check(store: str | None) -> None:
    """Check the database for damage and its schema for differences from this version; print what is found.

    It reads everything, so it takes a while on a large database. Exit code 1 if anything is found.
    """
    with _database(store) as database:
        found = list(damages(database.file)) if database.exists and database.file is not None else []
        if not found:
            revision = _revision(database)
            if revision < database.head:
                raise SchemaOutdated(database.url, revision, database.head)
            if revision > database.head:
                raise SchemaTooNew(database.url, revision, database.head)
            found = [f"schema: {difference}" for difference in database.differences()]
        print_text("".join(f"{printable(line)}\n" for line in found))
        say(f"{database.url}: {f'{len(found)} found' if found else 'all is well'}")
        if found:
            click.get_current_context().exit(1)


@db.command()
@store_option
def compact(store: str | None) -> None:
    """Compress the points and histograms that are not compressed yet.

    Writers do so as a series grows; this is for stores of older versions, for runs that ended without their writer, and
    for points that came out of order. It may be stopped at any moment, and servers and trainings may go on meanwhile. A
    SQLite file does not shrink: the room that becomes free in it is used for what comes next.
    """
    with _database(store) as database:
        revision = _revision(database)
        if revision < database.head:
            raise SchemaOutdated(database.url, revision, database.head)
        with _progress() as show:
            points, histograms = database.compact(show)
        done = f"{points} points and {histograms} histograms are compressed now"
        say(f"{database.url}: {done if points or histograms else 'nothing to compress'}")


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Context manager of a function that draws how many of how many runs are done, on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("")
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextmanager
def _database(url: str | None) -> Iterator[Database]:
    database = Database(full_url(url))
    try:
        yield database
    finally:
        database.close()


def _revision(database: Database) -> str:
    found = database.revision()
    if found is None:
        raise NoStore(database.url)
    return found
