"""A fit that dies before its first state says that the training starts from the beginning when it is started again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import numpy as np
import pytest

import tracker
from tracker.domain.ports import RunStore

X = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")


@pytest.fixture
def store(store_url: str) -> Iterator[RunStore]:
    """The store of the test, with its schema."""
    with closing(tracker.open_store(store_url)) as opened:
        yield opened


def train(run: Any, batches: int, error: BaseException, **options: Any) -> None:
    """Two epochs of three steps; after so many batches in all the training dies of `error`."""
    import keras

    from tracker_keras import TrackerCallback

    left = itertools.count(batches - 1, -1)

    class Dies(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if next(left) == 0:
                raise error

    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with suppress(RuntimeError, KeyboardInterrupt):
        model.fit(X, X.sum(axis=1), batch_size=4, epochs=2, callbacks=[Dies(), TrackerCallback(run, **options)])


@pytest.mark.parametrize("options", [{"resume": True}, {"checkpoint": 5}, {"resume": True, "checkpoint": 5}])
@pytest.mark.parametrize("error", [RuntimeError("died"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
def test_it_is_said_at_the_death(
    options: dict[str, Any], error: BaseException, store: RunStore, home: object, caplog: pytest.LogCaptureFixture
) -> None:
    """On the log, in the run's problems and on its timeline, with the steps that are lost."""
    with tracker.start_run() as run:
        train(run, 2, error, **options)
    assert run.problems == {"no_state_at_end": 1}
    said = [one.getMessage() for one in caplog.records if "no state to resume from" in one.getMessage()]
    assert len(said) == 1
    assert "the fit died and no state to resume from was saved" in said[0]
    assert "started again, this training starts from the beginning" in said[0]
    if "checkpoint" in options:
        assert "checkpoint=5" in said[0]
    assert [event.epoch for event in store.events(run.id) if event.kind == "state_missing"] == [0]


def test_who_has_a_state_is_told_nothing(store: RunStore, home: object) -> None:
    """It died after its first state; so did the process that went on from it, before it saved one of its own."""
    with tracker.start_run(name="goes on", resume="allow") as run:
        train(run, 4, RuntimeError("died"), resume=True)
    assert run.problems == {}
    with tracker.start_run(run_id=run.id, resume="must") as again:
        train(again, 1, RuntimeError("died"), resume=True)
    assert again.problems == {}
    assert [event.kind for event in store.events(run.id) if event.kind in ("resumed", "state_missing")] == ["resumed"]


def test_who_asked_for_no_state_is_told_nothing(store: RunStore, home: object) -> None:
    """Without resume= and checkpoint= nobody waits for one."""
    with tracker.start_run() as run:
        train(run, 2, RuntimeError("died"))
    assert run.problems == {}
