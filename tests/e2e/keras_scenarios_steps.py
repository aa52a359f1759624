"""Scenarios of what changes from step to step and epoch to epoch: learning rates, batches."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import keras
from keras_bench import STEPS, Facts, Truth, X, Y, fit, linear, log_lines, scenario, verbose

import tracker
from tracker_keras import TrackerCallback


def _recorded_rates(name: str, model: Any, *around: Any, **arguments: Any) -> Facts:
    """Fit with `around`, in which None stands for where TrackerCallback goes: the place is what is compared."""
    with tracker.start_run(name=name) as run:
        truth = Truth()
        fit(
            model,
            *(TrackerCallback(run) if one is None else one for one in around),
            truth,
            epochs=4,
            ordered=True,
            **arguments,
        )
    return {"rates": truth.rates}


@scenario
def rates() -> Facts:
    def scheduler() -> Any:
        return keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.01 / (epoch + 1))

    def plateau() -> Any:
        return keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9)

    around = {
        "scheduler_before": (scheduler(), None),
        "scheduler_after": (None, scheduler()),
        "plateau_before": (plateau(), None),
        "plateau_after": (None, plateau()),
        "two_plateaus_before": (plateau(), plateau(), None),
        "around": (plateau(), None, scheduler()),
    }
    return {name: _recorded_rates(f"rates.{name}", linear(), *callbacks)["rates"] for name, callbacks in around.items()}


@scenario
def rates_of_a_schedule() -> Facts:
    stairs = keras.optimizers.schedules.ExponentialDecay(0.1, decay_steps=STEPS, decay_rate=0.5, staircase=True)
    return _recorded_rates("rates_of_a_schedule", linear(keras.optimizers.SGD(stairs)), None)


@scenario
def rates_of_a_function() -> Facts:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        facts = _recorded_rates("rates_of_a_function", linear(keras.optimizers.SGD(lambda: 0.025)), None)
    return {**facts, "warned": [str(warning.message) for warning in warned]}


@scenario
def no_optimizer() -> Facts:
    """A model that learns nothing can be compiled without an optimizer; no backend's own loop will train it."""
    with tracker.start_run(name="no_optimizer") as run, log_lines() as said:
        model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Rescaling(2.0)])
        model.compile(optimizer=None, loss="mse")
        callbacks = keras.callbacks.CallbackList([TrackerCallback(run, log_batches=1)], model=model, epochs=1, steps=2)
        callbacks.on_train_begin()
        callbacks.on_epoch_begin(0)
        for batch in range(2):
            callbacks.on_train_batch_begin(batch)
            callbacks.on_train_batch_end(batch, {"loss": 1.0})
        callbacks.on_epoch_end(0, {"loss": 1.0})
        callbacks.on_train_end()
    return {"said": said}


@scenario
def batches() -> Facts:
    facts: Facts = {}
    for name, steps_at_once, every in (("single", 1, 3), ("several", 3, 1), ("rarely", 3, 5)):
        with tracker.start_run(name=f"batches.{name}") as run:
            truth = Truth()
            callbacks = (TrackerCallback(run, log_batches=every), truth)
            fit(linear(steps_per_execution=steps_at_once), *callbacks, batch_size=2)  # 10 steps an epoch
        facts[name] = truth.iterations
    return facts


@scenario
def batches_of_unknown_length() -> Facts:
    def data() -> Iterator[Any]:
        for _ in range(2):  # two epochs of ten steps, as one stream that nobody knows the length of
            for start in range(0, 20, 2):
                yield X[start : start + 2], Y[start : start + 2]

    class Batches(keras.utils.PyDataset):
        def __len__(self) -> int:
            return 10

        def __getitem__(self, index: int) -> Any:
            return X[index * 2 : index * 2 + 2], Y[index * 2 : index * 2 + 2]

    with tracker.start_run(name="batches_of_unknown_length") as run, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        truth = Truth()
        stream = linear(steps_per_execution=3)
        stream.fit(data(), epochs=1, verbose=verbose(), callbacks=[TrackerCallback(run, log_batches=1), truth])
    with tracker.start_run(name="batches_of_unknown_length.set") as run:
        linear().fit(Batches(), epochs=1, verbose=verbose(), callbacks=[TrackerCallback(run)])
    return {"iterations": truth.iterations}


@scenario
def hooks() -> Facts:
    """What Keras sees of us, and what we make it do."""

    class Counted(keras.Sequential):
        syncs = 0

        def jax_state_sync(self) -> None:
            if getattr(self, "_jax_state", None) and not self._jax_state_synced:
                Counted.syncs += 1
            super().jax_state_sync()

    def syncs(*callbacks: Any) -> int:
        model = Counted([keras.layers.Input((3,)), keras.layers.Dense(1)])
        model.compile("sgd", loss="mse")
        Counted.syncs = 0
        fit(model, *callbacks, batch_size=1)
        return Counted.syncs

    def is_async(callback: Any) -> bool:
        return bool(keras.callbacks.CallbackList([callback])._async_train)

    names = [name for name in dir(keras.callbacks.Callback) if "batch" in name]
    with tracker.start_run(name="hooks") as run:
        quiet = TrackerCallback(run)
        facts = {
            "defined": [
                name for name in names if getattr(TrackerCallback, name) is not getattr(keras.callbacks.Callback, name)
            ],
            "on the object": [name for name in names if name in vars(quiet)],
            "async without us": is_async(keras.callbacks.Callback()),
            "async with us": is_async(quiet),
            "async with batches": is_async(TrackerCallback(run, log_batches=1)),
            "syncs without us": syncs(),
            "syncs with us": syncs(quiet),
            "syncs with batches": syncs(TrackerCallback(run, log_batches=1)),
        }
        facts["left on the object"] = [name for name in names if name in vars(quiet)]
    return facts


@scenario
def subclass_of_ours() -> Facts:
    seen: list[int] = []

    class Mine(TrackerCallback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            seen.append(batch)

    with tracker.start_run(name="subclass_of_ours") as run:
        mine = Mine(run, log_batches=1)
        fit(linear(), mine, epochs=1)
    return {"seen": seen, "async safe": mine.async_safe}
