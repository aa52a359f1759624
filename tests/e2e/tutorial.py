"""The tutorial on four callbacks, typed as it is printed: only TrackerCallback is added.

Run as a script, with the names of the trainings to make: `python tutorial.py NAME…`.
"""

from __future__ import annotations

import sys

import numpy as np
import tensorflow as tf
from keras.callbacks import EarlyStopping, ModelCheckpoint, TensorBoard
from sklearn.datasets import load_digits

import tracker

# Keras 3 refuses what the tutorial's schedule returns (a tensor); ours takes it.
from tracker_keras import LearningRateScheduler, TrackerCallback

tf.keras.utils.set_random_seed(7)
x, y = load_digits(return_X_y=True)
x = (x / 16.0).astype("float32").reshape(-1, 8, 8, 1)
x_train, y_train, x_test, y_test = x[:600], y[:600], x[600:1000], y[600:1000]


def build_model():  # type: ignore[no-untyped-def]
    model = tf.keras.Sequential(
        [
            tf.keras.layers.Input((8, 8, 1)),
            tf.keras.layers.Conv2D(16, (3, 3), activation="relu"),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(64, activation="relu"),
            tf.keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        optimizer=tf.keras.optimizers.Adam(0.01), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def train(name, epochs, *callbacks):  # type: ignore[no-untyped-def]
    if name not in sys.argv[1:]:
        return None
    print(f"== {name}", flush=True)
    with tracker.start_run("tutorial", name=name) as run:
        model = build_model()
        model.fit(
            x_train, y_train, epochs=epochs, validation_data=(x_test, y_test), verbose=2,
            callbacks=[TrackerCallback(run), *callbacks],
        )  # fmt: skip
    return model


# ModelCheckpoint, periodic: every second epoch (19 batches each), weights only.
train(
    "periodic", 10,
    ModelCheckpoint("training_1/cp-{epoch:04d}.weights.h5", save_weights_only=True, verbose=1, save_freq=2 * 19),
)  # fmt: skip

# ModelCheckpoint, the best model only.
train("best_only", 10, ModelCheckpoint("best_model.keras", monitor="val_loss", save_best_only=True, verbose=1))

# EarlyStopping.
train(
    "early_stopping", 60,
    EarlyStopping(monitor="val_loss", patience=3, restore_best_weights=True, verbose=1),
)  # fmt: skip


# LearningRateScheduler.
def scheduler(epoch, lr):  # type: ignore[no-untyped-def]
    if epoch < 5:
        return lr
    return lr * tf.math.exp(-0.1)


train("schedule", 10, LearningRateScheduler(scheduler, verbose=1))

# TensorBoard.
train("tensorboard", 10, TensorBoard(log_dir="./logs", histogram_freq=1, write_graph=True, write_images=True))

# All of them.
model = train(
    "all", 60,
    ModelCheckpoint("all.keras", monitor="val_loss", save_best_only=True, verbose=1),
    EarlyStopping(monitor="val_loss", patience=3, restore_best_weights=True, verbose=1),
    LearningRateScheduler(scheduler, verbose=1),
    TensorBoard(log_dir="./logs_all", histogram_freq=1, write_graph=True, write_images=True),
)  # fmt: skip
print("evaluate", *model.evaluate(x_test, y_test, verbose=0))
np.savez("all.npz", *model.get_weights())
