"""`tracker stop`."""

from __future__ import annotations

import click

from tracker.cli.named import named_run
from tracker.cli.output import say
from tracker.cli.stores import existing_store, store_option
from tracker.domain.errors import TrackerError
from tracker.query.text_format import printable


@click.command()
@click.argument("run")
@store_option
def stop(run: str, store: str | None) -> None:
    """Ask RUN to stop: `TrackerCallback` stops the fit at the next epoch, other programs read `run.should_stop`.

    The training receives the request when it next sends data, within 15 seconds.
    """
    with existing_store(store) as opened:
        found = named_run(opened, run)
        if found.status != "running":
            raise TrackerError(f"{printable(found.name)} is not running, it is {found.status}")
        opened.request_stop(found.id)
    say(f"asked {printable(found.name)} to stop; to see its status: tracker show {found.id}")
