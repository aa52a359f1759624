"""A forked child trains with a callback of its parent's: one that opens its runs has one of its own there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from e2e.children import Child

from tracker.api import open_store
from tracker.domain.ports import RunStore

# TensorFlow and JAX do not survive a fork: the loop is one of its own, and computes nothing.
TRAINING = """
import copy, json, multiprocessing
os.environ["KERAS_BACKEND"] = "numpy"
import keras
from tracker_keras import TrackerCallback

def train(ours, epochs, status=None):
    callbacks = keras.callbacks.CallbackList([ours], model=keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))
    callbacks.on_train_begin()
    for epoch in range(epochs):
        callbacks.on_epoch_begin(epoch)
        callbacks.on_epoch_end(epoch, {"loss": 3.0 - epoch})
    callbacks.on_train_end()
    if status is not None:
        json.dump({"id": ours.run.id, "problems": dict(ours.run.problems)}, open(status, "w"))

def fork(ours, epochs, status):
    child = multiprocessing.get_context("fork").Process(target=train, args=(ours, epochs, status))
    child.start()
    child.join()
    assert child.exitcode == 0
"""


@pytest.fixture
def store(store_url: str) -> Iterator[RunStore]:
    """The store of the test, with its schema."""
    with closing(open_store(store_url)) as opened:
        yield opened


@pytest.mark.parametrize("ours", ["own", "copy.deepcopy(own)"])
def test_a_callback_of_its_own_runs_opens_one_in_the_child(store: RunStore, home: Path, ours: str) -> None:
    """Parent's and child's trainings are a run each, all of it, and the parent goes on with its own."""
    script = (
        f"{TRAINING}\nown = TrackerCallback(experiment='forks')\ntrain(own, 2)\nfork({ours}, 3, 'child')\ntrain(own, 1)"
    )
    with Child(script, backend="numpy") as child:
        assert child.end() == 0, child.errors
    runs = store.search_runs().runs
    found = {len(store.fits(run.id)): len(store.epochs(run.id)) for run in runs}
    assert [(run.experiment, run.status) for run in runs] == [("forks", "finished")] * 2
    assert found == {1: 3, 2: 3}
    assert "forked child" not in child.errors


def test_a_run_that_was_given_stays_the_parents(store: RunStore, home: Path) -> None:
    """The child's training is not recorded, which is said once and counted."""
    script = f"{TRAINING}\nwith tracker.start_run() as run:\n    fork(TrackerCallback(run), 3, 'child')\n    run.log_epoch(0, {{'loss': 1.0}})"
    with Child(script, backend="numpy") as child:
        assert child.end() == 0, child.errors
    (run,) = store.search_runs().runs
    assert store.fits(run.id) == []
    assert [epoch.number for epoch in store.epochs(run.id)] == [0]
    assert child.errors.count("a forked child logged to its parent's run") == 1
