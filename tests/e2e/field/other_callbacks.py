"""Conditions of the other callbacks: harmless ones, and some that nobody expects."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from e2e.field.condition import Condition
from e2e.field.data import XV, YV

if TYPE_CHECKING:
    from e2e.field.reference import Script

NAMED = ("params.callbacks", "params.callbacks.*")
Make = Callable[["Script"], Any]


def first(make: Make) -> Callable[[Script], None]:
    """This callback is before the stock ones in the list."""
    return lambda script: script.first.append(make)


def last(make: Make) -> Callable[[Script], None]:
    """This callback is after all others in the list."""
    return lambda script: script.last.append(make)


def both(make: Make) -> Callable[[Script], None]:
    """One of these is before the stock ones, another after all."""

    def change(script: Script) -> None:
        script.first.append(make)
        script.last.append(make)

    return change


def lambdas(script: Script) -> Any:
    """A function of the user's."""
    return script.keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None)


def csv(script: Script) -> Any:
    """Keras' own CSV file."""
    return script.keras.callbacks.CSVLogger("log.csv", append=True)


def adds(script: Script) -> Any:
    """Writes a metric of its own into `logs`, which Keras' History has too."""

    class Adds(script.keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            logs["extra"] = epoch / 2

    return Adds()


def slow(script: Script) -> Any:
    """Takes its time as each epoch ends."""

    class Slow(script.keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            time.sleep(0.05)

    return Slow()


def stops(script: Script) -> Any:
    """Stops the training, as EarlyStopping does, after its fourth epoch."""

    class Stops(script.keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 3:
                self.model.stop_training = True

    return Stops()


def sets_rate(script: Script) -> Any:
    """Sets the rate in the middle of an epoch."""

    class SetsRate(script.keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.epoch = epoch

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if (self.epoch, batch) == (1, 2):
                self.model.optimizer.learning_rate = 0.02

    return SetsRate()


def raises(script: Script) -> Any:
    """Ends the training with an error as its fifth epoch ends."""
    from e2e.field.reference import Died

    class Raises(script.keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 4:
                raise Died

    return Raises()


def overrides(script: Script) -> Any:
    """Keeps `params` to itself: `set_params` without its super's."""

    class Overrides(script.keras.callbacks.Callback):  # type: ignore[misc]
        def set_params(self, params: Any) -> None:
            self.mine = params

    return Overrides()


def evaluates(script: Script) -> Any:
    """Evaluates in mid-training with the same callbacks."""

    class Evaluates(script.keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 2:
                given = script.callbacks
                others = [one for one in getattr(given, "callbacks", given) if one is not self]
                self.model.evaluate(XV, YV, callbacks=others)

    return Evaluates()


def subclasses(script: Script) -> None:
    """Subclasses of the stock callbacks that keep `params` to themselves."""
    plain = script.beside

    def changed(made: Script) -> list[Any]:
        def set_params(self: Any, params: Any) -> None:
            self.mine = params

        found = plain(made)
        for one in found:
            kind = type(one)
            one.__class__ = type(kind.__name__, (kind,), {"set_params": set_params, "__module__": kind.__module__})
        return found

    script.beside = changed


OTHERS: dict[str, Condition] = {
    "LambdaCallback": Condition(group="beside", changes=both(lambdas), may=NAMED),
    "CSVLogger": Condition(group="beside", changes=both(csv), may=NAMED),
    "slow": Condition(group="beside", changes=both(slow), may=NAMED),
    "adds first": Condition(group="logs", computes=first(adds)),
    "adds last": Condition(group="logs", computes=last(adds)),
    "stops": Condition(group="ends", computes=last(stops), outcome="stopped", resumes=False),
    "evaluates first": Condition(group="evaluates", changes=first(evaluates), may=(*NAMED, "*.evaluate*")),
    "evaluates last": Condition(group="evaluates", changes=last(evaluates), may=(*NAMED, "*.evaluate*")),
    "sets rate": Condition(group="rate", computes=last(sets_rate)),
    "raises": Condition(group="ends", computes=last(raises), outcome="failed", resumes=False),
    "overrides first": Condition(group="params", changes=first(overrides), may=NAMED),
    "overrides last": Condition(group="params", changes=last(overrides), may=NAMED),
    "subclasses": Condition(group="params", changes=subclasses),
}
