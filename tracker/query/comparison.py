"""Runs side by side: the parameters in which they differ, and every metric at each run's best epoch."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from tracker.domain.errors import TrackerError
from tracker.domain.extras import how_to_install
from tracker.domain.goals import Goal
from tracker.domain.ports import RunReader
from tracker.domain.records import Run, Series
from tracker.query.text_format import aligned_numbers, printable, short_ids, value_text

METRICS = "Metrics at each run's best epoch"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """The data of one run; `at_best` are the metrics of its best epoch, empty if it has none."""

    run: Run
    params: Mapping[str, Any]
    series: Mapping[str, Series]
    at_best: Mapping[str, float]


def facts_of(store: RunReader, run: Run) -> RunFacts:
    """Reads the data of `run` from `store`."""
    epochs = store.epochs(run.id) if run.best_epoch is not None else ()
    at_best = next((epoch.metrics for epoch in epochs if epoch.number == run.best_epoch), {})
    return RunFacts(run=run, params=store.params(run.id), series=store.metrics(run.id), at_best=at_best)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a comparison: a cell for each run, in order; `best` are the positions of the best values."""

    label: str
    cells: Sequence[str]
    best: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A titled table of a comparison."""

    title: str
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Some runs side by side; mappings have the runs' ids as inner keys, in the order of `runs`.

    `params_diff`: the values of each parameter that differs or that some runs lack. `metrics`: each metric's value at
    the run's best epoch. A run without a best epoch, or a metric without a value there, gives its last value instead,
    and the run's id is in `last_values[key]`. System metrics are left out. `best_epochs`: counted from 0; None if a run
    has none. `goals`: None if it is unknown, or the runs disagree.
    """

    runs: Sequence[Run]
    params_diff: Mapping[str, Mapping[str, Any]]
    metrics: Mapping[str, Mapping[str, float]]
    best_epochs: Mapping[str, int | None]
    last_values: Mapping[str, tuple[str, ...]]
    goals: Mapping[str, Goal | None]

    @property
    def labels(self) -> Sequence[str]:
        """The label of each run: its name, with a prefix of its id if several share it."""
        names = [run.name for run in self.runs]
        short = short_ids([run.id for run in self.runs])
        return [run.name if names.count(run.name) == 1 else f"{run.name} {short[run.id]}" for run in self.runs]

    def sections(self) -> Sequence[Section]:
        """The tables to show: runs, metrics, parameters. Empty tables are left out."""
        values = [
            Row(label=key, cells=self._metric_cells(key), best=self._best_of(key)) for key in _in_order(self.metrics)
        ]
        sections = [
            Section(title="Runs", rows=self._run_rows()),
            Section(title=METRICS, rows=values),
            Section(title="Parameters that differ", rows=self._param_rows()),
        ]
        return [section for section in sections if section.rows]

    @property
    def note(self) -> str:
        """What the marks in the metrics mean; empty if there are none."""
        marked = any(self.last_values.values())
        return "* the last value: there is none at the run's best epoch" if marked else ""

    def to_markdown(self) -> str:
        """The tables in GitHub's Markdown; the best value of a metric is bold."""
        parts = []
        for section in self.sections():
            lines = [_markdown_line(["", *map(_markdown, self.labels)]), "|:--|" + "--:|" * len(self.runs)]
            for row in section.rows:
                cells = [_markdown(cell) for cell in row.cells]
                cells = [f"**{cell}**" if i in row.best else cell for i, cell in enumerate(cells)]
                lines.append(_markdown_line([_markdown(row.label), *cells]))
            parts.append(f"**{section.title}**\n\n" + "\n".join(lines) + "\n")
        if self.note:
            parts.append(_markdown(self.note) + "\n")
        return "\n".join(parts)

    def to_html(self) -> str:
        """A self-contained HTML page. Everything that was recorded is escaped."""
        title = html.escape(printable(" / ".join(self.labels)))
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{title}</title>\n<style>body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2rem; }}</style>\n"
            f"</head>\n<body>\n{self._repr_html_()}</body>\n</html>\n"
        )

    def to_frame(self) -> Any:
        """A pandas DataFrame with a row for each run, indexed by run id.

        Columns: name, experiment, status, best_epoch, then `metrics.KEY` and, of parameters that differ, `params.KEY`.
        Raises TrackerError if pandas is not installed; everything else here works without it.
        """
        try:
            pandas = import_module("pandas")
        except ImportError as error:
            hint = how_to_install("pandas")
            raise TrackerError(f"to_frame() needs pandas, which is not installed: {hint}") from error
        return pandas.DataFrame(
            [
                {
                    "name": run.name,
                    "experiment": run.experiment,
                    "status": run.status,
                    "best_epoch": self.best_epochs[run.id],
                    **{f"metrics.{key}": of.get(run.id) for key, of in self.metrics.items()},
                    **{f"params.{key}": of.get(run.id) for key, of in self.params_diff.items()},
                }
                for run in self.runs
            ],
            index=pandas.Index([run.id for run in self.runs], name="run_id"),
        )

    def __str__(self) -> str:
        return self.to_markdown()

    def _repr_html_(self) -> str:
        parts = []
        for section in self.sections():
            head = "".join(f"<th>{html.escape(printable(label))}</th>" for label in self.labels)
            rows = "\n".join(_html_row(row) for row in section.rows)
            parts.append(
                f"<table>\n<caption>{html.escape(section.title)}</caption>\n"
                f"<thead><tr><th></th>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n"
            )
        note = f"<p>{html.escape(self.note)}</p>\n" if self.note else ""
        return f'<div class="tracker-comparison">\n<style>{_CSS}</style>\n{"".join(parts)}{note}</div>\n'

    def _run_rows(self) -> list[Row]:
        def row(label: str, cell: Callable[[Run], str]) -> Row:
            return Row(label=label, cells=[cell(run) for run in self.runs])

        rows = [row("id", lambda run: run.id), row("status", lambda run: run.status)]
        if len({run.experiment for run in self.runs}) > 1:
            rows.insert(1, row("experiment", lambda run: run.experiment))
        if any(epoch is not None for epoch in self.best_epochs.values()):
            rows.append(row("best epoch", self._best_epoch_cell))
        return rows

    def _best_epoch_cell(self, run: Run) -> str:
        epoch = self.best_epochs[run.id]
        return "–" if epoch is None else f"{epoch} by {run.best_metric}"

    def _param_rows(self) -> list[Row]:
        """One row a parameter; one row for a family (`callbacks.TensorBoard`) that the same runs lack.

        The other runs must agree on the family: that a callback was used says more than each of its settings.
        """
        families: dict[tuple[str, frozenset[str]], list[str]] = {}
        for key, of in self.params_diff.items():
            family = key.rpartition(".")[0]
            if "." in family and len(of) < len(self.runs) and not _differ(of.values()):
                families.setdefault((family, frozenset(of)), []).append(key)
        folded = {key: (family, keys) for (family, _), keys in families.items() if len(keys) > 1 for key in keys}
        rows = []
        for key, of in self.params_diff.items():
            family, keys = folded.get(key, (key, [key]))
            if key == keys[0]:
                text = f"{len(keys)} params" if len(keys) > 1 else None
                cells = [(text or value_text(of[run.id])) if run.id in of else "–" for run in self.runs]
                rows.append(Row(label=f"{family}.*" if text else key, cells=cells))
        return rows

    def _metric_cells(self, key: str) -> list[str]:
        of = self.metrics[key]
        texts = iter(aligned_numbers(list(of.values())))
        cells = {run: next(texts) + ("*" if run in self.last_values[key] else "") for run in of}
        return [cells.get(run.id, "–") for run in self.runs]

    def _best_of(self, key: str) -> frozenset[int]:
        goal, of = self.goals[key], self.metrics[key]
        values = [value for value in of.values() if not math.isnan(value)]
        if goal is None or len(set(values)) < 2:
            return frozenset()
        best = min(values) if goal == "min" else max(values)
        return frozenset(i for i, run in enumerate(self.runs) if of.get(run.id) == best)


def compare_facts(facts: Iterable[RunFacts]) -> Comparison:
    """The comparison of runs, in their order; a run that comes twice counts once."""
    first: dict[str, RunFacts] = {}
    for side in facts:
        first.setdefault(side.run.id, side)
    sides = list(first.values())
    keys = {key: None for side in sides for key in sorted(side.params)}
    params = {key: {s.run.id: s.params[key] for s in sides if key in s.params} for key in keys}
    names = {key: None for side in sides for key, one in sorted(side.series.items()) if one.axis != "time" and one.last}
    goals = {key: {one.goal for side in sides if (one := side.series.get(key))} for key in names}
    return Comparison(
        runs=[side.run for side in sides],
        params_diff={key: of for key, of in sorted(params.items()) if len(of) < len(sides) or _differ(of.values())},
        metrics={key: {s.run.id: value for s in sides if (value := _value(s, key)) is not None} for key in names},
        best_epochs={side.run.id: side.run.best_epoch for side in sides},
        last_values={key: tuple(s.run.id for s in sides if key in s.series and key not in s.at_best) for key in names},
        goals={key: next(iter(found)) if len(found) == 1 else None for key, found in goals.items()},
    )


def _value(side: RunFacts, key: str) -> float | None:
    if key in side.at_best:
        return side.at_best[key]
    one = side.series.get(key)
    return one.last.value if one is not None and one.last is not None else None


def _differ(values: Iterable[Any]) -> bool:
    first, *rest = [_comparable(value) for value in values]
    return any(value != first for value in rest)


def _comparable(value: Any) -> Any:
    """`value` such that == means the same JSON value: true is not 1, while 1 and 1.0 are one number."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, Mapping):
        return {key: _comparable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_comparable(inner) for inner in value]
    return value


def _in_order(keys: Iterable[str]) -> list[str]:
    """Losses first, each next to its `val_` counterpart, as people read them."""
    return sorted(keys, key=lambda key: ("/" in key, (bare := key.removeprefix("val_")) != "loss", bare, key))


_MARKDOWN = re.compile(r"([\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_]))")


def _markdown(text: str) -> str:
    """`text` as Markdown shows it literally, on one line; underscores inside words mean nothing and stay."""
    return html.escape(_MARKDOWN.sub(r"\\\1", printable(text)), quote=False)


def _markdown_line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _html_row(row: Row) -> str:
    cells = [html.escape(printable(cell)) for cell in row.cells]
    marked = [f'<td class="best">{cell}</td>' if i in row.best else f"<td>{cell}</td>" for i, cell in enumerate(cells)]
    return f"<tr><th>{html.escape(printable(row.label))}</th>{''.join(marked)}</tr>"


_CSS = """
.tracker-comparison table { border-collapse: collapse; margin: 0 0 1em; font-variant-numeric: tabular-nums; }
.tracker-comparison caption { text-align: left; font-weight: 600; padding: 0.3em 0; }
.tracker-comparison th, .tracker-comparison td { padding: 0.15em 0.8em; text-align: right; vertical-align: top; }
.tracker-comparison tbody th { text-align: left; font-weight: 400; }
.tracker-comparison tbody tr { border-top: 1px solid color-mix(in srgb, currentColor 20%, transparent); }
.tracker-comparison td { max-width: 24em; overflow-wrap: anywhere; }
.tracker-comparison td.best { font-weight: 700; }
"""
