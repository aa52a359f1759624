"""Scenarios of the same training, called in many ways: what is recorded of it must not depend on how."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras_bench import BATCH, Facts, Truth, X, Y, anywhere, linear, log_lines, scenario, verbose

import tracker
from tracker.domain.errors import InvalidValue
from tracker_keras import TrackerCallback, autolog

stock = keras.callbacks
VERBOSE: Mapping[str, dict[str, Any]] = {
    "0": {"verbose": 0},
    "1": {"verbose": 1},
    "2": {"verbose": 2},
    "auto": {"verbose": "auto"},
    "not given": {},
}
PLACES = ("first", "middle", "last")


def put(ours: Any, others: list[Any], place: str) -> list[Any]:
    """`others` with `ours` among them."""
    index = {"first": 0, "middle": len(others) // 2, "last": len(others)}[place]
    return [*others[:index], ours, *others[index:]]


def beside() -> list[Any]:
    """Callbacks that decide something at the end of each epoch; Truth notes what was."""
    return [
        Truth(),
        stock.ReduceLROnPlateau("loss", patience=1, min_delta=1e9, factor=0.5),
        stock.EarlyStopping("loss", patience=9, restore_best_weights=True),
    ]


@scenario
def called_with_verbose() -> Facts:
    """`fit(verbose=…)` in every form, with our callback first, in the middle and last."""
    facts: Facts = {"runs": {}}
    model = linear()
    for form, given in VERBOSE.items():
        for place in PLACES:
            name, others = f"verbose {form}, {place}", beside()
            model.optimizer.learning_rate = 0.01
            with log_lines() as said, tracker.start_run(name=name) as run, contextlib.redirect_stdout(io.StringIO()):
                callbacks = put(TrackerCallback(run, resume=True), others, place)
                history = model.fit(X, Y, batch_size=BATCH, epochs=4, callbacks=callbacks, **given)
            facts["runs"][name] = {"rates": others[0].rates, "loss": history.history["loss"], "said": said}
    return facts


class Overrides(stock.Callback):
    """Keeps neither the params nor the model that Keras gives it."""

    def set_params(self, params: Any) -> None:
        self.given = params

    def set_model(self, model: Any) -> None:
        self.trained = model


class Adds(stock.Callback):
    """Puts a metric of its own among the logs, as an epoch ends."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs["added"] = 10.0 + epoch


class Evaluates(stock.Callback):
    """Evaluates the model in the middle of the fit, with the same callbacks."""

    def __init__(self) -> None:
        super().__init__()
        self.callbacks: list[Any] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.model.evaluate(X, Y, verbose=verbose(), callbacks=self.callbacks)


@scenario
def called_in_forms() -> Facts:
    """The callbacks in every form that Keras takes, and `fit` itself in some."""
    facts: Facts = {"runs": {}}
    model = linear()
    given: dict[str, Any] = {"batch_size": BATCH, "epochs": 2, "shuffle": False, "verbose": verbose()}
    forms: Mapping[str, Callable[[Any], Any]] = {
        "alone": lambda ours: model.fit(X, Y, callbacks=ours, **given),
        "mapping": lambda ours: model.fit(X, Y, callbacks={"ours": ours, "other": Overrides()}, **given),
        "tuple": lambda ours: model.fit(X, Y, callbacks=(Overrides(), ours), **given),
        "nested": lambda ours: model.fit(X, Y, callbacks=[stock.CallbackList([ours], model=model), Adds()], **given),
        "positional": lambda ours: model.fit(X, Y, BATCH, 2, verbose(), [ours], shuffle=False),
        "partial": lambda ours: functools.partial(model.fit, X, Y, **given)(callbacks=[ours]),
        "whole list": lambda ours: model.fit(
            X, Y, callbacks=stock.CallbackList([ours], add_history=True, model=model), **given
        ),
        "hostile": lambda ours: model.fit(X, Y, callbacks=hostile(ours), **given),
    }

    def hostile(ours: Any) -> list[Any]:
        evaluates = Evaluates()
        evaluates.callbacks = [Overrides(), evaluates, ours, Adds(), stock.History()]
        return evaluates.callbacks

    for form, call in forms.items():
        name = f"form {form}"
        with log_lines() as said, tracker.start_run(name=name) as run, contextlib.redirect_stdout(io.StringIO()):
            history = call(TrackerCallback(run, resume=True, checkpoint=2, log_batches=1))
            run.in_background(lambda: None).result(60)
            facts["runs"][name] = {"history": history.history, "said": said, "problems": dict(run.problems)}
    return facts


@scenario
def stopped_by_callbacks() -> Facts:
    """Callbacks of the user's own that end a training, as an epoch ends or in its batches."""

    class AtEpochEnd(stock.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.stop_training = epoch == 1

    class InBatch(stock.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 1:
                self.model.stop_training = True

    class Patient(stock.EarlyStopping):
        def set_params(self, params: Any) -> None:
            """Keeps none."""

    model = linear()
    lambdas = stock.LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", True))
    stoppers = {
        "AtEpochEnd": AtEpochEnd(),
        "InBatch": InBatch(),
        "LambdaCallback": lambdas,
        "Patient": Patient("loss", patience=1, min_delta=1e9),
    }
    for name, stopper in stoppers.items():
        with tracker.start_run(name=f"stopped by {name}") as run, contextlib.redirect_stdout(io.StringIO()):
            callbacks = anywhere([stock.CSVLogger("log.csv"), TrackerCallback(run), stopper, Adds()])
            model.fit(X, Y, batch_size=BATCH, epochs=5, verbose=verbose(), callbacks=callbacks)
    return {"names": list(stoppers)}


@scenario
def loop_without_params() -> Facts:
    """A loop of the user's own over a CallbackList that was given nothing, with a wish to be resumed; one that dies."""
    facts: Facts = {}
    for name, dies in (("loop", False), ("loop that dies", True)):
        with log_lines() as said, tracker.start_run(name=name) as run, contextlib.suppress(ZeroDivisionError):
            model, logs = linear(), {}
            callbacks = stock.CallbackList([Adds(), TrackerCallback(run, resume=True)], model=model)
            callbacks.on_train_begin()
            for epoch in range(3):
                callbacks.on_epoch_begin(epoch)
                logs = model.train_on_batch(X, Y, return_dict=True)
                callbacks.on_epoch_end(epoch, logs)
                _ = 1 / (epoch - 1 if dies else 1)
            callbacks.on_train_end(logs)
        facts[name] = {"said": said, "problems": dict(run.problems)}
    return facts


@scenario
def died_and_ended() -> Facts:
    """What the record says of a fit right after it died, while its run goes on."""

    class Dies(stock.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            raise SystemExit(self.code)

    facts: Facts = {}
    with tracker.start_run(name="died_and_ended") as run:
        for code in (3, 0):
            dies = Dies()
            dies.code = code
            with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
                linear().fit(X, Y, batch_size=BATCH, verbose=verbose(), callbacks=[dies, TrackerCallback(run)])
            run.flush()
            with contextlib.closing(tracker.open_store()) as store:
                facts[str(code)] = [fit.outcome for fit in store.fits(run.id)]
    return facts


@scenario
def evaluations() -> Facts:
    """`evaluate()` after a fit, and after EarlyStopping went back."""
    facts: Facts = {}
    with tracker.start_run(name="evaluations") as run, contextlib.redirect_stdout(io.StringIO()):
        model, callback = linear(), TrackerCallback(run)
        model.fit(X, Y, batch_size=BATCH, epochs=2, verbose=verbose(), callbacks=[callback])
        facts["first"] = model.evaluate(X, Y, verbose=verbose(), callbacks=[callback], return_dict=True)
        early = stock.EarlyStopping("loss", patience=1, min_delta=1e9, restore_best_weights=True)
        model.fit(X, Y, batch_size=BATCH, epochs=5, verbose=verbose(), callbacks=anywhere([early, callback]))
        facts["restored"] = model.evaluate(X, Y, verbose=verbose(), callbacks=[callback], return_dict=True)
    return facts


@scenario
def two_losses() -> Facts:
    """Two outputs, whose losses are metrics too; and weights with NaN among them."""
    inputs = keras.Input((3,))
    outputs = {"a": keras.layers.Dense(1, name="a")(inputs), "b": keras.layers.Dense(1, name="b")(inputs)}
    model = keras.Model(inputs, outputs)
    model.compile("sgd", {"a": "mse", "b": "mae"})
    with tracker.start_run(name="two_losses") as run, contextlib.redirect_stdout(io.StringIO()):
        model.fit(X, {"a": Y, "b": Y}, verbose=verbose(), callbacks=[TrackerCallback(run)])
    spoiled = linear()
    weights = spoiled.get_weights()
    weights[0][:2] = np.nan
    spoiled.set_weights(weights)
    with log_lines() as said, tracker.start_run(name="spoiled") as run, contextlib.redirect_stdout(io.StringIO()):
        callbacks = [Spoils(weights), TrackerCallback(run, histograms=1)]
        spoiled.fit(X, Y, epochs=1, verbose=verbose(), callbacks=callbacks)
        run.in_background(lambda: None).result(60)
        problems = dict(run.problems)
    return {"said": said, "problems": problems}


class Spoils(stock.Callback):
    """Sets weights as an epoch ends."""

    def __init__(self, weights: list[Any]) -> None:
        super().__init__()
        self.weights = weights

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.model.set_weights(self.weights)


@scenario
def runs_described() -> Facts:
    """Runs that a callback and autolog open, with an experiment, a name and tags."""
    facts: Facts = {}
    with contextlib.redirect_stdout(io.StringIO()):
        callback = TrackerCallback(experiment="described", name="by callback", tags={"who": "callback"})
        linear().fit(X, Y, verbose=verbose(), callbacks=[callback])
        autolog(experiment="described", name="by autolog", tags={"who": "autolog"})
        try:
            linear().fit(X, Y, verbose=verbose())
        finally:
            autolog(disable=True)
        with tracker.start_run("described", name="mine") as run:
            TrackerCallback(run, experiment="described", name="mine")
            for contradiction in ({"experiment": "other"}, {"name": "other"}, {"tags": {"a": "b"}}):
                try:
                    TrackerCallback(run, **contradiction)
                except InvalidValue as error:
                    facts[next(iter(contradiction))] = str(error)
    return facts


@scenario
def states_missing() -> Facts:
    """A training that asked for states, of which none could be saved, and one that is started again after it."""
    model = linear()
    model.save_weights = lambda path: 1 / 0
    facts: Facts = {}
    with log_lines() as said, tracker.start_run(name="states_missing") as run:
        with contextlib.redirect_stdout(io.StringIO()):
            model.fit(X, Y, epochs=2, verbose=verbose(), callbacks=[TrackerCallback(run, resume=True)])
        run.in_background(lambda: None).result(60)
        facts["problems"] = dict(run.problems)
        run.finish("failed")
    facts["said"] = said
    with log_lines() as said, tracker.start_run(name="states_missing", resume="auto") as again:
        facts["same"], facts["before"] = again.id == run.id, list(said)
        with contextlib.redirect_stdout(io.StringIO()):
            linear().fit(X, Y, epochs=1, verbose=verbose(), callbacks=[TrackerCallback(again, resume=True)])
    facts["again"] = said
    return facts
