"""The page of one run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.text import Text

from tracker.cli import styles
from tracker.cli.checkpoint_labels import best_note, marks_of, measured, notable, remarks
from tracker.cli.curves import curve
from tracker.cli.params import parameters
from tracker.cli.run_data import WholeRun
from tracker.cli.run_header import header_lines, place
from tracker.cli.tables import GAP, Column, cell, pairs, table
from tracker.domain.records import Checkpoint, Extreme, Fit, History, Series
from tracker.domain.vocabulary import Axis
from tracker.query.text_format import number
from tracker.query.timeline import condensed, described

CURVE_WIDTH = 40
MOST_CURVES = 24
_MOST_EVENTS = 16
_MOST_TRACEBACK = 12
_INDENT = 2
_AXES: tuple[Axis, ...] = ("epoch", "step", "time")


def metrics_to_draw(metrics: Mapping[str, Series], most: int | None) -> list[str]:
    """The keys of the metrics to draw, at most `most`: those of epochs first, losses before the rest."""

    def rank(key: str) -> tuple[int, bool, str, str]:
        bare = key.rpartition("/")[2].removeprefix("val_")
        return (_AXES.index(metrics[key].axis), bare != "loss", bare, key)

    return sorted(metrics, key=rank)[:most]


def page(whole: WholeRun, curves: Mapping[str, History], *, now: int, width: int, everything: bool) -> Iterator[Text]:
    """The page's lines; `curves` are the histories to draw, in order. `everything` leaves nothing out of long lists."""
    yield from header_lines(whole, now, width)
    hidden = len(whole.metrics) - len(curves)
    yield from _section("Metrics", _metrics(whole.metrics, curves, width), hidden)
    listed, hidden = parameters(whole.params, width=width, indent=_INDENT, everything=everything)
    yield from _section("Parameters", listed, hidden)
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
    hidden = len(whole.checkpoints) - len(kept)
    rows = _checkpoints(kept, marked, whole.run.best_metric, width)
    yield from _section("Checkpoints", rows, hidden, best_note(whole.run, whole.checkpoints))
    yield Text()
    yield Text.assemble(("Artifacts", "bold"), "  ", cell(place(whole.run.artifact_uri)))


def _section(title: str, lines: Iterable[Text], hidden: int = 0, about: str = "") -> Iterator[Text]:
    lines = list(lines)
    if not lines:
        return
    yield Text()
    yield Text.assemble((title, "bold"), cell(f"  {about}" * bool(about), "dim"))
    yield from lines
    if hidden:
        yield Text(f"{' ' * _INDENT}and {hidden} more: --all", "dim")


def _metrics(metrics: Mapping[str, Series], curves: Mapping[str, History], width: int) -> Iterator[Text]:
    """A line a metric, in a table for each axis, so that long names narrow their own table's curves only."""
    texts = _numbers(metrics, curves)
    is_first = True
    for axis in _AXES:
        of_axis = {key: text for key, text in texts.items() if metrics[key].axis == axis}
        if of_axis:
            yield from _of_axis(
                axis, of_axis, metrics, curves, width, ("first → last", "best") if is_first else ("", "")
            )
            is_first = False


def _of_axis(
    axis: Axis,
    texts: Mapping[str, tuple[str, str]],
    metrics: Mapping[str, Series],
    curves: Mapping[str, History],
    width: int,
    titles: tuple[str, str],
) -> Iterator[Text]:
    rest = [max(len(title), *(len(text[i]) for text in texts.values())) for i, title in enumerate(titles)]
    taken = max(map(len, texts)) + sum(rest) + GAP * (1 + sum(wide > 0 for wide in rest))
    span = _range(axis, [curves[key] for key in texts])
    room = max(min(CURVE_WIDTH, width - _INDENT - taken), 8)
    rows = [[Text(title, "dim") for title in ("", span, *titles)]]
    for key, (change, best_text) in texts.items():
        history, best = curves[key], metrics[key].best
        line = curve(history.steps.tolist(), history.values.tolist(), room, mark=best.step if best else None)
        rows.append([cell(key), line, Text(change), Text(best_text, "green")])
    yield from table([Column(flexible=True), Column(), Column(), Column()], rows, width=width, indent=_INDENT)


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
        return f"over {styles.duration((max(int(history.ms[-1]) for history in histories) - begin) / 1000)}"
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
            Text(styles.duration(styles.took(fit.started_ms, fit.ended_ms, now))),
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
            Text(styles.duration((event.ms - whole.run.started_ms) / 1000), "dim"),
            Text("" if event.epoch is None else f"epoch {event.epoch}", "dim"),
            cell(described(event)),
        ]
        for event in (*head, *tail)
    ]
    if hidden:
        rows.insert(len(head), [Text(), Text(), Text(f"… {styles.plural(hidden, 'event')} in between: --all", "dim")])
    yield from table(columns, rows, width=width, indent=_INDENT)


def _checkpoints(
    checkpoints: Sequence[Checkpoint], marked: Mapping[int, str], metric: str | None, width: int
) -> Iterator[Text]:
    rows = [
        [
            Text(f"epoch {one.epoch}"),
            cell(marked.get(one.id, ""), "green"),
            cell(one.format),
            Text(styles.size(one.size)),
            cell(remarks(one), "yellow"),
            cell(measured(one, metric), "dim"),
        ]
        for one in checkpoints
    ]
    columns = [Column(), Column(), Column(), Column(right=True), Column(), Column(flexible=True)]
    return table(columns, rows, width=width, indent=_INDENT)
