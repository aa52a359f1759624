"""Scenarios of trainings that die and are resumed; within one process a training dies of an exception."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras_bench import BATCH, STEPS, Facts, X, Y, anywhere, linear, log_lines, scenario, verbose

import tracker
import tracker_keras
from tracker.domain.errors import InvalidValue
from tracker_keras import TrackerCallback

stock = keras.callbacks


class Died(Exception):
    """What a training dies of here."""


class Dies(stock.Callback):
    """Kills the training after a batch of an epoch."""

    def __init__(self, epoch: int, batch: int) -> None:
        super().__init__()
        self.at = (epoch, batch)
        self.epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if (self.epoch, batch) == self.at:
            raise Died


class Counts(stock.Callback):
    """A callback of the user's own with a state, which it forgets as stock callbacks do."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.epochs = 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs += 1

    def state_dict(self) -> dict[str, int]:
        return {"epochs": self.epochs}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epochs = state["epochs"]


class Decays(stock.Callback):
    """Lowers the rate after every batch."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.model.optimizer.learning_rate = float(self.model.optimizer.learning_rate) * 0.99


class Raw(keras.Model):
    """A model that nobody builds before its first batch, and that draws random numbers of its own."""

    def __init__(self) -> None:
        super().__init__(name="raw")
        self.inner, self.outer = keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(1)
        self.drop = keras.layers.Dropout(0.1)

    def call(self, x: Any) -> Any:
        return self.outer(self.drop(self.inner(x)))


def raw(optimizer: Any = None, **compiled: Any) -> Any:
    """Compiled, with weights that follow from the seed."""
    keras.utils.set_random_seed(3)
    model = Raw()
    model.compile(optimizer or keras.optimizers.Adam(0.05), loss="mse", metrics=["mae"], **compiled)
    return model


def train(
    name: str, deaths: list[tuple[int, int]], make: Any = raw, callbacks: Any = list, given: Any = None, **fitted: Any
) -> Facts:
    """The same script again and again: with the deaths given, then to its end; beside one that never dies."""
    facts: Facts = {}
    settings = {"resume": True, **(given or {})}
    for run_name, ends in ((f"{name}.whole", [None]), (name, [*deaths, None])):
        for end in ends:
            model, beside = make(), callbacks()
            with log_lines() as lines, tracker_run(run_name) as run:
                # In another place of the list in every process; the kinds keep their order.
                every = anywhere([*beside, *([Dies(*end)] if end else []), TrackerCallback(run, **settings)])
                arguments = {"x": X, "y": Y, "batch_size": BATCH, "epochs": 6, "verbose": verbose(), "shuffle": False}
                try:
                    model.fit(**(arguments | {"validation_data": (X[:10], Y[:10])} | fitted), callbacks=every)
                except Died:
                    run.finish("failed")
            facts.setdefault(f"{run_name}.said", []).append([line[:3000] for line in lines])
        facts[run_name] = {
            "weights": [weight.ravel().tolist() for weight in model.get_weights()],
            "iterations": int(model.optimizer.iterations),
            "left": model._initial_epoch,
            "states": [states(one) for one in beside],
        }
    return facts


def tracker_run(name: str) -> Any:
    """The run of that name, gone on with if it did not finish."""
    return tracker.start_run(name=name, resume="auto")


def states(callback: Any) -> Any:
    """The numbers that a callback has in the end."""
    names = ("wait", "best", "best_epoch", "stopped_epoch", "cooldown_counter", "epochs", "_ema_weights_in_model")
    return {name: getattr(callback, name) for name in names if hasattr(callback, name)}


@scenario
def resume_epochs() -> Facts:
    """Killed twice in the same epoch."""
    folder = tempfile.mkdtemp()

    def callbacks() -> list[Any]:
        return [
            stock.EarlyStopping(patience=2, min_delta=0.25, restore_best_weights=True),
            stock.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
            stock.ReduceLROnPlateau("loss", patience=1, min_delta=0.4, cooldown=1, factor=0.5),
            stock.ModelCheckpoint(f"{folder}/{{epoch}}.keras", save_best_only=True),
            Counts(),
        ]

    return train("resume_epochs", [(4, 2), (4, 3)], callbacks=callbacks)


@scenario
def resume_ours() -> Facts:
    """Our own callbacks, and a best that is infinite when it is saved."""
    folder = tempfile.mkdtemp()

    def callbacks() -> list[Any]:
        return [
            tracker_keras.LearningRateScheduler(lambda epoch, rate: rate * 0.8),
            tracker_keras.EarlyStopping("mae", patience=9, restore_best_weights=True),
            tracker_keras.ModelCheckpoint(f"{folder}/m.keras", save_best_only=True, initial_value_threshold=-np.inf),
            stock.SwapEMAWeights(swap_on_epoch=True),
        ]

    def make() -> Any:
        return raw(keras.optimizers.SGD(0.05, momentum=0.9, use_ema=True, ema_momentum=0.8))

    return train("resume_ours", [(3, 0)], make, callbacks, {"checkpoint": "epoch"})


@scenario
def resume_steps() -> Facts:
    """Before any state, then in the middle of epochs, with the order that shuffle=True draws from the seed.

    The rate is changed as epochs begin, by what it is, and with every batch.
    """

    def callbacks() -> list[Any]:
        return [stock.LearningRateScheduler(lambda epoch, rate: rate * 0.9), Decays()]

    given = {"checkpoint": 3, "log_batches": 1}
    return train("resume_steps", [(0, 1), (1, 1), (3, 2)], callbacks=callbacks, given=given, shuffle=True)


class Unheard(stock.Callback):
    """Keeps no params, and says nothing."""

    def set_params(self, params: Any) -> None:
        self.given = params


class Plateau(stock.ReduceLROnPlateau):
    """A stock callback that keeps no params."""

    def set_params(self, params: Any) -> None:
        self.given = params


class Validates(stock.Callback):
    """Evaluates as epochs end, with callbacks of the fit."""

    def __init__(self, others: list[Any]) -> None:
        super().__init__()
        self.others = others

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.model.evaluate(X, Y, verbose=verbose(), callbacks=self.others)
        logs["added"] = float(epoch)


@scenario
def resume_hostile() -> Facts:
    """Neighbours first and last that keep no params, evaluate with the same callbacks, and add to the logs."""

    def callbacks() -> list[Any]:
        inner = [Unheard(), Plateau("loss", patience=1, min_delta=0.4, factor=0.5), stock.EarlyStopping(patience=9)]
        return [*inner, Validates(inner), stock.History(), Unheard()]

    return train("resume_hostile", [(1, 1), (3, 2)], callbacks=callbacks, given={"checkpoint": 3})


@scenario
def resume_dataset() -> Facts:
    """A data set of tf.data that goes on through epochs of five steps, two steps at once."""
    import tensorflow as tf

    def make() -> Any:
        return raw(steps_per_execution=2)

    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(2).repeat(3)
    return train(
        "resume_dataset",
        [(1, 5), (3, 3)],
        make,
        given={"checkpoint": 4},
        x=data,
        y=None,
        batch_size=None,
        steps_per_epoch=6,
        epochs=5,
        shuffle=True,
    )


@scenario
def resume_generator() -> Facts:
    """Data that cannot be passed over: an epoch begins anew, and that is said."""

    def batches() -> Iterator[tuple[Any, Any]]:
        while True:
            for start in range(0, len(X), BATCH):
                yield X[start : start + BATCH], Y[start : start + BATCH]

    facts: Facts = {}
    for end in ((2, 2), None):
        with log_lines() as lines, tracker_run("resume_generator") as run:
            every = [TrackerCallback(run, resume=True, checkpoint=2), *([Dies(*end)] if end else [])]
            try:
                raw().fit(batches(), steps_per_epoch=STEPS, epochs=4, verbose=verbose(), callbacks=every)
            except Died:
                run.finish("failed")
        facts.setdefault("said", []).append(lines[:])
    return facts


@scenario
def test_09() -> Facts:
    """A resumed fit, one more of the same model, and a fit that was complete."""
    facts: Facts = {}
    for end in ((2, 1), None):
        model = raw()
        with tracker_run("resume_leak") as run:
            callback = TrackerCallback(run, resume=True)
            given: dict[str, Any] = {"batch_size": BATCH, "epochs": 4, "verbose": verbose()}
            try:
                facts["resumed"] = model.fit(X, Y, callbacks=[callback, *([Dies(*end)] if end else [])], **given).epoch
                facts["later"] = model.fit(X, Y, **given).epoch
                facts["phase"] = model.fit(X, Y, callbacks=[callback], **given).epoch
                facts["left"] = model._initial_epoch
            except Died:
                run.finish("failed")
    with log_lines() as lines, tracker.start_run(run_id=run.id, resume="must") as again:
        model = raw()
        callback = TrackerCallback(again, resume=True)
        facts["first again"] = model.fit(X, Y, callbacks=[callback], **given).epoch
        facts["second again"] = model.fit(X, Y, callbacks=[callback], **given).epoch
        facts["more"] = model.fit(X, Y, callbacks=[TrackerCallback(again)], **given | {"epochs": 1}).epoch
    return facts | {"said": lines, "run": run.id}


@scenario
def resume_two_fits() -> Facts:
    """A script of two trainings, the second killed: the first is not trained again, the second goes on."""
    for end in ((1, 1), None):
        model = raw()
        with log_lines() as lines, tracker_run("resume_two_fits") as run:
            callback = TrackerCallback(run, resume=True)
            given: dict[str, Any] = {"batch_size": BATCH, "verbose": verbose()}
            first = model.fit(X, Y, epochs=2, callbacks=[callback], **given)
            try:
                second = model.fit(X, Y, epochs=3, callbacks=[callback, *([Dies(*end)] if end else [])], **given)
            except Died:
                run.finish("failed")
    return {"first": first.epoch, "second": second.epoch, "said": lines}


@scenario
def resume_here() -> Facts:
    """A fit that died, taken up by the next one of the same process."""
    model = raw()
    with tracker.start_run(name="resume_here") as run:
        callback = TrackerCallback(run, resume=True)
        given: dict[str, Any] = {"batch_size": BATCH, "epochs": 4, "verbose": verbose()}
        try:
            model.fit(X, Y, callbacks=[callback, Dies(2, 1)], **given)
        except Died:
            model.stop_training = True
        again = raw()
        return {"epochs": again.fit(X, Y, callbacks=[callback], **given).epoch}


@scenario
def resume_best() -> Facts:
    """Killed when our ModelCheckpoint had saved the best epoch, and its state had not been saved."""
    folder = tempfile.mkdtemp()

    def die(epoch: int, logs: Any = None) -> None:
        if epoch == 2:
            raise Died

    for deadly in ([stock.LambdaCallback(on_epoch_end=die)], []):
        with tracker_run("resume_best") as run:
            best = tracker_keras.ModelCheckpoint(f"{folder}/best.keras", "loss", save_best_only=True)
            every = [TrackerCallback(run, resume=True), best, *deadly]
            try:
                raw().fit(X, Y, batch_size=BATCH, epochs=3, shuffle=False, verbose=verbose(), callbacks=every)
            except Died:
                run.finish("failed")
    return {"best": best.best}


@scenario
def resume_worker() -> Facts:
    """A worker beside the chief, by TensorFlow's word."""
    facts: Facts = {}
    given: dict[str, Any] = {"batch_size": BATCH, "verbose": verbose()}
    with tracker.start_run(name="resume_worker") as run:
        raw().fit(X, Y, epochs=2, callbacks=[TrackerCallback(run, resume=True)], **given)
        run.finish("failed")
    if keras.backend.backend() != "tensorflow":
        return facts
    cluster = {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 1}})
    try:
        try:
            raw().fit(X, Y, epochs=2, callbacks=[TrackerCallback(resume=True)], **given)
        except InvalidValue as error:
            facts["refused"] = str(error)
        os.environ["TRACKER_RUN_ID"] = run.id
        callback = TrackerCallback(resume=True)
        facts["epochs"] = raw().fit(X, Y, epochs=4, callbacks=[callback], **given).epoch
        facts["errors"] = callback.guard.errors
    finally:
        del os.environ["TF_CONFIG"]
        os.environ.pop("TRACKER_RUN_ID", None)
    return facts


@scenario
def resume_another_model() -> Facts:
    """Models that the state is not of; and a run that trained two."""
    facts: Facts = {}
    with tracker.start_run(name="resume_another_model") as run:
        linear().fit(X, Y, epochs=2, verbose=verbose(), callbacks=[TrackerCallback(run, resume=True)])
        run.finish("failed")
    others = {"wider": raw, "optimizer": lambda: linear(keras.optimizers.Adam())}
    for name, make in others.items():
        model = make()
        plain = stock.History()
        with tracker.start_run(run_id=run.id, resume="must") as again:
            try:
                model.fit(X, Y, epochs=4, verbose=verbose(), callbacks=[TrackerCallback(again, resume=True), plain])
            except InvalidValue as error:
                facts[name] = str(error)
        facts[f"{name} later"] = model.fit(X, Y, epochs=1, verbose=verbose(), callbacks=[plain]).epoch
    return facts


@scenario
def resume_beside_backup() -> Facts:
    """Keras' BackupAndRestore, which is older by an epoch, before and after ours."""
    facts: Facts = {}
    for name, first in (("before", True), ("after", False)):
        folder = tempfile.mkdtemp()
        for end in ((3, 1), None):
            model = linear()
            with tracker_run(f"resume_beside_backup.{name}") as run:
                ours = TrackerCallback(run, resume=True)
                backup = stock.BackupAndRestore(folder, save_freq="epoch" if end is None else 7)
                every = [backup, ours] if first else [ours, backup]
                try:
                    history = model.fit(
                        X,
                        Y,
                        batch_size=BATCH,
                        epochs=5,
                        verbose=verbose(),
                        callbacks=[*every, *([Dies(*end)] if end else [])],
                    )
                except Died:
                    run.finish("failed")
        facts[name] = history.epoch
        facts[f"{name} left"] = [one.name for one in Path(folder).parent.iterdir() if one == Path(folder)]
    return facts
