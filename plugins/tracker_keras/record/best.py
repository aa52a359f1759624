"""When the metric that counts was better than ever before in the run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from tracker.domain.goals import Goal

if TYPE_CHECKING:
    from tracker.client.run import Run


class Improvements:
    """The values of a run's monitored metric that were its best when they came, with their epochs in order."""

    def __init__(self) -> None:
        self._metric: str | None = None
        self._best: list[tuple[int, float]] = []

    @property
    def metric(self) -> str | None:
        """Of which metric they are; None before the first."""
        return self._metric

    def begin(self, first_epoch: int) -> None:
        """A fit begins at this epoch of the run: what was trained there before is superseded."""
        self._best = [(epoch, value) for epoch, value in self._best if epoch < first_epoch]

    def last(self) -> dict[str, Any] | None:
        """The best so far, as JSON that `put_back` takes in another process."""
        if self._metric is None or not self._best:
            return None
        epoch, value = self._best[-1]
        return {"metric": self._metric, "epoch": epoch, "value": value}

    def put_back(self, last: Mapping[str, Any] | None) -> None:
        """Know what another process knew of the run, if nothing is known here."""
        if last is not None and not self._best:
            self._metric, self._best = last["metric"], [(last["epoch"], float(last["value"]))]

    def add(self, metric: str, goal: Goal, epoch: int, value: Any) -> dict[str, Any] | None:
        """{metric, from, to} if `value` is the best so far; another metric than before begins anew."""
        if not isinstance(value, (int, float)) or math.isnan(value):
            return None
        if metric != self._metric:
            self._metric, self._best = metric, []
        last = self._best[-1][1] if self._best else None
        if last is not None and not (value < last if goal == "min" else value > last):
            return None
        self._best.append((epoch, value))
        return {"metric": metric, "from": last, "to": value}


def improvements_of(run: Run) -> Improvements:
    """Those of `run`, whichever of its callbacks asks. What the run did in another process is not known."""
    return _of_runs.setdefault(run, Improvements())


_of_runs: WeakKeyDictionary[Run, Improvements] = WeakKeyDictionary()
