"""Group commit: many batches in one transaction, each on its own."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing

import msgspec
import pytest
from e2e.server_lab import batch, points, start_of
from small_blocks import open_small

from tracker.domain.calls import batch_of_call
from tracker.domain.errors import InvalidValue, ParamConflict, RunNotFound, StoreRestored, StoreUnavailable
from tracker.domain.frames import (
    Ack,
    Batch,
    EpochEnded,
    EventLogged,
    FitStarted,
    MetricMonitored,
    Params,
    Points,
    Tags,
)
from tracker.store.store import SqlRunStore


@pytest.fixture
def store(any_url: str) -> Iterator[SqlRunStore]:
    with open_small(any_url) as opened:
        yield opened


def test_bad_batch_fails_alone(store: SqlRunStore) -> None:
    """Answers come in the order of the batches; a batch that cannot be stored changes nothing and harms no other."""
    store.append(batch("b", 1, start_of()))
    results = store.append_many(
        [
            batch("c", 1, start_of(), points(1, x=1.0)),
            batch("b", 2, points(1, x=1.0), EventLogged(1, "event", 2**70, None, 0, {})),
            batch("nobody", 2, points(1, x=1.0)),
            batch("a", 1, start_of()),
            batch("b", 2, points(2, x=2.0)),
        ]
    )
    assert [results[0], results[3], results[4]] == [Ack(last=2), Ack(last=1), Ack(last=2)]
    assert isinstance(results[1], InvalidValue)
    assert isinstance(results[2], RunNotFound)
    assert store.history("b", "x").steps.tolist() == [2]
    assert store.events("b") == []
    assert store.history("c", "x").steps.tolist() == [1]


def test_batches_of_one_run_are_applied_in_order(store: SqlRunStore) -> None:
    """A run that starts in a batch takes the points of the next, and what comes twice is stored once."""
    again = batch("r", 2, points(1, x=1.0))
    results = store.append_many([batch("r", 1, start_of()), again, again, batch("r", 3, points(2, x=2.0))])
    assert results == [Ack(last=1), Ack(last=2), Ack(last=2), Ack(last=3)]
    assert store.history("r", "x", raw=True).steps.tolist() == [1, 2]


def test_a_group_gives_what_its_batches_give_one_by_one(store: SqlRunStore) -> None:
    """Fits that supersede, restored weights, parameters set twice, calls between journals: the same run, the same answers."""

    def batches(run: str) -> list[Batch]:
        restored = EventLogged(9, "weights_restored", 0, 10, 1, {"epoch": 0, "metrics": {"loss": 3.0}})
        return [
            batch(run, 1, start_of(), fit(1, 0), epoch(0, 1, 3.0), epoch(1, 1, 2.0), Params(1, 1, {"lr": 0.1})),
            batch_of_call(run, ["loss", "extra"], [1, 4], [5, 6], [1.5, 1.0], tags={"team": "a"}),
            batch(run, 6, restored, Params(1, 1, {"lr": 0.2, "depth": 3})),
            batch(run, 8, epoch(2, 1, 2.5), fit(2, 1), epoch(1, 2, 4.0)),
            batch_of_call(run, ["loss"], [1], [5], [1.5], params={"lr": "0.1"}, name="renamed"),
            batch(run, 8, epoch(2, 1, 2.5), fit(2, 1), epoch(1, 2, 4.0), Tags(1, {"team": "b"}), points(1, extra=7.0)),
            batch_of_call(run, params={"lr": "0.3"}, tags={"team": "c"}),
            batch(run, 13, MetricMonitored(1, "extra", "declared"), Tags(1, {"team": "d"})),
        ]

    def record(run: str) -> object:
        history = store.history(run, "loss", raw=True)
        assert history.superseded is not None
        rows = zip(history.steps.tolist(), history.values.tolist(), history.superseded.tolist(), strict=True)
        # Calls come after the journals' batches of their group, so a point that only follows them is visible or not.
        seen = sorted(row for row in rows if not row[2])
        events = [(one.kind, one.ms, one.detail) for one in store.events(run)]
        found = store.get_run(run)
        best = found.best_metric, found.best_epoch, found.best_value, found.name
        return seen, events, best, store.params(run), store.tags(run), store.metrics(run), store.epochs(run)

    alone = []
    for one in sorted(batches("alone"), key=lambda one: not one.writer):
        try:
            alone.append(store.append(one))
        except ParamConflict as error:
            alone.append(type(error))
    grouped = batches("group")
    answers = store.append_many(grouped)
    order = sorted(range(len(grouped)), key=lambda index: not grouped[index].writer)
    assert [answers[index] if isinstance(answers[index], Ack) else type(answers[index]) for index in order] == alone
    assert record("group") == record("alone")


def test_a_run_begins_with_the_batch_that_starts_it(store: SqlRunStore) -> None:
    """Frames that come before the start are refused and can be sent again; a restored store makes no run of them."""
    late = batch("r", 2, points(1, x=1.0))
    first, second = store.append_many([late, batch("r", 1, start_of())])
    assert isinstance(first, RunNotFound)
    assert [second, store.append(late)] == [Ack(last=1), Ack(last=2)]
    again = msgspec.structs.replace(batch("new", 5, start_of()), after=4)
    (refused,) = store.append_many([again])
    assert isinstance(refused, StoreRestored)
    assert [run.id for run in store.search_runs().runs] == ["r"]


def fit(number: int, first_epoch: int) -> FitStarted:
    return FitStarted(1, number, 1, first_epoch, first_epoch * 10, 0, 0, None, 10, None, None, "here")


def epoch(number: int, fit: int, loss: float) -> EpochEnded:
    return EpochEnded(100 * fit + number, number, fit, None, {"loss": loss})


def test_unstorable_text_is_refused(store: SqlRunStore) -> None:
    """What no column of text takes is the batch's fault, not the store's."""
    (result,) = store.append_many(
        [batch("r", 1, start_of(), EventLogged(1, "e", None, None, 0, {"x": {1, 2}, "y": object()}))]
    )
    assert isinstance(result, InvalidValue)


def test_number_that_does_not_fit_its_column(store: SqlRunStore) -> None:
    """A whole number that only some databases have room for is kept or refused, and no other batch suffers."""
    results = store.append_many(
        [
            batch("a", 1, start_of(), Points(1, "step", 1, 2**40, {"x": 1.0})),
            batch("b", 1, start_of(), points(1, x=1.0)),
        ]
    )
    assert isinstance(results[0], Ack | InvalidValue)
    assert results[1] == Ack(last=2)


def test_groups_of_the_same_runs_do_not_block_each_other(any_url: str) -> None:
    """Two servers whose groups have the same runs in opposite order both get through, without a deadlock."""
    runs = [f"r{number}" for number in range(8)]
    failures: list[object] = []

    def write(writer: str, names: list[str]) -> None:
        with open_small(any_url) as own:
            for number in range(2, 22):
                group = [batch(name, number, points(number, **{writer: 1.0}), writer=writer) for name in names]
                failures.extend(result for result in own.append_many(group) if isinstance(result, Exception))

    with open_small(any_url) as store:
        store.append_many([batch(name, 1, start_of()) for name in runs])
        threads = [
            threading.Thread(target=write, args=("w1", runs)),
            threading.Thread(target=write, args=("w2", runs[::-1])),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert all(len(store.history(name, writer)) == 20 for name in runs for writer in ("w1", "w2"))


def test_none_is_applied_while_the_store_is_locked(store_url: str) -> None:
    """A store that does not take the transaction is away for all; the same call succeeds later."""
    group = [batch("a", 1, start_of()), batch("b", 1, start_of())]
    with (
        open_small(f"{store_url}?timeout=0") as store,
        closing(sqlite3.connect(store_url[10:], isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable):
            store.append_many(group)
        other.execute("ROLLBACK")
        assert store.append_many(group) == [Ack(last=1), Ack(last=1)]


def test_a_run_that_is_locked_holds_no_other_up(postgres_url: str) -> None:
    """While another connection holds a run's row on PostgreSQL, only batches of this run are an outage."""
    import psycopg

    begin = [batch(name, 1, start_of()) for name in ("a", "b", "c")]
    more = [batch(name, number, points(number, x=1.0)) for number in (2, 3) for name in ("a", "b", "c")]
    # A shorter wait than usual.
    with open_small(f"{postgres_url}&options=-c%20lock_timeout%3D200") as store:
        assert store.append_many(begin) == [Ack(last=1)] * 3
        with psycopg.connect(postgres_url) as other:
            other.execute("SELECT 1 FROM runs WHERE uid = 'b' FOR UPDATE")
            results = store.append_many(more)
            assert [results[0], results[2], results[3], results[5]] == [Ack(last=2)] * 2 + [Ack(last=3)] * 2
            assert all(isinstance(results[index], StoreUnavailable) for index in (1, 4))
            other.rollback()
        assert store.append_many(more) == [Ack(last=2 if index == 1 else 3) for index in range(6)]
        assert [len(store.history(name, "x")) for name in ("a", "b", "c")] == [2, 2, 2]
