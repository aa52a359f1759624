"""`keras-cpu`: a fit with a checkpoint and an image is on record."""

from __future__ import annotations

import keras
import numpy as np

import tracker
from tracker_keras import TrackerCallback

x = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")
model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
with tracker.start_run("fits", name="one") as run:
    saving = keras.callbacks.ModelCheckpoint("best.keras", monitor="loss", save_best_only=True)
    board = keras.callbacks.TensorBoard("logs", histogram_freq=1)
    model.fit(x, x.sum(axis=1), epochs=2, callbacks=[TrackerCallback(run), saving, board])
    run.log_image(np.zeros((4, 4), "uint8"), "samples/first", step=1)
assert run.problems == {}, run.problems
store = tracker.open_store()
assert [epoch.number for epoch in store.epochs(run.id)] == [0, 1]
assert store.checkpoints(run.id), "no checkpoint is on record"
keras.models.load_model(tracker.load_checkpoint(run.id, which="best"))
print("works")
