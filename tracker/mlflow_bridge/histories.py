"""Histories of metrics in MLflow's order, whole, in pages, and as samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

from tracker.domain.errors import RunNotFound, SeriesNotFound
from tracker.domain.records import History
from tracker.mlflow_bridge import derived_keys
from tracker.mlflow_bridge.base import BridgeBase
from tracker.mlflow_bridge.bridge_entities import Metric
from tracker.mlflow_bridge.bridge_errors import as_bridge_errors
from tracker.mlflow_bridge.derived_keys import shown_number
from tracker.mlflow_bridge.mlflow_limits import refuse
from tracker.mlflow_bridge.pages import offset_of, token_at
from tracker.query.thinning import FEWEST

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tracker.store.points.spooled import SpooledHistory

_SHORT_ROWS = 100_000
"""Points of a series up to which its first points are selected in memory."""


class MetricPoints(NamedTuple):
    """Points of one metric: steps and ms int64 (n,), values float64 (n,)."""

    steps: NDArray[np.int64]
    ms: NDArray[np.int64]
    values: NDArray[np.float64]

    def metrics(self, key: str, run_id: str | None = None) -> list[Metric]:
        """The points as MLflow's entities, each with `run_id` if it is given."""
        columns = zip(self.steps.tolist(), self.ms.tolist(), self.values.tolist(), strict=True)
        if run_id is None:
            return [Metric(key, shown_number(value), ms, step) for step, ms, value in columns]
        return [Metric(key, shown_number(value), ms, step, run_id) for step, ms, value in columns]


@dataclass(frozen=True, slots=True)
class LongPoints:
    """Points of a page on disk, from index `start` to before `end`, and the next page's token.

    A context manager that frees the disk space.
    """

    _spooled: SpooledHistory
    start: int
    end: int
    token: str | None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._spooled.close()

    def pieces(self, most: int) -> Iterator[MetricPoints]:
        """All points, at most `most` at a time."""
        return (self.part(at - self.start, most) for at in range(self.start, self.end, most))

    def part(self, first: int, count: int) -> MetricPoints:
        """At most `count` points from the `first`th of the page on."""
        at = self.start + first
        to = min(at + count, self.end)
        return MetricPoints(*(self._spooled.column(name, at, to) for name in ("steps", "ms", "values")))


class Histories(BridgeBase):
    """The part of the bridge about points of metrics. An unknown run or metric has no points, as in MLflow."""

    def points(
        self, run_id: str, key: str, max_results: int | None = None, page_token: str | None = None
    ) -> tuple[MetricPoints, str | None]:
        """Points by time, then step, then value; a page of them with `max_results`, and the token of the next."""
        found = self.short_points(run_id, key, None, max_results, page_token)
        assert found is not None
        return found

    def short_points(
        self,
        run_id: str,
        key: str,
        most_rows: int | None,
        max_results: int | None = None,
        page_token: str | None = None,
    ) -> tuple[MetricPoints, str | None] | None:
        """`points`; None if more than `most_rows` would have to be read."""
        start = offset_of(page_token)
        found = self._history(run_id, key, most_rows=most_rows)
        if found is None:
            return None
        import numpy as np

        count = len(found.steps)
        end = count if max_results is None else start + max_results
        kept: slice | NDArray[np.int64] = slice(start, end)
        if not bool(np.all(found.ms[1:] > found.ms[:-1])):
            kept = np.lexsort((found.values, found.steps, found.ms))[start:end]
        page = MetricPoints(found.steps[kept], found.ms[kept], found.values[kept])
        return page, token_at(end) if end < count else None

    def long_points(
        self,
        run_id: str,
        key: str,
        max_results: int | None = None,
        page_token: str | None = None,
        *,
        turn: AbstractContextManager[object] | None = None,
    ) -> LongPoints:
        """`points` of a series of any length, read onto disk; `turn` is held while a piece of it is read."""
        start = offset_of(page_token)
        with as_bridge_errors():
            spooled = self.store.spool_history(run_id, key, turn=turn or nullcontext())
        try:
            spooled.sort_by_time()
        except BaseException:
            spooled.close()
            raise
        end = spooled.count if max_results is None else min(start + max_results, spooled.count)
        return LongPoints(spooled, start, end, token_at(end) if end < spooled.count else None)

    def metric_history(
        self, run_id: str, key: str, max_results: int | None = None, page_token: str | None = None
    ) -> tuple[list[Metric], str | None]:
        """`points` as entities."""
        if max_results is not None and max_results < 1:
            refuse(f"Invalid value {max_results} for parameter 'max_results' supplied. It must be a positive integer")
        page, token = self.points(run_id, key, max_results, page_token)
        return page.metrics(key), token

    def metric_history_bulk(self, run_ids: Sequence[str], key: str, max_results: int) -> list[Metric]:
        """The first points of several runs, at most `max_results` in all: by run id, then as `points`."""
        found: list[Metric] = []
        for run_id in sorted(set(run_ids)):
            most = max_results - len(found)
            if most <= 0:
                break
            short = self.short_points(run_id, key, _SHORT_ROWS, most)
            if short is not None:
                page, _ = short
            else:
                with self.long_points(run_id, key, most) as long:
                    page = long.part(0, most)
            found.extend(page.metrics(key, run_id))
        return found

    def points_between(self, run_id: str, key: str, first_step: int, last_step: int) -> MetricPoints:
        """All points from one step to another, in step order."""
        found = self._known_history(run_id, key, None, first_step, last_step)
        return MetricPoints(found.steps, found.ms, found.values)

    def samples(
        self, run_id: str, key: str, max_results: int, start_step: int | None = None, end_step: int | None = None
    ) -> MetricPoints:
        """At most `max_results` points that represent all, in step order; see `RunReader.history`.

        They include the first and the last, and the highest and lowest between; of one point the last, of two or three
        the ends.
        """
        found = self._known_history(run_id, key, max(max_results, FEWEST), start_step, end_step)
        whole = MetricPoints(found.steps, found.ms, found.values)
        count = len(whole.steps)
        if count <= max_results or not count:
            return whole
        kept = [count - 1] if max_results <= 1 else [0, count - 1]
        return MetricPoints(whole.steps[kept], whole.ms[kept], whole.values[kept])

    def metric_history_interval(
        self,
        run_ids: Sequence[str],
        key: str,
        max_results: int,
        start_step: int | None = None,
        end_step: int | None = None,
    ) -> list[Metric]:
        """`samples` of each run, as entities."""
        if (start_step is None) != (end_step is None):
            refuse("Both start_step and end_step must be specified together, or neither may be specified.")
        return [
            metric
            for run_id in run_ids
            for metric in self.samples(run_id, key, max_results, start_step, end_step).metrics(key, run_id)
        ]

    def _known_history(
        self, run_id: str, key: str, max_points: int | None, first_step: int | None, last_step: int | None
    ) -> History:
        found = self._history(run_id, key, max_points, first_step, last_step)
        assert found is not None
        return found

    def _history(
        self,
        run_id: str,
        key: str,
        max_points: int | None = None,
        first_step: int | None = None,
        last_step: int | None = None,
        *,
        most_rows: int | None = None,
    ) -> History | None:
        """The series in order of its steps; None if more than `most_rows` would have to be read."""
        try:
            if key in derived_keys.DERIVED_METRICS:
                return self._derived(run_id, key, first_step, last_step)
            with as_bridge_errors():
                return self.store.short_history(
                    run_id, key, most_rows, max_points=max_points, first_step=first_step, last_step=last_step
                )
        except Exception as error:
            if isinstance(error.__cause__ or error, (RunNotFound, SeriesNotFound)):
                return _no_history(key)
            raise

    def _derived(self, run_id: str, key: str, first_step: int | None, last_step: int | None) -> History:
        import numpy as np

        detail = self.catalogue.runs.detail(run_id)
        points = [
            one
            for one in derived_keys.derived_metrics(detail)
            if one.key == key
            and (first_step is None or one.step >= first_step)
            and (last_step is None or one.step <= last_step)
        ]
        return History(
            key=key,
            axis="epoch",
            steps=np.array([one.step for one in points], dtype=np.int64),
            ms=np.array([one.timestamp for one in points], dtype=np.int64),
            values=np.array([float(one.value) for one in points], dtype=np.float64),
        )


def _no_history(key: str) -> History:
    import numpy as np

    none = np.empty(0, np.int64)
    return History(key=key, axis="step", steps=none, ms=none, values=np.empty(0, np.float64))
