"""Finds the epochs in which a run's monitored metric improved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from tracker.domain.goals import Goal

if TYPE_CHECKING:
    from tracker.client.run import Run


class Improvements:
    """The improvements of a run's monitored metric: epochs, in order, and values that were the best so far."""

    def __init__(self) -> None:
        self._metric: str | None = None
        self._best: list[tuple[int, float]] = []

    @property
    def metric(self) -> str | None:
        """The monitored metric; None before the first value."""
        return self._metric

    def begin(self, first_epoch: int) -> None:
        """A fit begins at this epoch of the run: improvements from there on are superseded."""
        self._best = [(epoch, value) for epoch, value in self._best if epoch < first_epoch]

    def last(self) -> dict[str, Any] | None:
        """The best so far, as JSON for `put_back` in another process."""
        if self._metric is None or not self._best:
            return None
        epoch, value = self._best[-1]
        return {"metric": self._metric, "epoch": epoch, "value": value}

    def put_back(self, last: Mapping[str, Any] | None) -> None:
        """Restore the best of another process, if there is none here."""
        if last is not None and not self._best:
            self._metric, self._best = last["metric"], [(last["epoch"], float(last["value"]))]

    def add(self, metric: str, goal: Goal, epoch: int, value: Any) -> dict[str, Any] | None:
        """{metric, from, to} if `value` is the best so far; a different metric resets the improvements."""
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
    """The improvements of `run`, shared by its callbacks, without those of other processes."""
    return _of_runs.setdefault(run, Improvements())


_of_runs: WeakKeyDictionary[Run, Improvements] = WeakKeyDictionary()
