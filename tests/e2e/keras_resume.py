"""A training as a user writes it, which can be told to die: `python keras_resume.py HOW EPOCH BATCH FACTS`.

HOW is `kill` (SIGKILL in the middle of an epoch), `term` (SIGTERM there), `save` (SIGKILL while the state is being
written at that epoch's end) or `end`. What Keras said is written to FACTS, with what a training that never died says.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras_bench import X, Y, anywhere, verbose

import tracker
from tracker_keras import TrackerCallback

EPOCHS = 7


class Dies(keras.callbacks.Callback):
    """Ends the process after a batch of an epoch, once what was saved by then has left the training's hands."""

    def __init__(self, run: Any, number: signal.Signals, epoch: int, batch: int) -> None:
        super().__init__()
        self.run, self.number, self.at = run, number, (epoch, batch)
        self.epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if (self.epoch, batch) == self.at:
            self.run.in_background(lambda: None).result(30)
            os.kill(os.getpid(), self.number)


def make() -> Any:
    """A model that is not built before its first batch."""
    keras.utils.set_random_seed(7)
    model = keras.Sequential([keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.05), loss="mse", metrics=["mae"])
    return model


def beside() -> list[Any]:
    """The stock callbacks."""
    return [
        keras.callbacks.EarlyStopping("loss", min_delta=0.4, patience=3, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau("loss", min_delta=0.4, patience=1, factor=0.5),
        keras.callbacks.ModelCheckpoint("best.keras", save_best_only=True),
    ]


def train(model: Any, callbacks: list[Any]) -> Any:
    """The fit of both trainings."""
    given = {"batch_size": 5, "epochs": EPOCHS, "shuffle": False, "verbose": verbose()}
    return model.fit(X, Y, validation_data=(X, Y), callbacks=callbacks, **given)


def dying(save: Any) -> Any:
    """`save`, killed when half of the file is there."""

    def save_weights(path: str) -> None:
        save(path)
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    return save_weights


class AtEnd(keras.callbacks.Callback):
    """Kills the save that follows an epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == self.epoch:
            self.model.save_weights = dying(self.model.save_weights)


def main(how: str, epoch: int, batch: int, facts: Path) -> None:
    steps = int(os.environ.get("STEPS", "0")) or None
    with tracker.start_run("resume", name="script", resume="auto") as run:
        model, callbacks = make(), beside()
        ends: dict[str, list[Any]] = {
            "kill": [Dies(run, signal.SIGKILL, epoch, batch)],
            "term": [Dies(run, signal.SIGTERM, epoch, batch)],
            "save": [AtEnd(epoch)],
            "end": [],
        }
        ours = TrackerCallback(run, resume=True, checkpoint=steps)
        train(model, [*anywhere([ours, *callbacks]), *ends[how]])
    whole, others = make(), beside()
    truth = train(whole, others)
    facts.write_text(
        json.dumps({
            "history": truth.history,
            "apart": max(float(np.abs(a - b).max()) for a, b in zip(model.get_weights(), whole.get_weights(), strict=True)),
            "states": [[[one.wait, one.best] for one in some[:2]] + [some[2].best] for some in (callbacks, others)],
            "iterations": [int(one.optimizer.iterations) for one in (model, whole)],
        })
    )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
