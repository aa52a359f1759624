"""What is counted: in one process, and in several as one."""

from __future__ import annotations

import pytest

from tracker.domain.errors import StoreUnavailable
from tracker.server.metrics import COMMIT_S, REQUEST_S, Counts, Metrics
from tracker.server.workers import SharedCounts


def sample(metrics: Metrics, name: str) -> float:
    (found,) = [line.rpartition(" ")[2] for line in metrics.text().splitlines() if line.rpartition(" ")[0] == name]
    return float(found)


def test_buckets() -> None:
    """A value counts in every bucket whose bound it does not exceed; those above all bounds only in +Inf."""
    metrics = Metrics()
    for seconds in (0.0005, 0.001, 0.0011, 0.3, 100.0):
        metrics.request("GET", "/x", 200, seconds)
    at = {
        bound: sample(metrics, f'tracker_http_request_seconds_bucket{{route="/x",le="{bound}"}}')
        for bound in (*REQUEST_S, "+Inf")
    }
    assert (at[0.001], at[0.0025], at[0.25], at[0.5], at[30.0], at["+Inf"]) == (2, 3, 3, 4, 4, 5)
    assert sample(metrics, 'tracker_http_request_seconds_count{route="/x"}') == 5
    assert sample(metrics, 'tracker_http_request_seconds_sum{route="/x"}') == pytest.approx(100.3026)


def test_several_processes_are_added_up() -> None:
    """What others counted is added, of one that died what it counted and not how things stood."""
    board = SharedCounts(3)
    metrics = Metrics(lambda: (one for place in (1, 2) if (one := board.get(place)) is not None))
    metrics.request("GET", "/x", 200, 0.1)
    assert board.get(1) is None
    other = Metrics()
    for status in (200, 200, 503):
        other.request("GET", "/x", status, 0.1)
    other.waiting = lambda: 7
    board.put(1, other.own())
    assert sample(metrics, 'tracker_http_requests_total{method="GET",route="/x",status="200"}') == 3
    assert sample(metrics, 'tracker_http_requests_total{method="GET",route="/x",status="503"}') == 1
    assert sample(metrics, "tracker_writer_waiting") == 7
    follower, before = Metrics(), board.get(1)
    assert before is not None
    follower.resume(before)
    follower.request("GET", "/x", 200, 0.1)
    board.put(1, follower.own())
    assert sample(metrics, 'tracker_http_requests_total{method="GET",route="/x",status="200"}') == 4
    assert sample(metrics, "tracker_writer_waiting") == 0


def test_board_keeps_the_last_whole_word() -> None:
    """Each place has its own; what does not fit leaves the last that did."""
    board = SharedCounts(2)
    board.put(0, Counts(batches=1))
    board.put(1, Counts(batches=2))
    board.put(0, Counts(batches=3))
    board.put(0, Counts(batches=4, errors={"x" * 1_000_000: 1}))
    assert [one.batches for place in (0, 1) if (one := board.get(place))] == [3, 2]


def test_commits() -> None:
    """Committed batches and points are counted, refused ones are not, and a store that is away is an error."""
    metrics = Metrics()
    results: list[object] = ["ack", ValueError(), "ack"]
    append_many = metrics.measured(lambda batches: results, len)
    assert append_many(["a", "bcd", "efghi"]) == results
    assert sample(metrics, "tracker_batches_committed_total") == 2
    assert sample(metrics, "tracker_points_committed_total") == 6
    assert sample(metrics, "tracker_commit_seconds_count") == 1

    def away(batches: object) -> list[object]:
        raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable):
        metrics.measured(away, len)(["a"])
    assert sample(metrics, 'tracker_store_errors_total{error="StoreUnavailable"}') == 1
    assert sample(metrics, f'tracker_commit_seconds_bucket{{le="{COMMIT_S[-1]}"}}') == 1


def test_labels_are_few_and_escaped() -> None:
    """Whatever is asked for, the families stay small, and nothing in a label breaks its line."""
    metrics = Metrics()
    metrics.request("GET", 'a"b\\c\nd', 200, 0.1)
    for number in range(10_000):
        metrics.request("GET", f"/{number}", 200, 0.1)
    text = metrics.text()
    assert r'route="a\"b\\c\nd"' in text
    assert len(text.splitlines()) < 20_000
    assert sample(metrics, 'tracker_http_requests_total{method="",route="other",status="200"}') > 9000
