"""Many runs into Tracker's store: one through `append`, the others as copies of its rows with their own ids and values.

Through `append` each run takes a millisecond, and a row made in Python several microseconds; a million runs have 31
million rows. So the database makes them, of one row for each run, and builds its indexes at the end.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from content import BEGIN_MS, LONG_RUN, METRICS, PARAMS, Content, long_key, long_values
from sqlalchemy import Index, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex

from tracker.client.batch_builder import make_batch
from tracker.domain.frames import Batch, Frame, Params, PointBlock, Points, RunEnded, RunStarted
from tracker.store.store import SqlRunStore
from tracker.store.tables import journals, metric_points, params, runs, series


class Loader(Protocol):
    """A connection to the database."""

    def rows(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None: ...

    def run(self, statement: str) -> list[tuple[Any, ...]]: ...

    def count_ids(self, table: str) -> None: ...


def append_first(url: str, content: Content) -> None:
    """Store the long run and the first of the others as clients do."""
    with SqlRunStore.open(url) as store:
        for batch in itertools.chain(_long_run(content), [_run(content, 0)] if content.runs else []):
            store.append(batch)


def add_others(loader: Loader, content: Content) -> None:
    """Add the other runs as copies of the first one, which `append_first` stored."""
    if content.runs < 2:
        return
    first, last = loader.run(f"SELECT id, (SELECT max(id) FROM runs) FROM runs WHERE uid = '{content.id(0)}'")[0]
    if first != last:
        raise RuntimeError("the store must have no other runs")
    loader.run(f"CREATE TEMPORARY TABLE others ({', '.join(f'{name} {type_}' for name, type_ in _OTHERS.items())})")
    loader.rows("others", list(_OTHERS), _others(content))
    # The templates are tables of their own: a table that is read is not inserted into.
    of_first = f"run_id = {first}"
    templates = {
        "run": f"SELECT * FROM runs WHERE id = {first}",
        "journal": f"SELECT * FROM journals WHERE {of_first}",
        "one": f"SELECT * FROM series WHERE {of_first} ORDER BY id",
        "point": f"SELECT p.*, s.key FROM metric_points p JOIN series s ON s.id = p.series_id WHERE {of_first}",
        "param": f"SELECT * FROM params WHERE {of_first} ORDER BY key",
    }
    for name, statement in templates.items():
        loader.run(f"CREATE TEMPORARY TABLE first_{name} AS {statement}")
    indexes = [index for table in _COPIED for index in sorted(table.indexes, key=lambda index: str(index.name))]
    for index in indexes:
        loader.run(f"DROP INDEX {index.name}")
    for table, template, values in _copies(first):
        loader.run(_copy(table, template, values))
        if "id" in table.columns:
            loader.count_ids(table.name)
    for index in indexes:
        loader.run(_create(index))


_OTHERS = {
    "number": "BIGINT",
    "uid": "TEXT",
    "name": "TEXT",
    "later": "BIGINT",
    **{f"value_{number}": "DOUBLE PRECISION" for number in range(len(METRICS))},
    **{f"text_{number}": "TEXT" for number in range(len(PARAMS))},
}
"""Columns of the other runs: number, id, name, how much later than the first each began, metrics, parameters."""
_COPIED = (runs, journals, series, metric_points, params)


def _others(content: Content) -> Iterator[Sequence[object]]:
    begin = content.started_ms(0)
    values = content.values.tolist()
    for run in range(1, content.runs):
        texts = [value if isinstance(value, str) else json.dumps(value) for value in content.params(run)]
        yield run, content.id(run), content.name(run), content.started_ms(run) - begin, *values[run], *texts


def _copies(first: int) -> Iterator[tuple[Table, str, Mapping[str, str]]]:
    """The tables, their templates, and what differs from these in the rows of another run."""
    run = f"{first} + others.number"
    value = _by_key("one", "value", METRICS)
    later = {name: f"{name} + later" for name in ("started_ms", "ended_ms", "alive_ms")}
    yield runs, "run", {**later, "id": run, "uid": "others.uid", "name": "others.name"}
    yield journals, "journal", {"run_id": run}
    changed = dict.fromkeys(("last_value", "min_value", "max_value"), value)
    changed |= {"best_value": f"CASE WHEN best_value IS NOT NULL THEN {value} END"}
    changed |= {name: f"{name} + later" for name in ("last_ms", "min_ms", "max_ms")}
    yield series, "one", {**changed, "id": f"id + {len(METRICS)} * others.number", "run_id": run}
    series_id = f"series_id + {len(METRICS)} * others.number"
    yield metric_points, "point", {"series_id": series_id, "value": _by_key("point", "value", METRICS)}
    text = _by_key("param", "text", PARAMS)
    number = f"CASE WHEN type = 'num' THEN CAST({text} AS DOUBLE PRECISION) END"
    yield params, "param", {"run_id": run, "text": text, "number": number}


def _by_key(template: str, column: str, keys: Sequence[str]) -> str:
    cases = " ".join(f"WHEN '{key}' THEN others.{column}_{number}" for number, key in enumerate(keys))
    return f"CASE first_{template}.key {cases} END"


def _copy(table: Table, template: str, values: Mapping[str, str]) -> str:
    """All other runs' rows, run by run: that is the order of the tables' keys."""
    names = [column.name for column in table.columns if column.computed is None]
    copied = ", ".join(values.get(name, f'first_{template}."{name}"') for name in names)
    listed = ", ".join(f'"{name}"' for name in names)
    return f"INSERT INTO {table.name} ({listed}) SELECT {copied} FROM others CROSS JOIN first_{template}"


def _create(index: Index) -> str:
    # The same text for SQLite, whose dialect would leave out the condition of a partial index of the other.
    return str(CreateIndex(index).compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]


def _run(content: Content, run: int) -> Batch:
    ms = content.started_ms(run)
    frames: list[Frame] = [
        RunStarted(ms, "Default", content.name(run), "file:///nowhere", "bench", 1),
        Params(ms, 0, dict(zip(PARAMS, content.params(run), strict=True))),
        Points(ms + 500, "step", 0, 0, dict(zip(METRICS, content.values[run].tolist(), strict=True))),
        RunEnded(ms + 900, "finished"),
    ]
    return make_batch(content.id(run), "bench", list(enumerate(frames, 1)))


def _long_run(content: Content) -> Iterator[Batch]:
    if not content.histories:
        return
    yield make_batch(LONG_RUN, "bench", [(1, RunStarted(BEGIN_MS, "Default", "long", "file:///nowhere", "bench", 1))])
    number = 1
    for points in content.histories:
        values = long_values(points).tolist()
        for first in range(0, points, 10_000):
            steps = list(range(first, min(first + 10_000, points)))
            numbers = list(range(number + 1, number + 1 + len(steps)))
            times = [BEGIN_MS + step for step in steps]
            column = values[first : first + len(steps)]
            block = PointBlock("step", 0, (long_key(points),), numbers, steps, times, [column])
            yield Batch(LONG_RUN, "bench", numbers[0], numbers[-1], [], [block])
            number = numbers[-1]
    yield make_batch(LONG_RUN, "bench", [(number + 1, RunEnded(BEGIN_MS + 900, "finished"))])
