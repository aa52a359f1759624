"""`tracker delete` and `tracker undelete`."""

from __future__ import annotations

import click

from tracker.cli.output import say
from tracker.cli.stores import existing_store, store_option
from tracker.domain.errors import RunNotFound, TrackerError
from tracker.query.named_runs import find_run
from tracker.query.text_format import printable


@click.command()
@click.argument("run")
@store_option
def delete(run: str, store: str | None) -> None:
    """Delete RUN: no list shows it. `tracker undelete` restores it until `tracker gc` removes it after 30 days."""
    with existing_store(store) as opened:
        found = find_run(opened, run)
        opened.delete_run(found.id)
    say(f"deleted {printable(found.name)}; restore it with: tracker undelete {found.id}")


@click.command()
@click.argument("run")
@store_option
def undelete(run: str, store: str | None) -> None:
    """Restore the deleted RUN."""
    with existing_store(store) as opened:
        try:
            found = find_run(opened, run, deleted=True)
        except RunNotFound:
            raise TrackerError(f"{printable(find_run(opened, run).name)} is not deleted") from None
        opened.restore_run(found.id)
    say(f"{printable(found.name)} ({found.id}) is shown again")
