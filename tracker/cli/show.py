"""`tracker show`: one run, as a page or complete as JSON."""

from __future__ import annotations

import click

from tracker.cli.named import named_run
from tracker.cli.output import jsonable, print_json, print_lines, width
from tracker.cli.run_data import WholeRun
from tracker.cli.run_page import CURVE_WIDTH, MOST_CURVES, metrics_to_draw, page
from tracker.cli.stores import existing_store, store_option
from tracker.domain.identity import now_ms

_POINTS = 4 * CURVE_WIDTH


@click.command()
@click.argument("run")
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--all", "everything", is_flag=True, help="Show long lists in full.")
@store_option
def show(run: str, format_: str, everything: bool, store: str | None) -> None:
    """Show RUN: its status, curves, parameters and decisions.

    Epochs count from 0. The JSON has the objects run, params, tags and metrics (summaries), and the lists fits,
    epochs, events and checkpoints.
    """
    with existing_store(store) as opened:
        run_id = named_run(opened, run).id
        whole = WholeRun.read(opened, run_id)
        if format_ == "json":
            print_json(jsonable(whole))
            return
        keys = metrics_to_draw(whole.metrics, None if everything else MOST_CURVES)
        curves = {key: opened.history(run_id, key, max_points=_POINTS) for key in keys}
    print_lines(page(whole, curves, now=now_ms(), width=width(), everything=everything))
