"""`tracker runs`: the list of runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click
from rich.text import Text

from tracker.cli import styles
from tracker.cli.output import jsonable, print_csv, print_json, print_lines, say, stdout_is_terminal, table_width
from tracker.cli.stores import existing_store, store_option
from tracker.cli.tables import Column, cell, table
from tracker.domain.identity import now_ms
from tracker.domain.ports import RunReader
from tracker.domain.records import Run
from tracker.query.text_format import SHORT_ID, aligned_numbers, printable, short_ids

FIELDS = (
    "id", "name", "experiment", "status", "started_ms", "ended_ms", "best_epoch", "best_metric", "best_value",
    "artifact_uri",
)  # fmt: skip
_NEIGHBOURS = 1000


@click.command()
@click.option("--filter", "filter_", metavar="F", default="", help="List only matching runs, for example:"
              " \"metrics.val_loss.best < 0.3 AND params.optimizer = 'Adam'\".")  # fmt: skip
@click.option("--order-by", metavar="K", multiple=True, help="Sort, for example: metrics.val_loss.best ASC."
              " May be repeated; without it newest first.")  # fmt: skip
@click.option("--experiment", metavar="E", multiple=True, help="List only this experiment's runs. May be repeated.")
@click.option(
    "--limit", metavar="N", type=click.IntRange(1), default=100, show_default=True, help="List at most N runs."
)
@click.option("--format", "format_", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@store_option
def runs(
    filter_: str, order_by: Sequence[str], experiment: Sequence[str], limit: int, format_: str, store: str | None
) -> None:
    """List runs, newest first."""
    with existing_store(store) as opened:
        page = opened.search_runs(filter_, experiments=experiment or None, order_by=order_by, limit=limit)
        if format_ == "json":
            print_json([{field: jsonable(getattr(run, field)) for field in FIELDS} for run in page.runs])
        elif format_ == "csv":
            print_csv(FIELDS, ([getattr(run, field) for field in FIELDS] for run in page.runs))
        elif page.runs:
            print_lines(_lines(opened, page.runs))
        else:
            say(f"{'no run matches' if filter_ or experiment else 'there is no run'} in {opened.url}")
        for warning in page.warnings:
            say(printable(warning))
        if page.next_page_token is not None:
            say(f"these are the first {limit}; --limit shows more")


def _lines(store: RunReader, runs: Sequence[Run]) -> Iterator[Text]:
    """The table; with whole ids if stdout is no terminal, so that any id can be searched for."""
    shown = _short_ids(store, runs) if stdout_is_terminal() else {run.id: run.id for run in runs}
    metrics = {run.best_metric for run in runs if run.best_value is not None}
    of_all = f" {metrics.copy().pop()}" if len(metrics) == 1 else ""
    several = len({run.experiment for run in runs}) > 1
    columns = [
        Column(title="id"),
        Column(title="name", flexible=True),
        *([Column(title="experiment", flexible=True, optional=True)] if several else []),
        Column(title="status"),
        Column(title="started"),
        Column(title="took", right=True, optional=True),
        Column(title="epochs", right=True),
        Column(title=f"best{of_all}", right=True),
    ]
    now = now_ms()
    bests = _bests(runs, named=not of_all)
    rows = [
        [
            cell(shown[run.id], "yellow"),
            cell(run.name, "bold"),
            *([cell(run.experiment)] if several else []),
            cell(run.status, styles.STATUS_STYLES[run.status]),
            cell(styles.ago(run.started_ms, now)),
            cell(styles.duration(run.took_s(now))),
            cell(_epochs(store, run)),
            cell(best),
        ]
        for run, best in zip(runs, bests, strict=True)
    ]
    return table(columns, rows, width=table_width())


def _bests(runs: Sequence[Run], *, named: bool) -> list[str]:
    """Each run's best value and its epoch; `named` adds the metric, if the runs have different ones."""
    values = iter(aligned_numbers([run.best_value for run in runs if run.best_value is not None]))
    return [
        "–" if run.best_value is None else f"{f'{run.best_metric} ' * named}{next(values)} @ {run.best_epoch}"
        for run in runs
    ]


def _epochs(store: RunReader, run: Run) -> str:
    """The number of epochs done, and of those planned if it differs."""
    lasts = [one.last.step + 1 for one in store.metrics(run.id).values() if one.axis == "epoch" and one.last]
    planned = [fit.epochs for fit in store.fits(run.id)][-1:]
    done = max(lasts, default=0)
    if planned and planned[0] not in (None, done):
        return f"{done}/{planned[0]}"
    return str(done) if done else "–"


def _short_ids(store: RunReader, runs: Sequence[Run]) -> dict[str, str]:
    """The shortest unique prefix of each id among all runs in the store, listed or not."""
    begins = dict.fromkeys(run.id[:SHORT_ID] for run in runs)
    neighbours = [run.id for begin in begins for run in store.find_runs(begin, limit=_NEIGHBOURS)]
    return short_ids([run.id for run in runs], neighbours)
