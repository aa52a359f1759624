"""`tracker sync`: ship the journals of dead processes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import click
from rich.text import Text

from tracker import api
from tracker.cli import styles
from tracker.cli.journal_status import waiting_journals
from tracker.cli.output import jsonable, print_json, print_lines, say, table_width, with_progress
from tracker.cli.stores import store_option
from tracker.cli.tables import Column, cell, table
from tracker.client.journal import REFUSED
from tracker.client.sync import Synced
from tracker.query.text_format import printable
from tracker.settings import Settings


@click.command()
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
@store_option
@click.pass_obj
def sync(log: logging.Handler, format_: str, store: str | None) -> None:
    """Send the journals of processes that died, or that recorded with TRACKER_MODE=offline, to their stores.

    Journals of SQLite stores are sent to their own store; those of another store only if --store or TRACKER_STORE
    names it. Journals of running processes are skipped. Exit code 1 if anything could not be sent.
    """
    log.setLevel(logging.ERROR)  # the list has what was not shipped
    done = list(with_progress(api.sync_journals(store=store), "shipping journals", lambda one: one.points, _so_far))
    if format_ == "json":
        print_json([{**jsonable(one), "path": str(one.path)} for one in done])
    elif done:
        print_lines(_lines(done))
    say(_sum_up(done))
    if any(one.error is not None or _is_kept(one) for one in done):
        click.get_current_context().exit(1)


def _so_far(count: int, points: int) -> str:
    return f"shipping journals: {count} done, {styles.plural(points, 'point')}"


def _lines(done: Sequence[Synced]) -> Iterator[Text]:
    """A line a journal, and below it the problem if it needs action."""
    columns = [
        Column(title="run"), Column(title="points", right=True), Column(title="refused", right=True),
        Column(title="outcome"), Column(title="store", flexible=True),
    ]  # fmt: skip
    rows = [
        [
            cell(one.run_id, "yellow"),
            Text(styles.thousands(one.points)),
            Text(styles.thousands(one.refused), "red" if one.refused else ""),
            _outcome(one),
            cell(one.store),
        ]
        for one in done
    ]
    titles, *lines = table(columns, rows, width=table_width())
    yield titles
    for one, line in zip(done, lines, strict=True):
        yield line
        for remark in _remarks(one):
            yield Text.assemble("  ", cell(remark, "dim"))


def _outcome(one: Synced) -> Text:
    if one.error is not None:
        return Text("files wait", "yellow") if one.files else Text("not shipped", "red")
    return Text("stored in part", "yellow") if _is_kept(one) else Text("stored", "green")


def _remarks(one: Synced) -> Iterator[str]:
    if one.error is not None:
        if one.files:
            yield f"all is stored but {styles.plural(one.files, 'file')}"
        yield one.error
        yield f"it stays in {one.path}"
    elif _is_kept(one):
        if one.garbage:
            yield f"{styles.size(one.garbage)} of it were damaged"
        yield f"it is kept in {one.path}{REFUSED}"


def _is_kept(one: Synced) -> bool:
    return bool(one.refused or one.garbage)


def _sum_up(done: Sequence[Synced]) -> str:
    home = Settings.from_environment().home
    alive = sum(one.state == "live" for one in waiting_journals(home))
    left = sum(one.error is not None for one in done)
    shipped = styles.plural(len(done) - left, "journal")
    text = f"shipped {shipped}" if done else f"nothing to ship in {printable(str(home))}"
    text += f", {left} could not be" if left else ""
    return text + (f"; skipped {styles.plural(alive, 'journal')} of running processes" if alive else "")
