"""One run on one page: what people look at every day."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.text import Text

from tracker.cli import words
from tracker.cli.curves import curve
from tracker.cli.facts import WholeRun
from tracker.cli.marks import marks_of, notable, remarks
from tracker.cli.standing import place, standing
from tracker.cli.tables import GAP, Column, cell, pairs, table
from tracker.domain.records import Checkpoint, Extreme, Fit, History, Series
from tracker.domain.words import Axis
from tracker.query.texts import number, value_text
from tracker.query.timeline import condensed, described

CURVE_WIDTH = 40
MOST_CURVES = 24
_MOST_PARAMS = 60
_MOST_EVENTS = 16
_MOST_TRACEBACK = 12
_INDENT = 2
_AXES: tuple[Axis, ...] = ("epoch", "step", "time")


def telling(metrics: Mapping[str, Series], most: int | None) -> list[str]:
    """The keys of the metrics to draw, at most so many: those of epochs first, losses before the rest."""

    def rank(key: str) -> tuple[int, bool, str, str]:
        bare = key.rpartition("/")[2].removeprefix("val_")
        return (_AXES.index(metrics[key].axis), bare != "loss", bare, key)

    return sorted(metrics, key=rank)[:most]


def page(whole: WholeRun, curves: Mapping[str, History], *, now: int, width: int, everything: bool) -> Iterator[Text]:
    """The page's lines; `curves` are the histories to draw, in order. `everything` leaves nothing out of long lists."""
    yield from standing(whole, now, width)
    hidden = len(whole.metrics) - len(curves)
    yield from _section("Metrics", _metrics(whole.metrics, curves, width), hidden)
    params = [(cell(key, "dim"), cell(value_text(value))) for key, value in whole.params.items()]
    most = None if everything else _MOST_PARAMS
    yield from _section(
        "Parameters", pairs(params[:most], width=width, indent=_INDENT), len(params[most:] if most else ())
    )
    tags = [(cell(key, "dim"), cell(value)) for key, value in whole.tags.items()]
    yield from _section("Tags", pairs(tags, width=width, indent=_INDENT))
    if len(whole.fits) > 1:
        yield from _section("Fits", _fits(whole.fits, now, width))
    yield from _section("Timeline", _timeline(whole, width, None if everything else _MOST_EVENTS))
    if whole.failure is not None:
        lines = str(whole.failure.get("traceback", "")).rstrip().split("\n")
        shown = lines if everything else lines[-_MOST_TRACEBACK:]
        yield from _section("Traceback", (Text.assemble(" " * _INDENT, cell(line, "dim")) for line in shown if line))
    marked = marks_of(whole.run, whole.checkpoints, whole.metrics)
    kept = whole.checkpoints if everything else notable(whole.checkpoints, marked)
    yield from _section("Checkpoints", _checkpoints(kept, marked, width), len(whole.checkpoints) - len(kept))
    yield Text()
    yield Text.assemble(("Artifacts", "bold"), "  ", cell(place(whole.run.artifact_uri)))


def _section(title: str, lines: Iterable[Text], hidden: int = 0) -> Iterator[Text]:
    lines = list(lines)
    if not lines:
        return
    yield Text()
    yield Text(title, "bold")
    yield from lines
    if hidden:
        yield Text(f"{' ' * _INDENT}and {hidden} more: --all", "dim")


def _metrics(metrics: Mapping[str, Series], curves: Mapping[str, History], width: int) -> Iterator[Text]:
    """A line a metric, grouped by what they run over."""
    texts = _numbers(metrics, curves)
    keys = min(max((len(key) for key in texts), default=0), 26)
    taken = keys + sum(max((len(text[i]) for text in texts.values()), default=0) for i in (0, 1))
    room = max(min(CURVE_WIDTH, width - _INDENT - taken - 3 * GAP), 8)
    rows: list[list[Text]] = []
    for axis in _AXES:
        of_axis = [key for key in texts if metrics[key].axis == axis]
        if not of_axis:
            continue
        titles = ("", _range(axis, [curves[key] for key in of_axis]), *(("", "") if rows else ("first → last", "best")))
        rows.append([Text(title, "dim") for title in titles])
        for key in of_axis:
            history, best = curves[key], metrics[key].best
            line = curve(history.steps.tolist(), history.values.tolist(), room, mark=best.step if best else None)
            rows.append([cell(key), line, Text(texts[key][0]), Text(texts[key][1], "green")])
    columns = [Column(flexible=True), Column(), Column(), Column()]
    yield from table(columns, rows, width=width, indent=_INDENT)


def _numbers(metrics: Mapping[str, Series], curves: Mapping[str, History]) -> dict[str, tuple[str, str]]:
    """By key the texts `first → last`, the arrows below each other, and `best @ step`."""
    firsts = {key: number(float(history.values[0])) for key, history in curves.items() if len(history)}
    longest = max((len(first) for first in firsts.values()), default=0)
    texts = {}
    for key, first in firsts.items():
        last, best = metrics[key].last, metrics[key].best
        change = (
            f"{first:>{longest}} → {number(last.value)}" if last and len(curves[key]) > 1 else f"{first:>{longest}}"
        )
        texts[key] = (change, _at(best) if best else "")
    return texts


def _at(extreme: Extreme) -> str:
    return f"{number(extreme.value)} @ {extreme.step}"


def _range(axis: Axis, histories: Sequence[History]) -> str:
    first = min(int(history.steps[0]) for history in histories)
    last = max(int(history.steps[-1]) for history in histories)
    if axis == "time":
        begin = min(int(history.ms[0]) for history in histories)
        return f"over {words.duration((max(int(history.ms[-1]) for history in histories) - begin) / 1000)}"
    return f"{axis}s {first} to {last}" if last > first else f"{axis} {first}"


def _fits(fits: Sequence[Fit], now: int, width: int) -> Iterator[Text]:
    columns = [
        Column(), Column(title="epochs"), Column(title="outcome"), Column(title="took", right=True),
        Column(title="batch size", right=True), Column(title="continues"), Column(title="host", flexible=True),
    ]  # fmt: skip
    rows = [
        [
            Text(str(fit.number)),
            Text(f"{fit.first_epoch} to {fit.epochs - 1}" if fit.epochs else f"from {fit.first_epoch}"),
            Text((fit.outcome or "running").replace("_", " ")),
            Text(words.duration(words.took(fit.started_ms, fit.ended_ms, now))),
            Text("–" if fit.batch_size is None else str(fit.batch_size)),
            Text("" if fit.resumed_from is None else f"after epoch {fit.resumed_from}"),
            cell(fit.host or ""),
        ]
        for fit in fits
    ]
    return table(columns, rows, width=width, indent=_INDENT)


def _timeline(whole: WholeRun, width: int, most: int | None) -> Iterator[Text]:
    head, hidden, tail = condensed(whole.events, most or len(whole.events))
    columns = [Column(right=True), Column(), Column(flexible=True)]
    rows = [
        [
            Text(words.duration((event.ms - whole.run.started_ms) / 1000), "dim"),
            Text("" if event.epoch is None else f"epoch {event.epoch}", "dim"),
            cell(described(event)),
        ]
        for event in (*head, *tail)
    ]
    if hidden:
        rows.insert(len(head), [Text(), Text(), Text(f"… {words.plural(hidden, 'event')} in between: --all", "dim")])
    yield from table(columns, rows, width=width, indent=_INDENT)


def _checkpoints(checkpoints: Sequence[Checkpoint], marked: Mapping[int, str], width: int) -> Iterator[Text]:
    rows = [
        [
            Text(f"epoch {one.epoch}"),
            cell(marked.get(one.id, ""), "green"),
            cell(one.format),
            Text(words.size(one.size)),
            cell(remarks(one), "yellow"),
            cell(", ".join(f"{key} {number(value)}" for key, value in one.metrics.items()), "dim"),
        ]
        for one in checkpoints
    ]
    columns = [Column(), Column(), Column(), Column(right=True), Column(), Column(flexible=True)]
    return table(columns, rows, width=width, indent=_INDENT)
