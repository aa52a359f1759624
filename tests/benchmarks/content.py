"""What a filled store holds: runs whose parameters and metrics follow from their number, so that answers can be checked.

A run has 10 parameters and 10 metrics of one point each; metric `metric_1` is uniform in [0, 1), other for each run.
One more run, the oldest, has long histories.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

EXPERIMENT = "0"
"""The experiment that every server makes by itself; its name is "Default"."""
BEGIN_MS = 1_700_000_000_000
METRICS = tuple(f"metric_{number}" for number in range(10))
PARAMS = tuple(f"param_{number}" for number in range(10))
LONG_RUN = "f" * 32
FILTER = "metrics.metric_1 > 0.5"
ORDER = "metrics.metric_1 DESC"


def long_key(points: int) -> str:
    """The metric of the long run that has so many points, at the steps 0, 1, 2 …"""
    return f"points_{points}"


def long_values(points: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A noisy decay."""
    steps = np.arange(points)
    noise: np.ndarray[Any, np.dtype[np.float64]] = np.random.default_rng(points).normal(scale=0.05, size=points)
    return 2.0 / (1.0 + steps / (points / 20)) + noise


@dataclass(frozen=True)
class Content:
    """So many runs, and the long run's histories by their numbers of points."""

    runs: int
    histories: Sequence[int] = ()

    @cached_property
    def values(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Metrics, (runs, 10)."""
        return np.random.default_rng(self.runs).random((self.runs, len(METRICS)))

    def id(self, run: int) -> str:
        return f"{run + 1:032x}"

    def name(self, run: int) -> str:
        return f"run-{run}"

    def started_ms(self, run: int) -> int:
        """Runs start one second after the other."""
        return BEGIN_MS + 1000 * (run + 1)

    def params(self, run: int) -> list[float | int | str]:
        numbers = [round(float(value), 6) for value in self.values[run, :5]]
        words = [("adam", "sgd", "rmsprop")[(run * key) % 3] for key in range(4)]
        return [*numbers, run, *words]

    def newest(self, limit: int) -> list[str]:
        """Ids of the newest runs, the newest first."""
        return [self.id(run) for run in range(self.runs - 1, max(-1, self.runs - 1 - limit), -1)]

    def best(self, limit: int) -> list[str]:
        """Ids of the runs that match FILTER, in ORDER."""
        column = self.values[:, 1]
        order = np.argsort(-column, kind="stable")[:limit]
        return [self.id(int(run)) for run in order if column[run] > 0.5]
