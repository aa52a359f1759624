"""What could not be recorded of a fit is counted in the run's problems, and said once a kind."""

from __future__ import annotations

import copy
import logging
from typing import Any

import numpy as np
import pytest

import tracker
from tracker_keras.recording.guard import Guard

X = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")
pytestmark = pytest.mark.usefixtures("offline")


@pytest.fixture
def offline(home: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are recorded in the journal alone."""
    monkeypatch.setenv("TRACKER_MODE", "offline")


def callback(*given: Any) -> Any:
    """Ours."""
    from tracker_keras import TrackerCallback

    return TrackerCallback(*given)


def model(*, unreadable: bool = False) -> Any:
    """A model of four parameters, maybe with a metric whose direction is asked for in vain."""
    import keras

    class Unreadable(keras.metrics.MeanSquaredError):  # type: ignore[misc]  # Keras has no types
        @property
        def _direction(self) -> str:
            raise RuntimeError("no direction")

        @_direction.setter
        def _direction(self, value: object) -> None:
            return None

    made = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)])
    made.compile("sgd", "mse", metrics=[Unreadable(name="odd")] if unreadable else None)
    return made


def messages(caplog: pytest.LogCaptureFixture, part: str) -> list[logging.LogRecord]:
    """What was said with `part` in it."""
    return [record for record in caplog.records if part in record.getMessage()]


def test_what_a_fit_could_not_tell_is_a_problem_of_its_run(caplog: pytest.LogCaptureFixture) -> None:
    """A metric that cannot be read costs the goals; the rest is recorded, and each epoch counts."""
    trained = model(unreadable=True)
    with tracker.start_run() as run:
        ours = callback(run)
        for _ in range(2):
            trained.fit(X, X.sum(axis=1), epochs=2, callbacks=[ours])
        kind = "error while reading the metrics' goals"
        assert run.problems == {kind: 4}  # it is asked for after each epoch
        assert run.next_epoch == 4
    (said,) = messages(caplog, "while reading the metrics' goals; training goes on, this is not recorded")
    assert run.id in said.getMessage()
    assert said.exc_info is not None
    assert ours.guard.errors == 4


def test_a_copy_counts_in_the_run_that_it_opens() -> None:
    """The problems of one callback's fit are not those of the other's run."""
    ours = callback()
    copied = copy.deepcopy(ours)
    model(unreadable=True).fit(X, X.sum(axis=1), callbacks=[copied])
    model().fit(X, X.sum(axis=1), callbacks=[ours])
    assert copied.run is not None
    assert ours.run is not None
    assert copied.run.problems == {"error while reading the metrics' goals": 1}
    assert ours.run.problems == {}


def test_an_object_that_counts_nothing_costs_no_words(caplog: pytest.LogCaptureFixture) -> None:
    """Where the run itself fails, the error is said all the same, once."""
    guard = Guard(object())  # type: ignore[arg-type]
    for _ in range(2):
        with guard("counting"):
            raise RuntimeError("one")
    assert len(messages(caplog, "while counting")) == 1
    assert guard.errors == 2
