"""Scenarios of fits that nobody passed a callback to, and of training loops without any `fit()`."""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras_bench import BATCH, STEPS, Facts, X, Y, fit, linear, scenario, verbose

import tracker
from tracker.client.lifecycle import open_runs
from tracker.domain.errors import InvalidValue
from tracker_keras import TrackerCallback, autolog, describe, log_data


@contextlib.contextmanager
def recorded(**options: Any) -> Iterator[None]:
    """With `autolog()`, and without it afterwards."""
    autolog(**options)
    try:
        yield
    finally:
        autolog(disable=True)


class Seen(keras.callbacks.Callback):
    """The run that was opened last as an epoch ended."""

    def __init__(self) -> None:
        super().__init__()
        self.run: Any = None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.run = open_runs()[-1]


@scenario
def autolog_forms() -> Facts:
    """Callbacks passed in every way that Keras takes."""
    model, one = linear(), keras.callbacks.Callback
    whole = keras.callbacks.CallbackList([one()], model=model, epochs=1, steps=STEPS)
    given: list[Any] = [one()]
    forms: dict[str, Callable[[], Any]] = {
        "absent": lambda: model.fit(X, Y, BATCH, 1, verbose()),
        "None": lambda: model.fit(X, Y, BATCH, 1, verbose(), callbacks=None),
        "positional": lambda: model.fit(X, Y, BATCH, 1, verbose(), given),
        "positional None": lambda: model.fit(X, Y, BATCH, 1, verbose(), None, 0.25),
        "empty": lambda: model.fit(X, Y, BATCH, 1, verbose(), callbacks=[]),
        "tuple": lambda: model.fit(X, Y, BATCH, 1, verbose(), callbacks=(one(), one())),
        "nested": lambda: model.fit(X, Y, BATCH, 1, verbose(), callbacks=[[one()], (one(), [one()])]),
        "single": lambda: model.fit(X, Y, BATCH, 1, verbose(), callbacks=one()),
        "CallbackList": lambda: model.fit(X, Y, BATCH, 1, verbose(), callbacks=whole),
    }
    size = len(whole.callbacks)
    with recorded():
        for name, call in forms.items():
            with tracker.start_run(name=f"autolog {name}"):
                call()
        with tracker.start_run(name="autolog brings its own") as run:
            fit(model, TrackerCallback(run), epochs=1)
    return {"forms": list(forms), "left": len(given), "size": [size, len(whole.callbacks)]}


@scenario
def autolog_patch() -> Facts:
    """What `keras.Model.fit` is meanwhile and afterwards, also with another tool's wrapper on top."""
    before = keras.Model.fit
    facts: Facts = {}
    with recorded():
        facts["once"] = keras.Model.fit is before
        facts["same face"] = (
            inspect.signature(before) == inspect.signature(before.__wrapped__)
            and before.__doc__ == before.__wrapped__.__doc__
        )
    with contextlib.suppress(InvalidValue):
        autolog(log_batches=-1)

    @functools.wraps(before)
    def theirs(*args: Any, **kwargs: Any) -> Any:
        return before(*args, **kwargs)

    keras.Model.fit = theirs
    with tracker.start_run(name="autolog below another"):
        with recorded():
            linear().fit(X, Y, BATCH, 1, verbose())
        facts["left alone"] = keras.Model.fit is theirs
        linear().fit(X, Y, BATCH, 1, verbose())
        with recorded():
            linear().fit(X, Y, BATCH, 1, verbose())
    del keras.Model.fit  # a tool that took away what it found, and ours with it
    with recorded(), tracker.start_run(name="autolog again"):
        linear().fit(X, Y, BATCH, 1, verbose())
    keras.Model.fit = before
    return facts


@scenario
def autolog_runs() -> Facts:
    """Runs of fits for which none is open; one of them dies, one is interrupted."""
    seen = [Seen() for _ in range(4)]

    class Dies(keras.callbacks.Callback):
        def __init__(self, error: BaseException) -> None:
            super().__init__()
            self.error = error

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            raise self.error

    raised = []
    with recorded(log_batches=2):
        fit(linear(), seen[0])
        fit(linear(), seen[1])
        for index, error in ((2, RuntimeError("the training died")), (3, KeyboardInterrupt())):
            try:
                fit(linear(), seen[index], Dies(error))
            except BaseException as came:
                raised.append(came is error)
    return {"runs": [one.run.id for one in seen], "ended": [one.run.status for one in seen], "raised": raised}


@scenario
def autolog_open_run() -> Facts:
    """Several fits in the open run, one that dies among them."""

    class Dies(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                raise RuntimeError("the training died")

    model = linear()
    with recorded(), tracker.start_run(name="autolog_open_run"):
        fit(model)
        with contextlib.suppress(RuntimeError):
            fit(model, Dies())
        fit(model)
    return {}


@scenario
def autolog_nested() -> Facts:
    """A subclass with a `fit()` of its own, and a fit inside a callback of another."""
    seen = Seen()

    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, inputs: Any) -> Any:
            return self.dense(inputs)

        def fit(self, x: Any, callbacks: Any = None, **kwargs: Any) -> Any:
            return super().fit(x, kwargs.pop("y"), callbacks=callbacks, **kwargs)

    class Inner(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                fit(linear(name="inner"), seen, epochs=1)

    model = Own()
    model.compile("sgd", "mse")
    with recorded(), tracker.start_run(name="autolog_nested") as run:
        fit(model, Inner(), epochs=3)
    return {"outer": run.id, "inner": seen.run.id}


@scenario
def autolog_threads() -> Facts:
    """Two threads train at once, each with a run of its own open."""
    together = threading.Barrier(2)

    class Meets(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            together.wait(60)

    def train(name: str) -> None:
        with tracker.start_run(name=name):
            fit(linear(), Meets(), epochs=2)

    with recorded():
        threads = [threading.Thread(target=train, args=(f"autolog thread {index}",)) for index in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    return {}


@scenario
def custom_loop() -> Facts:
    """A training loop without `fit()`: with a GradientTape on TensorFlow, with train_on_batch on the others."""
    model, losses = linear(), []
    with tracker.start_run(name="custom_loop") as run:
        describe(run, model)
        log_data(run, X, Y)
        log_data(run, X[:4], Y[:4], context="validation")
        for _ in range(2):
            with run.start_fit(epochs=2, steps_per_epoch=STEPS, batch_size=BATCH) as recorder:
                for epoch in range(2):
                    for batch in range(STEPS):
                        part = slice(batch * BATCH, (batch + 1) * BATCH)
                        loss = _step(model, X[part], Y[part])
                        recorder.log_batch(epoch * STEPS + batch + 1, {"batch/loss": loss})
                    losses.append(loss)
                    recorder.log_epoch(epoch, {"loss": loss}, steps=(epoch + 1) * STEPS)
    return {"losses": losses}


def _step(model: Any, x: Any, y: Any) -> float:
    if keras.backend.backend() != "tensorflow":
        return float(model.train_on_batch(x, y, return_dict=True)["loss"])
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = keras.ops.mean(keras.losses.mean_squared_error(y, model(x, training=True)))
    model.optimizer.apply(tape.gradient(loss, model.trainable_weights), model.trainable_weights)
    return float(loss)
