"""Metrics of the server in Prometheus' format.

This is not prometheus_client: any of a server's processes must report the sum of all, which that package does through
files, and counting a request must cost a microsecond.
"""

from __future__ import annotations

import os
import resource
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from itertools import accumulate
from platform import python_version
from typing import TypeVar

import msgspec

from tracker.domain.errors import StoreError

REQUEST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
COMMIT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
"""Upper bounds of the buckets, in seconds."""
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FEW = 500
"""Maximum number of different labels of a family; further ones are counted as "other"."""

B = TypeVar("B")
R = TypeVar("R")


class BucketCounts(msgspec.Struct):
    """Number of values in each bucket (the last is for those above all bounds), and their sum."""

    counts: list[int]
    total: float = 0.0

    def observe(self, bounds: Sequence[float], value: float) -> None:
        """Count `value`."""
        self.counts[bisect_left(bounds, value)] += 1
        self.total += value

    def add(self, other: BucketCounts) -> None:
        """Add the counts of `other`."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


class Counts(msgspec.Struct):
    """Counters of one process since it began; those of several processes can be added up."""

    requests: dict[tuple[str, str, int], BucketCounts] = {}
    """Durations of requests, by method, route and status."""
    batches: int = 0
    points: int = 0
    commits: BucketCounts = msgspec.field(default_factory=lambda: BucketCounts([0] * (len(COMMIT_S) + 1)))
    errors: dict[str, int] = {}
    """Number of the store's errors, by name."""
    cpu_s: float = 0.0
    waiting: int = 0
    answering: int = 0
    resident_bytes: int = 0
    open_files: int = 0
    started_s: float = 0.0

    def add(self, other: Counts) -> None:
        """Add the counters and gauges of another process."""
        for key, histogram in other.requests.items():
            self.requests.setdefault(key, _empty(REQUEST_S)).add(histogram)
        for name, count in other.errors.items():
            self.errors[name] = self.errors.get(name, 0) + count
        self.commits.add(other.commits)
        self.batches += other.batches
        self.points += other.points
        self.cpu_s += other.cpu_s
        self.waiting += other.waiting
        self.answering += other.answering
        self.resident_bytes += other.resident_bytes
        self.open_files += other.open_files
        self.started_s = min(filter(None, (self.started_s, other.started_s)), default=0.0)


def _empty(bounds: Sequence[float]) -> BucketCounts:
    return BucketCounts([0] * (len(bounds) + 1))


class Metrics:
    """Metrics of one process. `others` returns the counts of the server's other processes."""

    def __init__(self, others: Callable[[], Iterable[Counts]] = lambda: ()) -> None:
        self._counts = Counts(started_s=time.time())
        self._others = others
        self._cpu_before = 0.0
        self.waiting: Callable[[], int] = lambda: 0
        """Returns how many batches wait for the writer."""
        self.answering = 0
        """How many requests are being answered."""

    def resume(self, before: Counts) -> None:
        """Continue from the counts of the process that this one replaces."""
        self._counts.add(before)
        self._cpu_before = before.cpu_s

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        requests = self._counts.requests
        histogram = requests.get((method, route, status))
        if histogram is None:
            key = (method, route, status) if len(requests) < _FEW else ("", "other", status)
            histogram = requests.setdefault(key, _empty(REQUEST_S))
        histogram.counts[bisect_left(REQUEST_S, seconds)] += 1
        histogram.total += seconds

    def error(self, name: str) -> None:
        """Count an error of the store."""
        self._counts.errors[name] = self._counts.errors.get(name, 0) + 1

    def measured(
        self, append_many: Callable[[Sequence[B]], Sequence[R]], points_of: Callable[[B], int]
    ) -> Callable[[Sequence[B]], Sequence[R]]:
        """`append_many`, wrapped so that its commits are timed and their content counted."""

        def measured(batches: Sequence[B]) -> Sequence[R]:
            begun = time.perf_counter()
            try:
                results = append_many(batches)
            except StoreError as error:
                self.error(type(error).__name__)
                raise
            counts = self._counts
            counts.commits.observe(COMMIT_S, time.perf_counter() - begun)
            for batch, result in zip(batches, results, strict=True):
                if not isinstance(result, Exception):
                    counts.batches += 1
                    counts.points += points_of(batch)
            return results

        return measured

    def own(self) -> Counts:
        """Counters and gauges of this process."""
        counts = self._counts
        usage = resource.getrusage(resource.RUSAGE_SELF)
        counts.cpu_s = self._cpu_before + usage.ru_utime + usage.ru_stime
        counts.waiting = self.waiting()
        counts.answering = self.answering
        counts.resident_bytes = _resident_bytes()
        counts.open_files = _open_files()
        return counts

    def text(self) -> str:
        """The metrics of all processes of the server in Prometheus' text format."""
        counts = Counts()
        counts.add(self.own())
        for other in self._others():
            counts.add(other)
        return "".join(f"{line}\n" for line in _lines(counts))


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _open_files() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


def _lines(counts: Counts) -> Iterable[str]:
    yield from _family("tracker_build_info", "gauge", "What runs here.",
                       [({"version": version("callback-tracker"), "python": python_version()}, 1)])  # fmt: skip
    requests = [
        ({"method": method, "route": route, "status": str(status)}, sum(one.counts))
        for (method, route, status), one in sorted(counts.requests.items(), key=lambda item: item[0])
    ]
    yield from _family("tracker_http_requests_total", "counter", "Requests that were answered.", requests)
    by_route: dict[str, BucketCounts] = {}
    for (_, route, _), histogram in counts.requests.items():
        by_route.setdefault(route, _empty(REQUEST_S)).add(histogram)
    yield _head("tracker_http_request_seconds", "histogram", "How long it took to answer.")
    for route, histogram in sorted(by_route.items(), key=lambda item: item[0]):
        yield from _histogram("tracker_http_request_seconds", {"route": route}, REQUEST_S, histogram)
    yield _head("tracker_commit_seconds", "histogram", "How long it took to commit a group of batches.")
    yield from _histogram("tracker_commit_seconds", {}, COMMIT_S, counts.commits)
    errors = [({"error": name}, count) for name, count in sorted(counts.errors.items())]
    yield from _family("tracker_store_errors_total", "counter", "What the store failed with.", errors)
    for name, kind, help_, value in (
        ("tracker_batches_committed_total", "counter", "Batches and calls that were committed.", counts.batches),
        ("tracker_points_committed_total", "counter", "Metric points in them.", counts.points),
        ("tracker_writer_waiting", "gauge", "Batches that wait for the writer.", counts.waiting),
        ("tracker_http_requests_in_progress", "gauge", "Requests being answered.", counts.answering),
        ("process_cpu_seconds_total", "counter", "Processor time, of all processes.", counts.cpu_s),
        ("process_resident_memory_bytes", "gauge", "Resident memory, of all processes.", counts.resident_bytes),
        ("process_open_fds", "gauge", "Open files, of all processes.", counts.open_files),
        ("process_start_time_seconds", "gauge", "When the first process began.", counts.started_s),
    ):
        yield from _family(name, kind, help_, [({}, value)])


def _head(name: str, kind: str, help_: str) -> str:
    return f"# HELP {name} {help_}\n# TYPE {name} {kind}"


def _family(name: str, kind: str, help_: str, samples: Iterable[tuple[dict[str, str], float]]) -> Iterable[str]:
    yield _head(name, kind, help_)
    for labels, value in samples:
        yield f"{name}{_labels(labels)} {value!r}"


def _histogram(name: str, labels: dict[str, str], bounds: Sequence[float], one: BucketCounts) -> Iterable[str]:
    for bound, count in zip((*map(str, bounds), "+Inf"), accumulate(one.counts), strict=True):
        yield f"{name}_bucket{_labels({**labels, 'le': bound})} {count}"
    yield f"{name}_sum{_labels(labels)} {one.total!r}"
    yield f"{name}_count{_labels(labels)} {sum(one.counts)}"


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    escaped = (
        (name, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")) for name, value in labels.items()
    )
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"
