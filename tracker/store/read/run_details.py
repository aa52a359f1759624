"""Details of the runs in a list, read for a whole page at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import Connection, Row

from tracker.domain.catalogue import Dataset, DatasetUse, ModelLink, RunDetail
from tracker.domain.goals import Goal
from tracker.domain.records import Extreme, Series
from tracker.domain.vocabulary import Axis
from tracker.store.database.driver_cursor import DriverCursor, driver_errors
from tracker.store.database.typed_rows import from_json, typed
from tracker.store.read.records import run_record


@dataclass(frozen=True, slots=True)
class RunContent:
    """All of a run except its own row; valid while `runs.version` is unchanged."""

    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, Series] = field(default_factory=dict)
    datasets: list[DatasetUse] = field(default_factory=list)
    inputs: list[ModelLink] = field(default_factory=list)
    outputs: list[ModelLink] = field(default_factory=list)


def details_of(connection: Connection, rows: Sequence[Row[Any]]) -> list[RunDetail]:
    """The details of runs in the order of `rows`, which have the columns of `runs` and `experiment`, its name."""
    content = content_of(connection, [row.id for row in rows])
    return [detail_of(row, content[row.id]) for row in rows]


def detail_of(row: Row[Any], content: RunContent) -> RunDetail:
    """The detail of the run in `row`."""
    return RunDetail(
        run=run_record(row),
        experiment_id=row.experiment_id,
        params=content.params,
        tags=content.tags,
        metrics=content.metrics,
        datasets=content.datasets,
        inputs=content.inputs,
        outputs=content.outputs,
    )


def content_of(connection: Connection, ids: Sequence[int]) -> dict[int, RunContent]:
    """The content of these runs by integer key; a handful of statements, however many runs."""
    content = {id: RunContent() for id in ids}
    if content:
        with driver_errors(connection, _SERIES):
            _read(_Page(connection, content), content)
    return content


def _read(page: _Page, content: Mapping[int, RunContent]) -> None:
    for run, key, text in typed(page.rows(_PARAMS), tuple[int, str, str], "params", ("run_id", "key", "text")):
        content[run].params[key] = text
    for run, key, text in typed(page.rows(_TAGS), tuple[int, str, str], "tags", ("run_id", "key", "value")):
        content[run].tags[key] = text
    for run, *columns in typed(page.rows(_SERIES), _SeriesRow, "series", _SERIES_COLUMNS):
        content[run].metrics[columns[0]] = _summary(*columns)
    uses = typed(page.rows(_USES), tuple[int, int, str], "run_datasets", ("run_id", "dataset_id", "tags"))
    # Many runs use one data set, whose schema and profile may be long: each is read once.
    described = typed(page.rows(_DATASETS, {use[1] for use in uses}), _DatasetRow, "datasets", _DATASET_COLUMNS)
    datasets = {id: _dataset(*columns) for id, *columns in described}
    for run, dataset, tags in uses:
        content[run].datasets.append(
            DatasetUse(dataset=datasets[dataset], tags=from_json(tags, dict[str, str], "run_datasets.tags"))
        )
    linked = typed(
        page.rows(_MODELS), tuple[int, str, str, int], "run_models", ("run_id", "direction", "model_uid", "step")
    )
    for run, direction, model_id, step in linked:
        links = content[run].inputs if direction == "input" else content[run].outputs
        links.append(ModelLink(model_id=model_id, step=step))


class _Page:
    """Reads rows of some runs with the driver. `{ids}` in a statement becomes the condition on their ids."""

    def __init__(self, connection: Connection, runs: Iterable[int]) -> None:
        self._raw = DriverCursor(connection)
        self._runs = self._listed(runs)

    def rows(self, statement: str, ids: Iterable[int] | None = None) -> Sequence[Any]:
        """The rows of the page's runs, or of other `ids`, which may be empty."""
        if ids is not None and not ids:
            return ()
        condition = "= ANY(?)" if self._raw.postgres else "IN (SELECT value FROM json_each(?))"
        listed = self._runs if ids is None else self._listed(ids)
        return self._raw.rows(statement.format(ids=condition), (listed,))

    def _listed(self, ids: Iterable[int]) -> Any:
        return list(ids) if self._raw.postgres else msgspec.json.encode(list(ids)).decode()


_PARAMS = "SELECT run_id, key, text FROM params WHERE run_id {ids}"
_TAGS = "SELECT run_id, key, value FROM tags WHERE run_id {ids}"
_SERIES_COLUMNS = (
    "run_id", "key", "axis", "goal", "count", "last_value", "last_step", "last_ms",
    "min_value", "min_step", "min_ms", "max_value", "max_step", "max_ms",
)  # fmt: skip
_SeriesRow: Any = tuple[
    int, str, Axis, Goal | None, int, float | None, int | None, int | None,
    float | None, int | None, int | None, float | None, int | None, int | None,
]  # fmt: skip
_SERIES = f"SELECT {', '.join(_SERIES_COLUMNS)} FROM series WHERE run_id {{ids}} AND count > 0"
_MODELS = "SELECT run_id, direction, model_uid, step FROM run_models WHERE run_id {ids} ORDER BY run_id, model_uid"

_USES = "SELECT run_id, dataset_id, tags FROM run_datasets WHERE run_id {ids} ORDER BY run_id, dataset_id"
_DATASET_COLUMNS = ("id", "name", "digest", "source_type", "source", "schema", "profile")
_DatasetRow: Any = tuple[int, str, str, str, str, str | None, str | None]
_DATASETS = f"SELECT {', '.join(_DATASET_COLUMNS)} FROM datasets WHERE id {{ids}}"

_NAN = float("nan")


def _summary(
    key: str, axis: Any, goal: Any, count: int,
    last_value: float | None, last_step: int | None, last_ms: int,
    min_value: float | None, min_step: int | None, min_ms: int,
    max_value: float | None, max_step: int | None, max_ms: int,
) -> Series:  # fmt: skip
    last = low = high = None
    if last_step is not None:
        last = Extreme(value=_NAN if last_value is None else last_value, step=last_step, ms=last_ms)
    if min_step is not None:
        low = Extreme(value=_NAN if min_value is None else min_value, step=min_step, ms=min_ms)
    if max_step is not None:
        high = Extreme(value=_NAN if max_value is None else max_value, step=max_step, ms=max_ms)
    best = low if goal == "min" else high if goal == "max" else None
    return Series(key=key, axis=axis, goal=goal, count=count, last=last, min=low, max=high, best=best)


def _dataset(name: str, digest: str, source_type: str, source: str, schema: str | None, profile: str | None) -> Dataset:
    return Dataset(name=name, digest=digest, source_type=source_type, source=source, schema=schema, profile=profile)
