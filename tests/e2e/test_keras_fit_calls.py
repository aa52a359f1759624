"""The ways in which people call `fit()`: the record of each is complete, and what cannot be known of one is said.

The second half of this file is the script that trains, once in every way and in one process; the first half reads it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from e2e.keras_lab import backends, training
from templates import sqlite_store

import tracker

EPOCHS, STEPS, BATCH = 2, 4, 5
WAYS = (
    "method", "positional", "bound before", "subclass", "partial", "decorated", "thread", "CallbackList", "evaluates",
    "tensorflow.keras", "scikit-learn", "KerasTuner",
)  # fmt: skip
UNSEEN = ("bound before",)
"""Those that do not pass `keras.Model.fit` as it is when they are called."""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", params=backends(__name__))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The store, and what the script said of each training."""
    folder = tmp_path_factory.mktemp("calls")
    with tracker.open_store(sqlite_store(folder)) as store:
        done = training([__file__], folder, request.param, PYTHONPATH=str(Path(__file__).parents[1]))
        assert done.returncode == 0, done.stderr[-4000:]
        yield store, json.loads((folder / "facts.json").read_text())


@pytest.mark.parametrize("way", WAYS)
def test_whatever_the_call_everything_is_on_record(trained: tuple[Any, Any], way: str) -> None:
    """Plan, data, batches, validation, state, decisions of other callbacks and the end of a training."""
    store, facts = trained
    (run,) = store.find_runs(way)
    fit = store.fits(run.id)[0]
    assert (fit.epochs, fit.steps_per_epoch, fit.batch_size, fit.outcome) == (EPOCHS, STEPS, BATCH, "completed")
    assert {"data.digest", "data.validation.digest"} <= store.params(run.id).keys()
    assert [epoch.number for epoch in store.epochs(run.id) if epoch.fit == 1] == [0, 1]
    assert store.history(run.id, "batch/loss").steps.tolist()[: EPOCHS * STEPS] == [*range(1, EPOCHS * STEPS + 1)]
    changes = [one for one in store.events(run.id) if one.kind == "learning_rate_changed"]
    assert changes[0].detail["by"] == "LearningRateScheduler"
    assert [one.role for one in store.checkpoints(run.id) if (one.fit, one.epoch, one.step) == (1, 1, 8)] == ["state"]
    unknown = {"unknown_of_fit": 1} if way in UNSEEN else {}
    assert facts[way]["problems"] == unknown
    assert len(facts[way]["said"]) == len(unknown)


@pytest.mark.parametrize("way", WAYS)
def test_a_training_that_raises_has_ended(trained: tuple[Any, Any], way: str) -> None:
    """Its fit is failed at once, while its run goes on; where nobody sees the end, the log says so, and it follows."""
    store, facts = trained
    (run,) = store.find_runs(way)
    assert facts[way]["at once"] == (None if way in UNSEEN else "failed")
    assert [one.outcome for one in store.fits(run.id)] == ["completed", "failed"]
    if way in UNSEEN:
        assert "how it ends, if an exception ends it" in facts[way]["said"][0]


def test_a_loop_over_a_list_of_callbacks(trained: tuple[Any, Any]) -> None:
    """Its epochs and its callbacks' decisions are on record; all else that it alone knows is named on the log."""
    store, facts = trained
    (run,) = store.find_runs("loop")
    assert [(one.epochs, one.batch_size, one.outcome) for one in store.fits(run.id)] == [(2, None, "completed")]
    assert [epoch.number for epoch in store.epochs(run.id)] == [0, 1]
    assert [one.detail["by"] for one in store.events(run.id) if one.kind == "learning_rate_changed"]
    assert facts["loop"]["problems"] == {"unknown_of_fit": 1}
    (said,) = facts["loop"]["said"]
    assert "the batch size; the data; how many steps an epoch has; how it ends, if an exception ends it" in said


def test_batch_hooks_in_other_threads(trained: tuple[Any, Any]) -> None:
    """With JAX Keras calls batch hooks in a pool of threads, out of order; each batch is at its own step."""
    store, facts = trained
    (run,) = store.find_runs("method")
    assert facts["pooled"] == (facts["backend"] == "jax")
    history = store.history(run.id, "batch/loss", raw=True)
    assert sorted(history.steps[history.fits == 1].tolist()) == [*range(1, EPOCHS * STEPS + 1)]


# -- the script --------------------------------------------------------------------------------------------------------


def main() -> None:
    import keras

    fit_before = keras.Model.fit  # before tracker_keras is imported
    import keras_tuner
    import numpy as np
    from sklearn.base import BaseEstimator, RegressorMixin, clone

    from tracker_keras import TrackerCallback

    sys.path.insert(0, str(Path(__file__).parent))
    from keras_bench import X, Y, log_lines

    stock = keras.callbacks

    class Own(keras.Sequential):  # type: ignore[misc]
        """A model whose `fit` has arguments of its own."""

        def fit(self, data: Any, *, rounds: int, **given: Any) -> Any:
            return super().fit(*data, epochs=rounds, **given)

    def decorated(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **named: Any) -> Any:
            return function(*args, **named)

        return wrapper

    class Decorated(keras.Sequential):  # type: ignore[misc]
        """A model whose class took Keras' `fit` before anything of ours was imported."""

        fit = decorated(keras.Model.fit)

    class Estimator(RegressorMixin, BaseEstimator):  # type: ignore[misc]
        """A scikit-learn estimator, which `clone` copies with its callbacks."""

        def __init__(self, given: Any = None) -> None:
            self.given = given

        def fit(self, x: Any, y: Any) -> Estimator:
            linear().fit(x, y, **self.given)
            return self

    class Trial(keras_tuner.HyperModel):  # type: ignore[misc]
        """A trial of KerasTuner that calls `fit()` itself."""

        def __init__(self, given: Any) -> None:
            super().__init__()
            self.given = given

        def build(self, parameters: Any) -> Any:
            return linear()

        def fit(self, parameters: Any, model: Any, *_: Any, **__: Any) -> Any:
            return min(model.fit(X, Y, **self.given).history["loss"])

    class Evaluates(stock.Callback):  # type: ignore[misc]
        """Evaluates other data in the middle of the training, with the same callbacks."""

        def __init__(self, others: list[Any]) -> None:
            super().__init__()
            self._others = others

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.evaluate(X[:5], Y[:5], callbacks=self._others)

    class Dies(stock.Callback):  # type: ignore[misc]
        """Ends the training by an exception."""

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            raise ZeroDivisionError

    class Threads(stock.Callback):  # type: ignore[misc]
        """Remembers the threads in which batch hooks are called; Keras may call them out of order."""

        async_safe = True

        def __init__(self) -> None:
            super().__init__()
            self.names: set[str] = set()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.names.add(threading.current_thread().name)

    def linear(kind: Any = keras.Sequential) -> Any:
        model = kind([keras.layers.Input((3,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.01), "mse")
        return model

    def in_thread(**given: Any) -> None:
        errors: list[BaseException] = []

        def work() -> None:
            try:
                linear().fit(X, Y, **given)
            except ZeroDivisionError as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]

    def in_list(callbacks: list[Any], **given: Any) -> None:
        model = linear()
        model.fit(X, Y, callbacks=stock.CallbackList(callbacks, add_history=True, model=model), **given)

    def of_tensorflow(**given: Any) -> None:
        import tensorflow as tf

        linear(tf.keras.Sequential).fit(X, Y, **given)

    def tuned(**given: Any) -> None:
        search = keras_tuner.RandomSearch(Trial(given), max_trials=1, overwrite=True, directory="search")
        search.search()

    def evaluating(callbacks: list[Any], **given: Any) -> None:
        callbacks.insert(0, Evaluates(callbacks[:]))
        linear().fit(X, Y, callbacks=callbacks, **given)

    ways: dict[str, Callable[..., Any]] = {
        "method": lambda **given: linear().fit(X, Y, **given),
        "positional": lambda callbacks, batch_size, epochs, **given: linear().fit(
            X, Y, batch_size, epochs, "auto", callbacks, **given
        ),
        "bound before": lambda **given: fit_before.__get__(linear())(X, Y, **given),
        "subclass": lambda epochs, **given: linear(Own).fit((X, Y), rounds=epochs, **given),
        "partial": lambda **given: functools.partial(linear().fit, X, Y)(**given),
        "decorated": lambda **given: linear(Decorated).fit(X, Y, **given),
        "thread": in_thread,
        "CallbackList": in_list,
        "evaluates": evaluating,
        "tensorflow.keras": of_tensorflow,
        "scikit-learn": lambda **given: clone(Estimator(given)).fit(X, Y),
        "KerasTuner": tuned,
    }
    facts: dict[str, Any] = {"backend": keras.backend.backend()}
    threads = Threads()

    def callbacks_of(run: Any) -> list[Any]:
        schedule = stock.LearningRateScheduler(lambda epoch, rate: float(rate) / 2)
        return [TrackerCallback(run, log_batches=1, checkpoint="epoch"), schedule, threads]

    for way, call in ways.items():
        with log_lines() as said, tracker.start_run(name=way) as run:
            given = {"batch_size": BATCH, "epochs": EPOCHS, "validation_data": (X[:5], Y[:5])}
            call(callbacks=callbacks_of(run), **given)
            run.flush()
            facts[way] = {"problems": dict(run.problems), "said": list(said)}
            with tracker.open_store() as store:
                with contextlib.suppress(Exception):
                    call(callbacks=[*callbacks_of(run), Dies()], **given)
                run.flush()
                facts[way]["at once"] = store.fits(run.id)[-1].outcome
    facts["pooled"] = any("MainThread" not in name for name in threads.names)

    with log_lines() as said, tracker.start_run(name="loop") as run:
        model = linear()
        callbacks = stock.CallbackList([TrackerCallback(run), callbacks_of(run)[1]], model=model, epochs=2)
        callbacks.on_train_begin()
        for epoch in range(2):
            callbacks.on_epoch_begin(epoch)
            loss = float(np.ravel(model.train_on_batch(X, Y))[0])
            callbacks.on_epoch_end(epoch, {"loss": loss})
        callbacks.on_train_end()
        facts["loop"] = {"problems": dict(run.problems), "said": list(said)}
    Path("facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
