"""One training of a fixed seed, recorded while the disk is busy: what `test_keras_same_record.py` runs many times."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras_bench import anywhere, verbose

import tracker
from tracker_keras import TrackerCallback

EPOCHS = 4


class Writes(threading.Thread):
    """Keeps the disk and the interpreter busy, so that copies come at other moments in every training."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self._file, self._draw = folder / "busy", np.random.default_rng(seed)

    def run(self) -> None:
        while not self.over.is_set():
            with self._file.open("wb") as file:
                file.write(self._draw.bytes(int(self._draw.integers(1, 3_000_000))))
                file.flush()
                os.fsync(file.fileno())
            self.over.wait(float(self._draw.exponential(0.01)))


def main(folder: Path, seed: int, *, validated: bool) -> Any:
    keras.utils.set_random_seed(7)
    x = np.random.default_rng(0).normal(size=(40, 64)).astype("float32")
    y = x[:, :1] * 0.5
    model = keras.Sequential([keras.layers.Input((64,)), keras.layers.Dense(1024), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.02), "mse", metrics=["mae"])
    stock = keras.callbacks.ModelCheckpoint
    busy = Writes(folder, seed)
    busy.start()
    with tracker.start_run(name=folder.name) as run:
        model.fit(
            x,
            y,
            batch_size=10,
            epochs=EPOCHS,
            validation_data=(x[:10], y[:10] + 0.3) if validated else None,
            verbose=verbose(),
            callbacks=anywhere(
                [
                    stock(str(folder / "every.weights.h5"), save_weights_only=True, save_freq=3),
                    stock(str(folder / "each.weights.h5"), save_weights_only=True, save_freq=4),
                    TrackerCallback(run),
                    stock(str(folder / "best.keras"), monitor="mae", mode="min", save_best_only=True),
                    stock(str(folder / "m-{epoch}.weights.h5"), save_weights_only=True),
                ]
            ),
        )
    busy.over.set()
    busy.join()
    with tracker.open_store() as store:
        rows = store.checkpoints(run.id)
        events = [one for one in store.events(run.id) if one.kind != "system_described"]
        of_row = {row.id: number for number, row in enumerate(rows)}
        best = tracker.load_checkpoint(run.id, "best")
        return {
            "rows": [
                [row.epoch, row.step, row.is_best, row.metrics, Path(row.state["file"]).name, row.status,
                 {key: row.state.get(key) for key in ("batch", "mid_epoch", "best_by", "by")}]
                for row in rows
            ],
            "events": [
                [one.kind, one.epoch, one.step, of_row.get(one.detail.get("checkpoint")), one.detail.get("is_best")]
                for one in events
            ],
            "best": [of_row[row.id] for row in rows if row.sha256 in best.name or row.sha256 in str(best)],
            "problems": dict(run.problems),
        }  # fmt: skip


if __name__ == "__main__":
    facts: dict[str, list[Any]] = {"validated": [], "unvalidated": []}
    for number in range(int(sys.argv[1])):
        for how, those in facts.items():
            (place := Path.cwd() / f"{how}-{number}").mkdir()
            those.append(main(place, number, validated=how == "validated"))
    Path(sys.argv[2]).write_text(json.dumps(facts))
