"""The routes about the history of metrics: what the UI's charts and MLflow's clients ask."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from tracker.mlflow_bridge.bridge import Bridge
from tracker.mlflow_bridge.histories import Points
from tracker.mlflow_bridge.json import encode_metrics
from tracker.server.mlflow import requests
from tracker.server.mlflow.decode import DOCS, invalid
from tracker.server.mlflow.routing import get
from tracker.server.mlflow.runs import page

encode = msgspec.json.encode

_MOST_RUNS = 100
_MOST_POINTS = 25_000
_MOST_SAMPLES = 2500


def one(bridge: Bridge, given: requests.GetHistory) -> bytes:
    """The points of a run's metric, all or a page of them."""
    most = None if given.max_results is UNSET else given.max_results
    if most is not None and most <= 0:
        raise invalid(f"Invalid value {most} for parameter 'max_results' supplied. It must be a positive integer.")
    points, token = bridge.points(given.run_id, given.metric_key, most, given.page_token or None)
    return page(b"metrics", _inside(given.metric_key, points), token)


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


def _inside(key: str, points: Points, run_id: str | None = None) -> list[bytes]:
    """The points as JSON, parted by commas; none if there are none."""
    array = encode_metrics(key, *points, run_id)
    return [array[1:-1]] if len(points.steps) else []


ROUTES = (
    get("metrics/get-history", requests.GetHistory, one),
    get("metrics/get-history-bulk", requests.GetHistoryBulk, bulk),
    get("metrics/get-history-bulk-interval", requests.GetHistoryInterval, interval),
)
