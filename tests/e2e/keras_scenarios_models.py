"""Scenarios of hyperparameters, models and metrics of many kinds."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from keras_bench import Facts, X, Y, fit, linear, log_lines, scenario

import tracker
from tracker_keras import TrackerCallback


@scenario
def described() -> Facts:
    with tracker.start_run(name="described") as run:
        model = linear(metrics=["mae", keras.metrics.MeanSquaredError(name="squares")])
        fit(model, TrackerCallback(run))
    return {"params": model.count_params(), "keras": keras.version()}


@scenario
def two_optimizers() -> Facts:
    slow, fast = keras.optimizers.SGD(0.01, name="slow"), keras.optimizers.Adam(0.1, name="fast")
    chosen = keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(slow, {".*bias": fast}))
    with tracker.start_run(name="two_optimizers") as run:
        fit(linear(chosen), TrackerCallback(run), keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2))
    return {}


@scenario
def mixed_precision() -> Facts:
    with tracker.start_run(name="mixed_precision") as run:
        keras.config.set_dtype_policy("mixed_float16")
        try:
            model = linear(keras.optimizers.Adam(0.125))
        finally:
            keras.config.set_dtype_policy("float32")
        fit(model, TrackerCallback(run))
    return {"wrapped": type(model.optimizer).__name__}


@scenario
def settings() -> Facts:
    class Odd(keras.optimizers.SGD):
        def get_config(self) -> dict[str, Any]:
            raise NotImplementedError("this optimizer keeps its settings to itself")

    schedule = keras.optimizers.schedules.CosineDecay(0.1, decay_steps=100)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    with tracker.start_run(name="settings") as run, log_lines() as said:
        fit(linear(keras.optimizers.SGD(schedule, momentum=0.5), loss=loss, loss_weights=[0.5]), TrackerCallback(run))
    with tracker.start_run(name="settings.odd") as run, log_lines() as said:
        fit(linear(Odd(0.01)), TrackerCallback(run))
    return {"said": said}


@scenario
def two_outputs() -> Facts:
    shared = keras.Input((3,), name="features")
    outputs = {name: keras.layers.Dense(1, name=name)(shared) for name in ("left", "right")}
    model = keras.Model(shared, outputs)
    model.compile(
        "sgd",
        loss={"left": "mse", "right": keras.losses.MeanAbsoluteError()},
        loss_weights={"left": 1.0, "right": 0.5},
        metrics={"left": [keras.metrics.R2Score(name="fit_quality")], "right": ["mae"]},
    )
    with tracker.start_run(name="two_outputs") as run:
        history = fit(
            model, TrackerCallback(run), y={"left": Y, "right": Y}, validation_data=(X, {"left": Y, "right": Y})
        )
    return {"keys": sorted(history.history)}


@scenario
def unbuilt() -> Facts:
    built = []

    class Peeks(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            built.append(self.model.built)

    class Custom(keras.Model):
        def __init__(self, function: Any) -> None:
            super().__init__(name="custom")
            self.dense, self.function = keras.layers.Dense(1), function

        def call(self, x: Any) -> Any:
            return self.function(self.dense(x))

    with tracker.start_run(name="unbuilt") as run:
        model = keras.Sequential([keras.layers.Dense(1)], name="lazy")
        model.compile("sgd", loss="mse")
        fit(model, Peeks(), TrackerCallback(run))
    with tracker.start_run(name="unbuilt.custom") as run, log_lines() as said:
        model = Custom(lambda x: x)
        model.compile("sgd", loss=lambda y, p: ops.mean(ops.square(y - p), axis=-1))
        fit(model, TrackerCallback(run))
    return {"built": built, "said": said}


@scenario
def unfrozen() -> Facts:
    with tracker.start_run(name="unfrozen") as run:
        model, callback = linear(), TrackerCallback(run)
        fit(model, callback)
        model.layers[0].trainable = False
        model.layers[0].bias.trainable = True
        model.compile(keras.optimizers.SGD(0.001), loss="mse")
        fit(model, callback)
    return {"trainable": sum(int(np.prod(w.shape)) for w in model.trainable_weights)}


@scenario
def goals() -> Facts:
    with tracker.start_run(name="goals") as run:
        stopping = keras.callbacks.EarlyStopping("val_quality", mode="max", patience=9)
        checkpoint = keras.callbacks.ModelCheckpoint("never.keras", monitor="nowhere", save_best_only=False)
        model = linear(metrics=[keras.metrics.R2Score(name="quality"), "mae"])
        checkpoint.set_model = lambda model: None  # it is there to be looked at, not to save
        checkpoint.on_epoch_end = lambda epoch, logs=None: None
        history = fit(
            model, checkpoint, stopping, TrackerCallback(run, log_batches=1), validation_data=(X, Y), epochs=3
        )
    return {"quality": history.history["val_quality"]}
