"""A run's outcome and decisions as Markdown, which MLflow shows as the run's description."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tracker.domain.catalogue import RunDetail
from tracker.domain.checkpoint_ranking import best_of, latest_of
from tracker.domain.ports import RunReader
from tracker.domain.records import Checkpoint, Event, Fit, Run, Series
from tracker.query.quantity_format import duration, plural, size, thousands, took
from tracker.query.text_format import number, printable
from tracker.query.timeline import condensed, described

MOST_EVENTS = 40
_MOST_TAGGED = 8
_MOST_TRACEBACK = 12
_LONGEST = 400
_MARKS = re.compile(r"([\\`*_{}\[\]#|~!])")
_STATUS = {
    "running": "Running",
    "finished": "Finished",
    "failed": "Failed",
    "interrupted": "Interrupted by Ctrl-C",
    "preempted": "Stopped by SIGTERM or SIGHUP",
    "lost": "Lost",
}
_LOST = (
    "It gave no more sign of life: its process was killed, or cannot reach the store. "
    "`tracker sync` where it ran ships what it left there."
)


def description_of(store: RunReader, detail: RunDetail) -> str | None:
    """The description of a run; None for one without fits and decisions, whose metrics say everything."""
    run = detail.run
    fits, events = store.fits(run.id), store.events(run.id)
    if not fits and not events:
        return None
    return note(run, detail.metrics, fits, events, store.checkpoints(run.id))


def note(
    run: Run,
    metrics: Mapping[str, Series],
    fits: Sequence[Fit],
    events: Sequence[Event],
    checkpoints: Sequence[Checkpoint],
) -> str:
    """Markdown: the outcome, the best epoch, what failed, the fits if there are several, checkpoints, the timeline.

    Nothing in it depends on the time of reading. The run's own texts are escaped, so that they are shown as text.
    """
    parts = [
        "\n\n".join(_outcome(run, metrics, fits)),
        "\n".join(_failure(run, events)),
        "\n".join(_fits(fits)),
        "\n".join(_checkpoints(run, metrics, checkpoints)),
        "\n".join(_timeline(run, events)),
    ]
    return "\n\n".join(part for part in parts if part)


def plain(text: str) -> str:
    """`text` on one line with Markdown and HTML markup escaped."""
    text = printable(text)
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKS.sub(r"\\\1", escaped)


def _outcome(run: Run, metrics: Mapping[str, Series], fits: Sequence[Fit]) -> Iterator[str]:
    done = max((one.last.step + 1 for one in metrics.values() if one.axis == "epoch" and one.last), default=0)
    planned = fits[-1].epochs if fits else None
    far = f"{done} of {plural(planned, 'epoch')}" if planned and planned != done else plural(done, "epoch")
    text = f"**{_STATUS[run.status]}**"
    if run.status == "running":
        text += f", {far} so far" if done else ""
    else:
        span = f"in {duration(run.took_s(run.alive_ms))}"
        text += f" after {far} {span}" if done else f" {span}"
    outcome = fits[-1].outcome if fits else None
    if run.status == "finished" and outcome not in (None, "completed"):
        text += f", {str(outcome).replace('_', ' ')}"
    yield f"{text}."
    if run.status == "lost":
        yield _LOST
    if run.stop_requested and run.status == "running":
        yield "It was asked to stop."
    if run.best_epoch is not None:
        value = "" if run.best_value is None else f" {number(run.best_value)}"
        named = "" if run.best_metric is None else f": {plain(run.best_metric)}{value}"
        yield f"Best epoch **{run.best_epoch}**{named}."


def _failure(run: Run, events: Sequence[Event]) -> Iterator[str]:
    found = next((event.detail for event in reversed(events) if event.kind == "run_failed"), None)
    if run.status != "failed" or found is None:
        return
    yield f"{plain(str(found.get('type', 'error')))}: {plain(str(found.get('message', '')))}"
    lines = [printable(line) for line in str(found.get("traceback") or "").rstrip().split("\n") if line.strip()]
    if lines:
        # Indented code has no fence that a line of the traceback could close.
        yield ""
        yield from (f"    {_code(line)}" for line in lines[-_MOST_TRACEBACK:])


def _code(line: str) -> str:
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def _fits(fits: Sequence[Fit]) -> Iterator[str]:
    if len(fits) < 2:
        return
    yield "| fit | epochs | outcome | took | batch size | continues |"
    yield "|---|---|---|---|---|---|"
    for fit in fits:
        cells: list[Any] = [
            fit.number,
            f"{fit.first_epoch} to {fit.epochs - 1}" if fit.epochs else f"from {fit.first_epoch}",
            (fit.outcome or "running").replace("_", " "),
            "" if fit.ended_ms is None else duration(took(fit.started_ms, fit.ended_ms, fit.ended_ms)),
            "" if fit.batch_size is None else fit.batch_size,
            "" if fit.resumed_from is None else f"after epoch {fit.resumed_from}",
        ]
        yield f"| {' | '.join(map(str, cells))} |"


def _checkpoints(run: Run, metrics: Mapping[str, Series], checkpoints: Sequence[Checkpoint]) -> Iterator[str]:
    kept = [one for one in checkpoints if one.status == "published"]
    if not kept:
        return
    series = metrics.get(run.best_metric) if run.best_metric is not None else None
    best, latest = best_of(kept, run.best_metric, series.goal if series else None), latest_of(kept)
    state = latest_of(kept, "state")
    pruned = sum(one.status == "pruned" and one.role == "model" for one in checkpoints)
    models = sum(one.role == "model" for one in kept)
    gone = f" ({thousands(pruned)} pruned)" if pruned else ""
    yield f"{plural(models, 'checkpoint')} among the artifacts{gone}:" if models else "Among the artifacts:"
    yield ""
    named = "best" if run.best_metric is None else f"best by {plain(run.best_metric)}"
    if best is not None and best != latest:
        yield _checkpoint(named, best, run)
    if latest is not None:
        yield _checkpoint(f"{named} and latest" if best == latest else "latest", latest, run)
    tagged = [one for one in kept if one.tag is not None and one not in (best, latest, state)]
    yield from (_checkpoint("tagged", one, run) for one in tagged[-_MOST_TAGGED:])
    if state is not None:
        yield _checkpoint("state to resume from", state, run)


def _checkpoint(word: str, one: Checkpoint, run: Run) -> str:
    place = plain(one.uri.removeprefix(f"{run.artifact_uri}/"))
    tag = "" if one.tag is None else f", tagged {plain(one.tag)}" if word != "tagged" else f" {plain(one.tag)}"
    return f"- {word}{tag}: epoch {one.epoch}, {size(one.size)}, {place}"


def _timeline(run: Run, events: Sequence[Event]) -> Iterator[str]:
    if not events:
        return
    yield "### Timeline"
    yield ""
    head, hidden, tail = condensed(events, MOST_EVENTS)
    yield from (_line(run, event) for event in head)
    if hidden:
        yield f"- … {plural(hidden, 'more decision')} …"
    yield from (_line(run, event) for event in tail)


def _line(run: Run, event: Event) -> str:
    epoch = "" if event.epoch is None else f"epoch {event.epoch}, "
    return f"- {epoch}{duration((event.ms - run.started_ms) / 1000)}: {plain(described(event))}"
