"""Scenarios of decisions: who stopped a fit, restored its weights, or changed its learning rate, and what is told."""

from __future__ import annotations

import contextlib
import copy
import io
import pickle
from typing import Any

import keras
import numpy as np
from keras_bench import Facts, X, Y, fit, linear, log_lines, scenario, verbose

import tracker
from tracker_keras import TrackerCallback


class Ends(keras.callbacks.Callback):
    """How a fit ended for somebody else's callback."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs = 0
        self.ended = False

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs = epoch + 1

    def on_train_end(self, logs: Any = None) -> None:
        self.ended = True


@scenario
def stops() -> Facts:
    """Somebody asks the run to stop in the middle of its second epoch; the fit hears of it then.

    Who asks stands before ours, which so hears of it in the same batch.
    """

    def ask(run: Any) -> None:
        run.flush()
        with tracker.open_store() as store:
            store.request_stop(run.id)
        run.log({"asked": 1.0})
        run.flush()
        assert run.should_stop

    class Asks(keras.callbacks.Callback):
        def __init__(self, run: Any, at: int) -> None:
            super().__init__()
            self._run, self._at = run, at

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self._at -= 1
            if self._at == 0:
                ask(self._run)

    facts: Facts = {}
    for name, at, every, epochs in (("epoch", 6, 0, 5), ("batch", 6, 1, 5), ("last", 6, 0, 2)):
        with tracker.start_run(name=f"stops.{name}") as run:
            ends, early = Ends(), keras.callbacks.EarlyStopping("loss", patience=9, restore_best_weights=True)
            fit(
                linear(),
                Asks(run, at),
                TrackerCallback(run, log_batches=every),
                early,
                ends,
                epochs=epochs,
                ordered=True,
            )
            facts[name] = [ends.epochs, ends.ended]
            if name == "epoch":
                fit(linear(), TrackerCallback(run), epochs=3)
    return facts


def diverging(epoch: int, _: float) -> float:
    """Rates with which the loss falls for two epochs, and then grows."""
    return 0.01 if epoch < 2 else 1.5


class Watched:
    """The stock callbacks of a fit that goes wrong after two epochs, and is stopped and mended by them."""

    def __init__(self) -> None:
        known = keras.callbacks
        self.stopping = known.EarlyStopping("loss", patience=2, min_delta=0.001, restore_best_weights=True)
        self.list: list[Any] = [
            known.LearningRateScheduler(diverging),
            self.stopping,
            known.ReduceLROnPlateau("loss", factor=0.5, patience=1),
            known.TerminateOnNaN(),
            known.ModelCheckpoint("best.keras", monitor="loss", save_best_only=True),
        ]


@scenario
def decisions() -> Facts:
    """Our callback at each place among those that decide, in a second fit of its run."""
    facts: Facts = {}
    for place in range(6):
        keras.utils.set_random_seed(3)
        with tracker.start_run(name=f"decisions.{place}") as run, log_lines() as said:
            model, ours, watched = linear(), TrackerCallback(run), Watched()
            fit(model, ours, epochs=2)
            callbacks = [*watched.list[:place], ours, *watched.list[place:]]
            history = fit(model, *callbacks, epochs=9, ordered=True).history
            result = model.evaluate(X, Y, verbose=verbose(), return_dict=True)
            left = [name for one in watched.list for name in vars(one) if name.startswith("on_")]
        facts[str(place)] = {
            "history": history,
            "stopped": [watched.stopping.stopped_epoch, watched.stopping.best_epoch, watched.stopping.best],
            "result": result["loss"],
            "left": left,
            "said": said,
        }
    return facts


@scenario
def assignments() -> Facts:
    """The user's own callback assigns a rate, before ours or after it."""

    class Assigns(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                self.model.optimizer.learning_rate = 0.125

    for name in ("before", "after"):
        with tracker.start_run(name=f"assignments.{name}") as run:
            ours = TrackerCallback(run)
            fit(linear(), *([Assigns(), ours] if name == "before" else [ours, Assigns()]), epochs=4, ordered=True)
    return {}


@scenario
def nan() -> Facts:
    """NaN that TerminateOnNaN raises for, that EarlyStopping ends, that nobody minds, and that passes."""

    class Breaks(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 0:
                logs["loss"] = float("nan")

    facts: Facts = {}
    with tracker.start_run(name="nan") as run, contextlib.redirect_stdout(io.StringIO()):
        ours = TrackerCallback(run)
        try:
            fit(linear(), ours, keras.callbacks.TerminateOnNaN(raise_error=True), x=X * np.nan, epochs=5)
        except RuntimeError as error:
            facts["raised"] = str(error)
        fit(linear(), keras.callbacks.EarlyStopping("loss", patience=1), ours, x=X * np.nan, epochs=5)
        fit(linear(), ours, x=X * np.nan, epochs=2)
        fit(linear(), Breaks(), ours, epochs=2)
    return facts


@scenario
def left_alone() -> Facts:
    """What is watched can be copied meanwhile, watched by two at once, and used again after a fit that died."""
    early = keras.callbacks.EarlyStopping("loss", patience=1, min_delta=1e9)
    terminate = keras.callbacks.TerminateOnNaN()
    facts: Facts = {}

    def hooks_of(*callbacks: Any) -> list[str]:
        return sorted(name for one in callbacks for name in vars(one) if name.startswith("on_"))

    class Dies(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            facts["meanwhile"] = hooks_of(early, terminate)
            early._model, model = None, early._model  # a model copies itself in its own ways
            copied, pickled = copy.deepcopy(early), pickle.loads(pickle.dumps(early))
            early._model = model
            facts["copies"] = [one.on_epoch_end.__self__ is one for one in (copied, pickled)]
            raise RuntimeError("the training died")

    with tracker.start_run(name="left_alone.one") as one, tracker.start_run(name="left_alone.two") as two:
        ours = (TrackerCallback(one), TrackerCallback(two))
        with contextlib.suppress(RuntimeError):
            fit(linear(), *ours, early, terminate, Dies(), epochs=3)
        fit(linear(), early, epochs=3)
        facts["not ours"] = hooks_of(early)
        fit(linear(), ours[0], early, ours[1], epochs=3)
        facts["afterwards"] = hooks_of(early)
    return facts


@scenario
def configured() -> Facts:
    """Callbacks of every kind, as they are configured in two fits."""

    class Mine(keras.callbacks.Callback):
        def __init__(self, width: int, *, data: Any = None) -> None:
            super().__init__()
            self.width, self.data = width, data

    with tracker.start_run(name="configured") as run, log_lines() as said:
        ours, early = TrackerCallback(run), keras.callbacks.EarlyStopping("loss", patience=5, min_delta=0.25)
        others = (
            keras.callbacks.ModelCheckpoint("m.keras", monitor="loss", save_best_only=True),
            keras.callbacks.LearningRateScheduler(diverging),
            keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate),
            keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None),
            Mine(3, data=np.zeros(3)),
        )
        fit(linear(), keras.callbacks.CallbackList([early, others[0]]), ours, *others[1:], epochs=1)
        early.patience = 7
        fit(linear(), early, ours, epochs=1)
    return {"said": said}
