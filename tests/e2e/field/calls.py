"""Conditions of how `fit()` is called: `verbose`, the callbacks' places, who calls it, on which thread."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from e2e.field.condition import Condition
from e2e.field.data import EPOCHS, STEPS

if TYPE_CHECKING:
    from e2e.field.reference import Script

BATCHED = ("series.batch/*", "points.batch/*")


def given(**arguments: Any) -> Callable[[Script], None]:
    """`fit()` gets these too."""

    def change(script: Script) -> None:
        script.arguments |= arguments

    return change


def ours(**arguments: Any) -> Callable[[Script], None]:
    """TrackerCallback gets these too."""

    def change(script: Script) -> None:
        script.ours |= arguments

    return change


def handed(over: Callable[[Any, list[Any], Any], Any]) -> Callable[[Script], None]:
    """`fit(callbacks=over(ours, others, model))`."""

    def change(script: Script) -> None:
        script.hand_over = over

    return change


def middle(mine: Any, others: list[Any], model: Any) -> list[Any]:
    """Between the stock callbacks."""
    return [*others[:2], mine, *others[2:]]


def callback_list(**known: Any) -> Callable[[Any, list[Any], Any], Any]:
    """A CallbackList of the user's own, as `fit()` makes one, but with `known` of its params."""

    def over(mine: Any, others: list[Any], model: Any) -> Any:
        import keras

        return keras.callbacks.CallbackList([*others, mine], add_history=True, model=model, **known)

    return over


def alone(script: Script) -> None:
    """No other callbacks."""
    script.beside = lambda _: []
    script.looks = False


def positionally(script: Script) -> None:
    """`fit(x, y, batch_size, epochs, verbose, callbacks)`."""

    def fit(model: Any, arguments: dict[str, Any]) -> Any:
        first = ("x", "y", "batch_size", "epochs")
        rest = {key: value for key, value in arguments.items() if key not in (*first, "verbose", "callbacks")}
        places = [arguments.get(key, 1 if key == "epochs" else None) for key in first]
        return model.fit(*places, arguments.get("verbose", "auto"), arguments["callbacks"], **rest)

    script.fit = fit


def unbound(script: Script) -> None:
    """`functools.partial` of `keras.Model.fit` that somebody made before anything of ours was imported."""
    from e2e.field.reference import FIT

    script.fit = lambda model, arguments: functools.partial(FIT, model)(**arguments)


def wrapped(script: Script) -> None:
    """A helper of the user's, and a method of its own on the model."""

    def fit(model: Any, arguments: dict[str, Any]) -> Any:
        plain = model.fit

        @functools.wraps(plain)
        def helper(*positional: Any, **named: Any) -> Any:
            return plain(*positional, **named)

        model.fit = helper
        return helper(**arguments)

    script.fit = fit


def tuned(script: Script) -> None:
    """A KerasTuner trial that calls `fit()` itself."""

    def fit(model: Any, arguments: dict[str, Any]) -> Any:
        import keras_tuner

        histories = []

        class Trial(keras_tuner.HyperModel):  # type: ignore[misc]
            def build(self, parameters: Any) -> Any:
                return model

            def fit(self, parameters: Any, built: Any, *_: Any, **__: Any) -> Any:
                histories.append(built.fit(**arguments))
                return min(histories[0].history["loss"])

        search = keras_tuner.RandomSearch(Trial(), max_trials=1, overwrite=True, directory="search")
        search.search()
        return histories[0]

    script.fit = fit


def threaded(script: Script) -> None:
    """The training is on another thread than the main one."""

    def call(training: Callable[[], None]) -> None:
        errors: list[BaseException] = []

        def work() -> None:
            try:
                training()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]

    script.call = call


def moved(script: Script) -> None:
    """The training changes the working directory midway; its files are in both."""

    def make(made: Script) -> Any:
        class Moves(made.keras.callbacks.Callback):  # type: ignore[misc]
            def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
                if epoch == 2:
                    os.makedirs("elsewhere", exist_ok=True)
                    os.chdir("elsewhere")

        return Moves()

    @contextmanager
    def back() -> Iterator[None]:
        here = os.getcwd()
        yield
        os.chdir(here)

    script.first.append(make)
    script.around.append(back)


CALLS: dict[str, Condition] = {
    "verbose=0": Condition(group="verbose", changes=given(verbose=0)),
    "verbose=1": Condition(group="verbose", changes=given(verbose=1)),
    "verbose=2": Condition(group="verbose", changes=given(verbose=2)),
    "verbose=auto": Condition(group="verbose", changes=given(verbose="auto")),
    "middle": Condition(group="place", changes=handed(middle)),
    "last": Condition(group="place", changes=handed(lambda mine, others, _: [*others, mine])),
    "tuple": Condition(group="place", changes=handed(lambda mine, others, _: (*others, mine))),
    "nested": Condition(
        group="place",
        changes=handed(lambda mine, others, _: [others[:2], [mine, others[2:]]]),
        backends=("tensorflow",),
    ),
    "mapping": Condition(
        group="place",
        changes=handed(lambda mine, others, _: {"m": mine} | {f"n{n}": one for n, one in enumerate(others)}),
    ),
    "CallbackList": Condition(group="place", changes=handed(callback_list(epochs=EPOCHS, steps=STEPS, verbose=1))),
    "CallbackList without params": Condition(group="place", changes=handed(callback_list())),
    "alone": Condition(
        group="beside", computes=alone, changes=handed(lambda mine, *_: mine), outcome="completed", resumes=False
    ),
    "positionally": Condition(group="fit", changes=positionally),
    "unbound": Condition(group="fit", changes=unbound, may=("run.problems", "log")),
    "wrapped": Condition(group="fit", changes=wrapped),
    "KerasTuner": Condition(group="fit", changes=tuned, resumes=False),
    "thread": Condition(group="thread", changes=threaded),
    "moves": Condition(group="folder", changes=moved, may=("params.callbacks",)),
    "log_batches": Condition(group="ours", changes=ours(log_batches=3), may=BATCHED),
    "checkpoint": Condition(
        group="ours", changes=ours(checkpoint=3), may=("checkpoints.state.*", "events.*.checkpoint_saved.*")
    ),
}
