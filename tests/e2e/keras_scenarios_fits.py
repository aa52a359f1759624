"""Scenarios of epochs, fits, phases, evaluations and the runs that they belong to."""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from typing import Any

import keras
import numpy as np
from keras_bench import STEPS, Facts, X, Y, fit, linear, log_lines, scenario, verbose

import tracker
from tracker_keras import TrackerCallback


@scenario
def plain() -> Facts:
    with tracker.start_run(name="plain") as run:
        model = linear(metrics=["mae", keras.metrics.MeanSquaredError(name="squares")])
        history = fit(model, TrackerCallback(run), validation_data=(X, Y), epochs=3)
    return {"history": history.history}


@scenario
def phases() -> Facts:
    with tracker.start_run(name="phases") as run:
        model, callback = linear(), TrackerCallback(run)
        fit(model, callback, epochs=3)
        fit(model, callback, epochs=2)
        fit(model, callback, epochs=4, initial_epoch=1)
    return {}


@scenario
def evaluation() -> Facts:
    with tracker.start_run(name="evaluation") as run:
        model, callback = linear(), TrackerCallback(run)
        fit(model, callback, validation_data=(X, Y), validation_freq=2)
        result = model.evaluate(X, Y, verbose=verbose(), return_dict=True, callbacks=[callback])
        model.predict(X, verbose=verbose(), callbacks=[callback])
    return {"result": result}


@scenario
def evaluation_inside() -> Facts:
    """Somebody evaluates another model with the same callback in the middle of the fit."""
    other = linear(name="other", rate=0.5)

    class Evaluates(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            other.evaluate(X, Y, verbose=verbose(), callbacks=[callback])

    with tracker.start_run(name="evaluation_inside") as run:
        callback = TrackerCallback(run)
        fit(linear(), Evaluates(), callback, validation_data=(X, Y), epochs=3)
    return {}


@scenario
def empty_fits() -> Facts:
    with tracker.start_run(name="empty_fits") as run, log_lines() as said:
        model, callback = linear(), TrackerCallback(run)
        fit(model, callback, epochs=3)
        model._initial_epoch = 2  # what BackupAndRestore leaves behind
        fit(model, callback, epochs=2)
    return {"said": said}


@scenario
def max_epochs() -> Facts:
    keras.config.set_max_epochs(2)
    try:
        with tracker.start_run(name="max_epochs") as run, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit(linear(), TrackerCallback(run), epochs=5)
    finally:
        keras.config.set_max_epochs(None)
    return {}


@scenario
def outcomes() -> Facts:
    """Fits that end in every way. Ours stands first where one dies, since its epoch is counted."""

    class Dies(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            raise RuntimeError("the training died")

    with tracker.start_run(name="outcomes") as run:
        callback = TrackerCallback(run)
        fit(linear(), callback, keras.callbacks.EarlyStopping("loss", min_delta=1e9, patience=1), epochs=5)
        with contextlib.redirect_stdout(io.StringIO()):
            fit(linear(), callback, keras.callbacks.TerminateOnNaN(), x=X * np.nan, epochs=5)
        fit(linear(), callback, x=X * np.nan, epochs=1)
        with contextlib.suppress(RuntimeError):
            fit(linear(), callback, Dies(), epochs=5, ordered=True)
        linear().evaluate(X, Y, verbose=verbose(), callbacks=[callback])
        fit(linear(), callback, epochs=1)
    return {}


@scenario
def other_lists() -> Facts:
    """Callbacks as a tuple, and as a CallbackList of the user's own in a loop of the user's own."""
    with tracker.start_run(name="other_lists") as run:
        fit(linear(), callbacks=(TrackerCallback(run),))
        model, logs = linear(), {}
        callbacks = keras.callbacks.CallbackList([TrackerCallback(run)], model=model)
        callbacks.on_train_begin()
        for epoch in range(2):
            callbacks.on_epoch_begin(epoch)
            for batch in range(STEPS):
                callbacks.on_train_batch_begin(batch)
                logs = model.train_on_batch(X, Y, return_dict=True)
                callbacks.on_train_batch_end(batch, logs)
            callbacks.on_epoch_end(epoch, logs)
        callbacks.on_train_end(logs)
    return {}


@scenario
def two_models() -> Facts:
    with tracker.start_run(name="two_models") as run:
        one, two, callback = linear(name="one"), linear("adam", name="two"), TrackerCallback(run)
        for _ in range(2):
            fit(one, callback, epochs=1)
            fit(two, callback, epochs=1)
    return {}


@scenario
def odd_logs() -> Facts:
    class Adds(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            logs.update(text="high", nothing=None, array=np.zeros(3), one=np.ones((1, 1)), infinite=float("inf"))

    seen: list[list[str]] = []

    class Looks(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            seen.append(sorted(logs))

    with tracker.start_run(name="odd_logs") as run:
        # Not drawn: with other values Keras' own progress bar averages the text and raises.
        fit(linear(), Looks(), Adds(), TrackerCallback(run), Looks(), epochs=1, verbose=0)
    return {"seen": seen}


@scenario
def runs_of_our_own() -> Facts:
    """Without a run the callback opens one, once; those of callbacks that are gone do not stay open."""
    callback = TrackerCallback()
    copied = copy.deepcopy(callback)
    before = callback.run
    fit(linear(), callback)
    first = callback.run
    fit(linear(), callback)
    linear().evaluate(X, Y, verbose=verbose(), callbacks=[callback])
    assert first is not None
    facts: Facts = {"before": before, "kept": callback.run is first, "first": first.id, "status": first.status}
    fit(linear(), copied)
    facts["copied"] = copied.run.id if copied.run else None
    dropped = TrackerCallback()
    fit(linear(), dropped)
    run = dropped.run
    del dropped
    fit(linear(), TrackerCallback())
    facts["dropped"], facts["dropped status"] = run.id if run else None, run.status if run else None
    facts["alive"] = [first.status, copied.run.status if copied.run else None]
    first.finish()
    fit(linear(), callback)
    facts["anew"] = callback.run is not first
    return facts
