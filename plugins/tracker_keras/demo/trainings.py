"""The five trainings: an ordinary model, data and callbacks, with TrackerCallback added."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import tracker
from tracker_keras import LearningRateScheduler, TrackerCallback

BATCH = 32
SEED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Digits:
    """Handwritten digits: images float32 (n, 8, 8, 1) from 0 to 1, labels int64 (n,) from 0 to 9."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    x_validation: NDArray[np.float32]
    y_validation: NDArray[np.int64]

    @classmethod
    def load(cls) -> Digits:
        """Load scikit-learn's 1 797 images of the UCI handwritten digits; a fifth is for validation."""
        images, labels = load_digits(return_X_y=True)
        pixels = (images / 16.0).astype("float32").reshape(-1, 8, 8, 1)
        x, x_validation, y, y_validation = train_test_split(
            pixels, labels, test_size=0.2, stratify=labels, random_state=SEED
        )
        return cls(x=x, y=y, x_validation=x_validation, y_validation=y_validation)

    @property
    def steps(self) -> int:
        """Optimizer steps of an epoch."""
        return -(-len(self.x) // BATCH)

    def described(self) -> str:
        """A short description of the data."""
        return (
            f"{len(self.x)} images to train on, {len(self.x_validation)} to validate, backend {keras.backend.backend()}"
        )


def make_model() -> Any:
    """A small compiled convolutional classifier, with the same initial weights and layer names each time."""
    keras.utils.clear_session()  # otherwise the fifth model's layers are named conv2d_4, dense_8 …
    keras.utils.set_random_seed(SEED)
    model = keras.Sequential(
        [
            keras.layers.Input((8, 8, 1)),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ],
        name="digits",
    )
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate=0.01),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A training that ended; `saved` names the files it wrote, relative to its folder."""

    run_id: str
    seconds: float
    saved: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One of the five trainings: its name, its title, and a function that makes its callbacks."""

    name: str
    title: str
    callbacks_text: str
    callbacks: Callable[[Digits, Path, int], list[Any]]

    def run(self, digits: Digits, *, epochs: int, store: str | None, folder: Path) -> Trained:
        """Train once, recorded in `store`."""
        before = _files(folder)
        began = time.perf_counter()
        with tracker.start_run("digits", name=self.name, store=store) as run:
            make_model().fit(
                digits.x,
                digits.y,
                batch_size=BATCH,
                epochs=epochs,
                validation_data=(digits.x_validation, digits.y_validation),
                callbacks=[TrackerCallback(run), *self.callbacks(digits, folder, epochs)],
                verbose=0,
            )
        after = _files(folder)
        saved = sorted(name for name, changed in after.items() if before.get(name) != changed)
        return Trained(run_id=run.id, seconds=time.perf_counter() - began, saved=saved)


def _periodic(digits: Digits, folder: Path, epochs: int) -> list[Any]:
    every = max(epochs // 2, 1)
    return [
        keras.callbacks.ModelCheckpoint(
            str(folder / "cp-{epoch:04d}.weights.h5"), save_weights_only=True, save_freq=every * digits.steps
        )
    ]


def _best_only(digits: Digits, folder: Path, epochs: int) -> list[Any]:
    return [keras.callbacks.ModelCheckpoint(str(folder / "best.keras"), monitor="val_loss", save_best_only=True)]


def _early_stopping(digits: Digits, folder: Path, epochs: int) -> list[Any]:
    return [
        *_best_only(digits, folder, epochs),
        keras.callbacks.EarlyStopping(monitor="val_loss", patience=3, restore_best_weights=True),
    ]


def _schedule(digits: Digits, folder: Path, epochs: int) -> list[Any]:
    def scheduler(epoch: int, lr: float) -> Any:
        """The tutorial's schedule: constant in the first epochs, then lower by a tenth each. Returns a tensor."""
        return lr if epoch < epochs // 2 else lr * ops.exp(-0.1)

    # Keras 3's callback refuses tensors ("should be a float").
    return [LearningRateScheduler(scheduler)]


def _tensorboard(digits: Digits, folder: Path, epochs: int) -> list[Any]:
    return [keras.callbacks.TensorBoard(str(folder), histogram_freq=1, write_graph=True, write_images=True)]


TRAININGS = (
    Training(
        name="periodic-checkpoint",
        title="Periodic checkpoint",
        callbacks_text="ModelCheckpoint(save_freq=…, epoch in the path)",
        callbacks=_periodic,
    ),
    Training(
        name="best-only",
        title="Best only",
        callbacks_text='ModelCheckpoint(monitor="val_loss", save_best_only=True)',
        callbacks=_best_only,
    ),
    Training(
        name="early-stopping",
        title="Best only, with early stopping",
        callbacks_text="ModelCheckpoint, EarlyStopping(patience=3, restore_best_weights=True)",
        callbacks=_early_stopping,
    ),
    Training(
        name="learning-rate-schedule",
        title="Learning-rate schedule",
        callbacks_text="tracker_keras.LearningRateScheduler(scheduler)",
        callbacks=_schedule,
    ),
    Training(
        name="tensorboard",
        title="TensorBoard",
        callbacks_text="TensorBoard(histogram_freq=1, write_graph=True, write_images=True)",
        callbacks=_tensorboard,
    ),
)


def _files(folder: Path) -> dict[str, int]:
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
