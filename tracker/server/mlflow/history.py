"""The routes about the history of metrics, for the UI's charts and MLflow's clients."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import UNSET

from tracker.mlflow_bridge.bridge import Bridge
from tracker.mlflow_bridge.histories import LongPoints, MetricPoints
from tracker.mlflow_bridge.metric_json import encode_metrics
from tracker.server.fair_lock import FairLock
from tracker.server.long_answers import Pieces
from tracker.server.mlflow import requests
from tracker.server.mlflow.decode import DOCS, invalid
from tracker.server.mlflow.routing import get
from tracker.server.mlflow.runs import page
from tracker.server.operations import SHORT_ROWS

encode = msgspec.json.encode

_AT_ONCE = 8192
"""Points of a long series that are encoded at a time."""
_MOST_RUNS = 100
_MOST_POINTS = 25_000
_MOST_SAMPLES = 2500


def one(bridge: Bridge, given: requests.GetHistory) -> bytes | None:
    """The points of a run's metric, all or a page of them; None for a series that is not short."""
    found = bridge.short_points(given.run_id, given.metric_key, SHORT_ROWS, _most(given), given.page_token or None)
    if found is None:
        return None
    points, token = found
    return page(b"metrics", _inside(given.metric_key, points), token)


def one_long(bridge: Bridge, given: requests.GetHistory, turns: FairLock) -> Pieces:
    """The same of a long series."""
    found = bridge.long_points(given.run_id, given.metric_key, _most(given), given.page_token or None, turn=turns)
    return Pieces(_pieces(given.metric_key, found), found.close)


def _most(given: requests.GetHistory) -> int | None:
    most = None if given.max_results is UNSET else given.max_results
    if most is not None and most <= 0:
        raise invalid(f"Invalid value {most} for parameter 'max_results' supplied. It must be a positive integer.")
    return most


def _pieces(key: str, found: LongPoints) -> Iterator[bytes]:
    """`page` of the points, in pieces."""
    begin = b'{"metrics":['
    for points in found.pieces(_AT_ONCE):
        yield begin + encode_metrics(key, *points)[1:-1]
        begin = b","
    more = b'"next_page_token":%b' % encode(found.token) if found.token else b""
    if begin != b",":
        yield b"{" + more + b"}"
    else:
        yield b"]," + more + b"}" if more else b"]}"


def bulk(bridge: Bridge, given: requests.GetHistoryBulk) -> bytes:
    """The points of one metric of several runs."""
    if not given.run_id:
        raise invalid("GetMetricHistoryBulk request must specify at least one run_id.")
    if len(given.run_id) > _MOST_RUNS:
        raise invalid(
            f"GetMetricHistoryBulk request cannot specify more than {_MOST_RUNS} run_ids. "
            f"Received {len(given.run_id)} run_ids."
        )
    if given.metric_key is UNSET:
        raise invalid("GetMetricHistoryBulk request must specify a metric_key.")
    points = bridge.metric_history_bulk(given.run_id, given.metric_key, min(given.max_results, _MOST_POINTS))
    return b'{"metrics":%s}' % encode(points)


def interval(bridge: Bridge, given: requests.GetHistoryInterval) -> bytes:
    """A sample of the points of one metric of several runs, spikes included."""
    if len(given.run_ids) > _MOST_RUNS:
        raise invalid(
            f"GetMetricHistoryBulkInterval request must specify at most {_MOST_RUNS} run_ids. "
            f"Received {len(given.run_ids)} run_ids.{DOCS}"
        )
    if not 1 <= given.max_results <= _MOST_SAMPLES:
        raise invalid(f"max_results must be between 1 and {_MOST_SAMPLES}.{DOCS}")
    first = None if given.start_step is UNSET else given.start_step
    last = None if given.end_step is UNSET else given.end_step
    if (first is None) != (last is None):
        raise invalid("If either start step or end step are specified, both must be specified.")
    if first is not None and last is not None and first > last:
        raise invalid(f"end_step must be greater than start_step. Found start_step={first} and end_step={last}.")
    fragments: list[bytes] = []
    for run_id in given.run_ids:
        points = bridge.samples(run_id, given.metric_key, given.max_results, first, last)
        fragments += _inside(given.metric_key, points, run_id)
    return page(b"metrics", fragments, None)


def _inside(key: str, points: MetricPoints, run_id: str | None = None) -> list[bytes]:
    """The points as JSON, parted by commas; none if there are none."""
    array = encode_metrics(key, *points, run_id)
    return [array[1:-1]] if len(points.steps) else []


ROUTES = (
    get("metrics/get-history", requests.GetHistory, one, stream=one_long),
    get("metrics/get-history-bulk", requests.GetHistoryBulk, bulk, is_long=lambda given: True),
    get("metrics/get-history-bulk-interval", requests.GetHistoryInterval, interval),
)
