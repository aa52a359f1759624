"""`tracker history`: the points of one metric."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
from rich.text import Text

from tracker.cli import styles
from tracker.cli.curves import curve
from tracker.cli.named import named_run
from tracker.cli.output import jsonable, print_csv, print_json, print_lines, say, stdout_is_terminal, width
from tracker.cli.stores import existing_store, store_option
from tracker.cli.tables import cell
from tracker.domain.limits import number_text
from tracker.domain.records import History, Run

_AT_ONCE = 500
"""Maximum number of points on a terminal unless an option sets it."""


@click.command()
@click.argument("run")
@click.argument("key")
@click.option("--format", "format_", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--max-points", metavar="N", type=click.IntRange(min=4),
              help="Print at most N points: the first, the last, and the extremes of each part between.")  # fmt: skip
@click.option("--raw", is_flag=True, help="Print superseded points too, each with its fit.")
@store_option
def history(run: str, key: str, format_: str, max_points: int | None, raw: bool, store: str | None) -> None:
    """Print the points of metric KEY of RUN in step order.

    Steps of epoch metrics are epochs, counted from 0; ms is milliseconds since 1970, UTC.
    """
    if raw and max_points is not None:
        raise click.UsageError("--raw prints every point, so it cannot be combined with --max-points")
    at_once = format_ == "table" and stdout_is_terminal() and not raw
    with existing_store(store) as opened:
        found = named_run(opened, run)
        points = opened.history(found.id, key, max_points=max_points or (_AT_ONCE if at_once else None), raw=raw)
        total = opened.metrics(found.id)[key].count if at_once and len(points) else len(points)
    if format_ == "json":
        print_json(_as_mapping(found, points), compact=True)
    elif format_ == "csv":
        columns = _columns(points)
        print_csv(list(columns), zip(*columns.values(), strict=True))
    else:
        print_lines(_lines(found, points))
        if max_points is None and len(points) < total:
            say(f"{len(points)} of {styles.thousands(total)} points, extremes kept; --format csv prints all")


def _columns(points: History) -> dict[str, list[Any]]:
    """The arrays by the name of one point's value."""
    columns: dict[str, list[Any]] = {
        "step": points.steps.tolist(),
        "ms": points.ms.tolist(),
        "value": points.values.tolist(),
    }
    if points.fits is not None and points.superseded is not None:
        columns |= {"fit": points.fits.tolist(), "superseded": points.superseded.tolist()}
    return columns


def _as_mapping(run: Run, points: History) -> dict[str, Any]:
    arrays: dict[str, Any] = {"steps": points.steps, "ms": points.ms, "values": points.values}
    if points.fits is not None and points.superseded is not None:
        arrays |= {"fits": points.fits, "superseded": points.superseded}
    return {"run_id": run.id, "key": points.key, "axis": points.axis, **{k: jsonable(a) for k, a in arrays.items()}}


def _lines(run: Run, points: History) -> Iterator[Text]:
    if not len(points):
        return
    if stdout_is_terminal():
        yield Text.assemble(cell(points.key, "bold"), " of ", cell(run.name, "bold"))
        yield curve(points.steps.tolist(), points.values.tolist(), width() - 1)
        yield Text()
    steps = points.steps.tolist()
    wide = max(len(str(steps[-1])), len(points.axis))
    raw = points.fits is not None
    yield Text(f"{points.axis:>{wide}}  {'at':<19}  {'value':<12}{'  fit' if raw else ''}", "dim")
    for i, (step, ms, value) in enumerate(zip(steps, points.ms.tolist(), points.values.tolist(), strict=True)):
        text = f"{step:>{wide}}  {styles.clock(ms)}  {_value(value)}"
        if points.fits is None or points.superseded is None:
            yield Text(text)
        else:
            gone = bool(points.superseded[i])
            yield Text(f"{text:<{wide + 35}}  {points.fits[i]}{', superseded' if gone else ''}", "dim" if gone else "")


def _value(value: float) -> str:
    return f"{value:<12.6g}" if value - value == 0 else f"{number_text(value):<12}"
