"""The top lines of a run's page: its status and progress in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap
from urllib.parse import unquote

from rich.text import Text

from tracker.cli import styles
from tracker.cli.run_data import WholeRun
from tracker.cli.tables import cell
from tracker.domain.records import Run
from tracker.query.text_format import number

_LOST = (
    "No sign of life since {}: its process was killed, or cannot reach the store. "
    "`tracker sync` where it ran ships what it left there."
)


def header_lines(whole: WholeRun, now: int, width: int) -> Iterator[Text]:
    """The lines on top of a run's page."""
    run = whole.run
    yield cell(run.name, "bold")
    about = cell(f"  experiment {run.experiment}, started {styles.clock(run.started_ms)}", "dim")
    yield Text.assemble((run.id, "yellow"), about)
    yield Text()
    status = (run.status, f"bold {styles.STATUS_STYLES[run.status]}")
    yield Text.assemble(status, _since(run, now), _extent(whole, now))
    if (failure := whole.failure) is not None:
        yield cell(f"{failure.get('type', 'error')}: {failure.get('message', '')}", "red")
    if run.status == "lost":
        yield from (Text(line, "dim") for line in wrap(_LOST.format(styles.clock(run.alive_ms)), width))
    if run.stop_requested and run.status == "running":
        yield Text("It was asked to stop.", "yellow")
    if run.deleted_ms is not None:
        yield Text(f"Deleted {styles.ago(run.deleted_ms, now)}; tracker undelete {run.id} shows it again.", "yellow")
    if run.best_epoch is not None:
        yield _best(whole, width)


def _since(run: Run, now: int) -> str:
    """The status as text, and since when it holds."""
    ended = styles.ago(now if run.ended_ms is None else run.ended_ms, now)
    match run.status:
        case "running":
            return f", last sign of life {styles.ago(run.alive_ms, now)}"
        case "interrupted":
            return f" by Ctrl-C {ended}"
        case "preempted":
            return f" by SIGTERM or SIGHUP {ended}"
        case _:
            return f" {ended}"


def _extent(whole: WholeRun, now: int) -> str:
    """The run's progress, its duration, and the estimated remaining time."""
    run = whole.run
    done = whole.epochs[-1].number + 1 if whole.epochs else 0
    planned = whole.fits[-1].epochs if whole.fits else None
    span = styles.duration(run.took_s(now))
    text = f": {_far(whole, done, planned)} in {span}" if done or whole.metrics else f", in {span}"
    seconds = [epoch.seconds for epoch in whole.epochs if epoch.seconds is not None]
    mean = sum(seconds) / len(seconds) if seconds else 0.0
    if len(seconds) > 1:
        text += f" ({styles.duration(mean)} an epoch)"
    if run.status == "running" and planned and planned > done and mean:
        text += f", about {styles.duration(mean * (planned - done))} to go"
    outcome = whole.fits[-1].outcome if whole.fits else None
    if run.status == "finished" and outcome not in (None, "completed"):
        text += f", {str(outcome).replace('_', ' ')}"
    return text


def _far(whole: WholeRun, done: int, planned: int | None) -> str:
    if planned is not None and planned != done:
        return f"{done} of {styles.plural(planned, 'epoch')}"
    if done:
        return styles.plural(done, "epoch")
    steps = [one.last.step + 1 for one in whole.metrics.values() if one.axis == "step" and one.last]
    return styles.plural(max(steps), "step") if steps else styles.plural(len(whole.metrics), "metric")


def _best(whole: WholeRun, width: int) -> Text:
    """The best epoch, its monitored metric, and as many of its other metrics as fit into the line."""
    run = whole.run
    line = Text.assemble("best epoch ", (str(run.best_epoch), "bold green"))
    if run.best_metric is None or run.best_value is None:
        return line
    line = Text.assemble(line, ": ", cell(run.best_metric), " ", (number(run.best_value), "bold green"))
    there = next((epoch.metrics for epoch in whole.epochs if epoch.number == run.best_epoch), {})
    for key in sorted(there, key=lambda key: (not key.startswith("val_"), key)):
        judged = (series := whole.metrics.get(key)) is not None and series.goal is not None
        more = cell(f", {key} {number(there[key])}", "dim")
        if judged and key != run.best_metric and line.cell_len + more.cell_len <= width:
            line.append_text(more)
    return line


def place(uri: str) -> str:
    """A `file:` URI as a path, any other as it is."""
    return unquote(uri.removeprefix("file://")) if uri.startswith("file:///") else uri
