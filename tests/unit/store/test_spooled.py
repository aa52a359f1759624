"""Histories on disk have the points of those in memory, whatever was written twice, and wherever pieces end."""

from __future__ import annotations

import random

import numpy as np
import pytest
from contracts.writer import Writer, points
from e2e.children import run_child

from tracker.domain.calls import batch_of_call
from tracker.domain.errors import RunNotFound, SeriesNotFound
from tracker.domain.frames import FitStarted
from tracker.store.points import spooled
from tracker.store.store import SqlRunStore


def fill(store: SqlRunStore, chance: random.Random) -> None:
    """A run with a series that is written out of order, again, in several fits, and by an MLflow client too."""
    writer = Writer(store).start()
    for fit in range(1, 4):
        first = chance.randrange(40)
        writer.send(
            FitStarted(
                ms=2000, number=fit, phase=fit, phase_epoch=0, phase_step=0, first_epoch=first, first_step=first,
                epochs=None, steps_per_epoch=None, batch_size=None, resumed_from=None, host="host",
            )
        )  # fmt: skip
        for _ in range(40):
            step = chance.randrange(first, first + 30)
            writer.send(points(step, fit=fit, x=chance.choice([1.0, 2.0, float("nan"), chance.random()])))
    steps = [chance.choice([5, chance.randrange(60)]) for _ in range(60)]
    ms = [chance.randrange(2000, 2100) for _ in steps]
    store.append(batch_of_call("r", ["x"] * len(steps), steps, ms, [chance.random() for _ in steps]))


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_the_same_points(any_url: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without what is superseded, whole and between two steps."""
    monkeypatch.setattr(spooled, "AT_ONCE", at_once)
    chance = random.Random(at_once)
    with SqlRunStore.open(any_url) as store:
        fill(store, chance)
        for raw in (False, True):
            for first, last in ((None, None), (5, None), (12, 30), (70, None)):
                whole = store.history("r", "x", raw=raw, first_step=first, last_step=last)
                with store.spool_history("r", "x", raw=raw, first_step=first, last_step=last) as found:
                    assert found.count == len(whole.steps)
                    for name in found.columns:
                        np.testing.assert_array_equal(found.column(name), getattr(whole, name), name)
                        np.testing.assert_array_equal(found.column(name, 3, 9), getattr(whole, name)[3:9], name)
                    found.sort_by_time()
                    order = np.lexsort((whole.values, whole.steps, whole.ms))
                    for name in found.columns:
                        np.testing.assert_array_equal(found.column(name), getattr(whole, name)[order], name)


def test_what_is_not_there(store_url: str) -> None:
    """The errors are those of a history in memory."""
    with SqlRunStore.open(store_url) as store:
        with pytest.raises(RunNotFound):
            store.spool_history("r", "x")
        Writer(store).start().send(points(1, x=1.0))
        with pytest.raises(SeriesNotFound):
            store.spool_history("r", "y")


def test_no_room_on_disk() -> None:
    """A disk that is full is the store's trouble, and is said without a folder of the server's."""
    run_child(
        """
        import numpy as np
        from tracker.domain.errors import StoreUnavailable
        from tracker.store.points.spooled import SpooledHistory

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limit(50_000)
        with SpooledHistory("x", "step") as history:
            many = np.arange(10_000)
            try:
                history.add(steps=many, ms=many, values=many.astype(float))
            except StoreUnavailable as error:
                assert str(error).startswith("a long history finds no room"), error
                assert "/" not in str(error), error
            else:
                raise AssertionError("there was room")
        """
    )
