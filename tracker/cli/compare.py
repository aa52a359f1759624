"""`tracker compare`: runs side by side, and `--fail-if` for pipelines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import click
from rich.cells import cell_len
from rich.text import Text

from tracker import api
from tracker.cli import fail_if, styles
from tracker.cli.fail_if import FailCondition
from tracker.cli.named import named_run
from tracker.cli.output import jsonable, print_json, print_lines, print_text, say, table_width
from tracker.cli.stores import existing_store, store_option
from tracker.cli.tables import GAP, Column, cell, table
from tracker.query.comparison import METRICS, Comparison, Row
from tracker.query.text_format import printable

_INDENT = 2


@click.command()
@click.argument("runs", metavar="RUN RUN...", nargs=-1, required=True)
@click.option("--format", "format_", type=click.Choice(["table", "markdown", "json", "html"]), default="table",
              show_default=True)  # fmt: skip
@click.option("--fail-if", "conditions", metavar="CONDITION", multiple=True,
              help=f'Exit 1 if this holds for any run after the first: {fail_if.GRAMMAR}. With a sign the number is a'
              ' difference from the first run: "val_loss > +2%". May be repeated.')  # fmt: skip
@store_option
def compare(runs: Sequence[str], format_: str, conditions: Sequence[str], store: str | None) -> None:
    """Compare runs: metrics at each run's best epoch, and the parameters that differ.

    The first RUN is the baseline. Where a run has no best epoch, or a metric has no value there, the last value is
    shown, marked with *. A missing value or NaN fails --fail-if too.
    """
    gates = [FailCondition.parse(text) for text in conditions]
    with existing_store(store) as opened:
        comparison = api.compare([named_run(opened, run).id for run in runs], store=opened)
    if len(comparison.runs) < 2:
        raise click.UsageError("comparing takes two different runs at least")
    if format_ == "json":
        print_json(_as_mapping(comparison))
    elif format_ == "table":
        print_lines(_lines(comparison))
    else:
        print_text(comparison.to_markdown() if format_ == "markdown" else comparison.to_html())
    failures = [failure for condition in gates for failure in condition.failures(comparison)]
    for failure in failures:
        say(printable(failure))
    if failures:
        click.get_current_context().exit(1)


def _as_mapping(comparison: Comparison) -> dict[str, object]:
    return {
        "runs": jsonable(comparison.runs),
        "best_epochs": dict(comparison.best_epochs),
        "metrics": jsonable(comparison.metrics),
        "last_values": {key: sorted(runs) for key, runs in comparison.last_values.items() if runs},
        "params_diff": jsonable(comparison.params_diff),
    }


def _lines(comparison: Comparison) -> Iterator[Text]:
    width = table_width()
    labels = comparison.labels
    yield from _runs(comparison, width)
    for section in comparison.sections()[1:]:
        is_metrics = section.title == METRICS
        by = {run.best_metric for run in comparison.runs if run.best_metric}
        yield Text()
        yield Text(section.title + (f" ({by.pop()})" if is_metrics and len(by) == 1 else ""), "bold")
        change = is_metrics and len(labels) == 2
        rows = [_row(row, comparison if change else None) for row in section.rows]
        columns = [Column(), *(Column(title=printable(label), right=is_metrics, flexible=True) for label in labels)]
        if change:
            columns.append(Column(title="change", right=True))
        if width is not None and _natural_width(columns, rows) > width:
            columns[1 : 1 + len(labels)] = [
                Column(title=str(number), right=is_metrics, flexible=not is_metrics)
                for number in range(1, len(labels) + 1)
            ]
        yield from table(columns, rows, width=width, indent=_INDENT)
    if comparison.note:
        yield Text()
        yield Text(comparison.note, "dim")


def _runs(comparison: Comparison, width: int | None) -> Iterator[Text]:
    """The runs with the numbers that replace their names in narrow tables; the baseline is the first."""
    columns = [Column(), Column(flexible=True), Column(), Column(optional=True), Column()]
    rows = [
        [
            Text(str(number), "dim"),
            cell(run.name, "bold"),
            cell(run.id, "yellow"),
            Text(run.status, styles.STATUS_STYLES[run.status]),
            Text("no best epoch" if run.best_epoch is None else f"best epoch {run.best_epoch}"),
        ]
        for number, run in enumerate(comparison.runs, start=1)
    ]
    return table(columns, rows, width=width)


def _row(row: Row, comparison: Comparison | None) -> list[Text]:
    """A line of a table; with a `comparison` of two runs also the change from one to the other."""
    cells = [cell(text, "bold green" if i in row.best else "") for i, text in enumerate(row.cells)]
    if comparison is None:
        return [cell(row.label), *cells]
    first, second = (comparison.metrics[row.label].get(run.id) for run in comparison.runs)
    return [cell(row.label), *cells, Text("" if first is None or second is None else _change(first, second), "dim")]


def _change(first: float, second: float) -> str:
    change = (second - first) / abs(first) if first else math.nan
    if not math.isfinite(change):
        return ""
    return "=" if second == first else f"{change:+.2%}" if abs(change) < 10 else f"{change:+.0%}"


def _natural_width(columns: Sequence[Column], rows: Sequence[Sequence[Text]]) -> int:
    widths = [max(cell_len(column.title), *(row[i].cell_len for row in rows)) for i, column in enumerate(columns)]
    return _INDENT + sum(widths) + GAP * (len(widths) - 1)
