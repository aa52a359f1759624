"""Scenarios of what fits are trained with: arrays of several libraries, pipelines, generators, weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras_bench import BATCH, STEPS, Facts, X, Y, fit, linear, scenario

import tracker
from tracker_keras import TrackerCallback


@scenario
def data_arrays() -> Facts:
    """NumPy, native tensors and (with TensorFlow) a pipeline over the same arrays; then others."""
    native = keras.ops.convert_to_tensor
    weights = np.linspace(1, 2, len(X)).astype("float32")
    with tracker.start_run(name="data_arrays") as run:
        callback, model = TrackerCallback(run), linear()
        fit(model, callback, validation_data=(X[:8], Y[:8]), class_weight={0: 1.0, 1: 2.5}, epochs=1)
        fit(model, callback, x=native(X), y=native(Y), epochs=1)
        fit(model, callback, x=X + 1, epochs=1)
    with tracker.start_run(name="data weights") as run:
        fit(linear(), TrackerCallback(run), sample_weight=weights, validation_split=0.25, epochs=1)
    with tracker.start_run(name="data native") as run:
        fit(linear(), TrackerCallback(run), x=native(X), y=native(Y), epochs=1)
    return {}


@scenario
def data_changed() -> Facts:
    """The user's own callback changes the arrays as soon as the fit has begun."""

    class Changes(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            x[:] = 0.0

    x = X.copy()
    with tracker.start_run(name="data_changed") as run:
        fit(linear(), TrackerCallback(run), Changes(), x=x, epochs=1)
    return {}


@scenario
def data_structures() -> Facts:
    """Inputs by name, and a pandas table."""
    import pandas as pd

    left, right = keras.Input((3,), name="left"), keras.Input((1,), name="right")
    model = keras.Model(
        {"left": left, "right": right}, keras.layers.Dense(1)(keras.layers.Concatenate()([left, right]))
    )
    model.compile("sgd", "mse")
    with tracker.start_run(name="data by name") as run:
        fit(model, TrackerCallback(run), x={"left": X, "right": Y}, epochs=1)
    with tracker.start_run(name="data table") as run:
        table = pd.DataFrame(X, columns=["a", "b", "c"])
        fit(linear(), TrackerCallback(run), x=table, y=pd.Series(Y[:, 0]), epochs=1)
    return {}


@scenario
def data_streams() -> Facts:
    """What is only known as it is used: a generator, a PyDataset. How often they are asked, with ours and without."""

    class Batches(keras.utils.PyDataset):
        def __init__(self) -> None:
            super().__init__()
            self.batch_size, self.asked = BATCH, 0

        def __len__(self) -> int:
            return STEPS

        def __getitem__(self, index: int) -> Any:
            self.asked += 1
            return X[index * BATCH : (index + 1) * BATCH], Y[index * BATCH : (index + 1) * BATCH]

    def endless() -> Iterator[Any]:
        while True:
            pulled.append(1)
            yield X[:BATCH], Y[:BATCH]

    asked: list[list[int]] = []
    for with_ours in (False, True):
        pulled: list[int] = []
        batches = Batches()
        with tracker.start_run(name=f"data streams {with_ours}") as run:
            ours = [TrackerCallback(run)] if with_ours else []
            fit(linear(), *ours, x=endless(), y=None, batch_size=None, steps_per_epoch=STEPS, epochs=1)
            fit(linear(), *ours, x=batches, y=None, batch_size=None, epochs=1)
        asked.append([batches.asked])
    return {"asked": asked}


@scenario
def data_pipelines() -> Facts:
    """Pipelines of `tf.data`, where TensorFlow is the backend: their generators and maps run as often as without us."""
    if keras.backend.backend() != "tensorflow":
        return {"ran": None}
    import tensorflow as tf

    ran: list[list[int]] = []
    for with_ours in (False, True):
        pulled: list[int] = []

        def rows(pulled: list[int] = pulled) -> Iterator[Any]:
            for index in range(len(X)):
                pulled.append(1)
                yield X[index], Y[index]

        slices = tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(7).map(lambda x, y: (x * 1.0, y)).batch(BATCH)
        signature = (tf.TensorSpec((3,), tf.float32), tf.TensorSpec((1,), tf.float32))
        made = tf.data.Dataset.from_generator(rows, output_signature=signature).batch(BATCH)
        for name, dataset in (("slices", slices.prefetch(2)), ("made", made)):
            with tracker.start_run(name=f"data {name} {with_ours}") as run:
                ours = [TrackerCallback(run)] if with_ours else []
                fit(linear(), *ours, x=dataset, y=None, batch_size=None, epochs=1)
        ran.append(pulled)
    return {"ran": [len(one) for one in ran]}
