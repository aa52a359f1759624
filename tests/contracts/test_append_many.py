"""Group commit: many batches in one transaction, each on its own."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from e2e.server_lab import batch, points, start_of

from tracker.domain.errors import InvalidValue, RunNotFound, StoreUnavailable
from tracker.domain.frames import Ack, EventLogged, Points
from tracker.store import engine as engines
from tracker.store.store import SqlRunStore


@pytest.fixture
def store(any_url: str) -> Iterator[SqlRunStore]:
    with SqlRunStore.open(any_url) as opened:
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
        with SqlRunStore.open(any_url) as own:
            for number in range(2, 22):
                group = [batch(name, number, points(number, **{writer: 1.0}), writer=writer) for name in names]
                failures.extend(result for result in own.append_many(group) if isinstance(result, Exception))

    with SqlRunStore.open(any_url) as store:
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


def test_none_is_applied_while_the_store_is_locked(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that does not take the transaction is away for all; the same call succeeds later."""
    monkeypatch.setattr(engines, "BUSY_SECONDS", 0.1)
    group = [batch("a", 1, start_of()), batch("b", 1, start_of())]
    with SqlRunStore.open(store_url) as store, closing(sqlite3.connect(store_url[10:], isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable):
            store.append_many(group)
        other.execute("ROLLBACK")
        assert store.append_many(group) == [Ack(last=1), Ack(last=1)]
