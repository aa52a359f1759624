"""Reads that the MLflow UI and clients make: asked once and checked, then asked over and over."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import load
from content import EXPERIMENT, FILTER, LONG_RUN, METRICS, ORDER, PARAMS, Content, long_key
from rest import API, Refused, path
from runner import Result
from servers import Server

SAMPLES = 320
"""Points of a curve that the MLflow UI asks for."""


class WrongAnswer(Exception):
    """The server answered with success, and something else than the store holds."""


@dataclass(frozen=True)
class Read(ABC):
    """A question, asked over some connections at a time."""

    title: str
    connections: int

    def ask(self, server: Server, content: Content, least_s: float, most_s: float) -> Result:
        """Check the answer, then ask for so long that ten answers come, in bounds."""
        once = self._time(server, content)
        if once < 1:  # the first time a server may have to read from the disk
            once = self._time(server, content)
        used = server.cpu_s()
        answers = self._load(server, min(most_s, max(least_s, 10 * once)))
        used = server.cpu_s() - used
        if answers.requests == 0:
            return {"p50_ms": once * 1e3, "p99_ms": once * 1e3, "requests": 1, "requests_s": 1 / once, "errors": 0}
        return {
            "p50_ms": answers.p50_ms,
            "p99_ms": answers.p99_ms,
            "requests": answers.requests,
            "requests_s": answers.requests / answers.seconds,
            "cpu_ms": used * 1e3 / answers.requests,
            "kib": answers.bytes / answers.requests / 1024,
            "errors": answers.refused + answers.broken,
        }

    def _time(self, server: Server, content: Content) -> float:
        began = time.perf_counter()
        self.check(server, content)
        return time.perf_counter() - began

    @abstractmethod
    def check(self, server: Server, content: Content) -> None:
        """Raise WrongAnswer unless the answer is what `content` says."""

    @abstractmethod
    def _load(self, server: Server, seconds: float) -> load.Answers: ...


@dataclass(frozen=True)
class Search(Read):
    """runs/search for the newest runs, or for those that match FILTER in ORDER."""

    limit: int
    best: bool = False

    def _body(self) -> dict[str, Any]:
        body: dict[str, Any] = {"experiment_ids": [EXPERIMENT], "max_results": self.limit}
        return body | ({"filter": FILTER, "order_by": [ORDER]} if self.best else {})

    def check(self, server: Server, content: Content) -> None:
        runs = server.rest.post("runs/search", self._body()).get("runs", [])
        wanted = content.best(self.limit) if self.best else content.newest(self.limit)
        if [run["info"]["run_id"] for run in runs] != wanted:
            raise WrongAnswer(f"{len(runs)} runs, not the {len(wanted)} that were asked for")
        if any(
            len(run["data"]["metrics"]) != len(METRICS) or len(run["data"]["params"]) != len(PARAMS) for run in runs
        ):
            raise WrongAnswer("runs without all of their metrics and parameters")

    def _load(self, server: Server, seconds: float) -> load.Answers:
        return load.post(server.port, self.connections, seconds, f"{API}runs/search", self._body())


@dataclass(frozen=True)
class History(Read):
    """metrics/get-history: all points of a metric."""

    points: int

    def check(self, server: Server, content: Content) -> None:
        steps = server.rest.steps(LONG_RUN, long_key(self.points))
        if sorted(steps) != list(range(self.points)):
            raise WrongAnswer(f"{len(steps)} points of {self.points}")

    def _load(self, server: Server, seconds: float) -> load.Answers:
        target = path("metrics/get-history", run_id=LONG_RUN, metric_key=long_key(self.points))
        return load.get(server.port, self.connections, seconds, target)


@dataclass(frozen=True)
class Samples(Read):
    """metrics/get-history-bulk-interval: the curve as the MLflow UI draws it."""

    points: int

    def _query(self) -> dict[str, object]:
        return {"run_ids": LONG_RUN, "metric_key": long_key(self.points), "max_results": SAMPLES}

    def check(self, server: Server, content: Content) -> None:
        try:
            metrics = server.rest.get("metrics/get-history-bulk-interval", **self._query()).get("metrics", [])
        except Refused as error:
            if " 404: " in str(error):
                raise WrongAnswer("has no such route") from error
            raise
        steps = [int(metric["step"]) for metric in metrics]
        ends = (steps[0], steps[-1]) if steps else ()
        if not SAMPLES // 2 <= len(steps) <= 2 * SAMPLES or ends != (0, self.points - 1) or steps != sorted(steps):
            raise WrongAnswer(f"{len(steps)} samples, ends {ends}, of {self.points} points")

    def _load(self, server: Server, seconds: float) -> load.Answers:
        target = path("metrics/get-history-bulk-interval", **self._query())
        return load.get(server.port, self.connections, seconds, target)


def warm(server: Server, seconds: float) -> None:
    """Have every process of the server answer searches."""
    load.post(server.port, 8, seconds, f"{API}runs/search", {"experiment_ids": [EXPERIMENT], "max_results": 1})


HISTORIES = (100_000, 1_000_000)
FIRST, BEST, MANY = "the first 100", "100, filtered and ordered by a metric", "1000 in one answer"
FULL = "full history of 100 k points"
SAMPLED = {100_000: "320 samples of 100 k points", 1_000_000: "320 samples of 1 M points"}
SEARCHES: tuple[Read, ...] = (
    Search(FIRST, 2, 100),
    Search(BEST, 2, 100, best=True),
    Search(MANY, 2, 1000),
)
CURVES: tuple[Read, ...] = (
    History(FULL, 1, HISTORIES[0]),
    *(Samples(SAMPLED[points], 1, points) for points in HISTORIES),
)
