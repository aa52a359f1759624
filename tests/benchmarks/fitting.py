"""`fit()` with `TrackerCallback` against none: the demo's kind of model on scikit-learn's handwritten digits."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

# On all cores of a small machine the thread pool's own scheduling is ten times what is to be measured.
os.environ.update(TF_NUM_INTRAOP_THREADS="1", TF_NUM_INTEROP_THREADS="1")

import keras
from inside import Inside, Spent, background_s, background_since

import tracker
from tracker_keras import TrackerCallback

Callbacks = Callable[[], Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Taken:
    """What one `fit()` took: seconds; ms of our threads' CPU meanwhile; ns of each call of a hook of ours."""

    seconds: float
    background_ms: float = 0.0
    inside: Spent | None = None

    @property
    def inside_ms(self) -> float:
        """All that our hooks held the training thread."""
        return sum(sum(calls) for calls in (self.inside or {}).values()) / 1e6


class Training:
    """A compiled model and the digits: each fit begins with the same weights, optimizer state and seeds."""

    def __init__(self, folder: Path, model: Any, *, epochs: int = 10, batch_size: int = 32) -> None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        self.folder = folder
        self.model = model
        self.epochs = epochs
        self.steps = -(-int(len(digits.data) * 0.8) // batch_size)
        self._data = digits.data.astype("float32") / 16.0, digits.target
        self._batch_size = batch_size
        self._inside = Inside()
        model.optimizer.build(model.trainable_variables)
        self._start = [(one, one.numpy()) for one in (*model.variables, *model.optimizer.variables)]

    def plain(self, callbacks: Callbacks = list) -> Taken:
        """One `fit()` with these callbacks alone."""
        return Taken(self._fit(callbacks()))

    def tracked(self, callbacks: Callbacks = list, **arguments: Any) -> Taken:
        """One `fit()` with `TrackerCallback(run, **arguments)` before these; the run's begin and end not timed."""
        store = Path(tempfile.mkdtemp(dir=self.folder))
        run = tracker.start_run(experiment="bench", store=f"sqlite:///{store}/tracker.db")
        run.flush()
        self._inside.take()
        given, before = [TrackerCallback(run, **arguments), *callbacks()], background_s()
        seconds = self._fit(given)
        taken = Taken(seconds, background_since(before) * 1e3, self._inside.take())
        run.finish(timeout=120)
        shutil.rmtree(store)
        return taken

    def _fit(self, callbacks: Sequence[Any]) -> float:
        keras.utils.set_random_seed(7)
        for variable, value in self._start:
            variable.assign(value)
        # What is measured is the callbacks: `verbose=0`, since the progress bar takes time of its own.
        fit = partial(self.model.fit, *self._data, epochs=self.epochs, batch_size=self._batch_size, verbose=0)
        start = time.perf_counter()
        fit(validation_split=0.2, callbacks=list(callbacks))
        return time.perf_counter() - start


def digits_mlp(width: int = 512, layers: int = 1, optimizer: str = "adam") -> Any:
    """The demo's model, with one or more dense layers of some width."""
    keras.utils.set_random_seed(7)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            *(keras.layers.Dense(width, activation="relu") for _ in range(layers)),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def fit(folder: Path, *, rounds: int, epochs: int, stock: bool) -> Any:
    """Seconds of `fit()` without and with the callback, `rounds` times each in the order A B B A …, one model.

    With `stock` both have Keras' ModelCheckpoint, EarlyStopping, LearningRateScheduler and TensorBoard besides.
    """
    training = Training(folder, digits_mlp(), epochs=epochs)
    beside = partial(stock_callbacks, folder, epochs) if stock else list

    def plain() -> Taken:
        return training.plain(beside)

    def tracked() -> Taken:
        return training.tracked(beside)

    plain(), tracked()  # compiles the model, imports what is imported late
    pairs: list[tuple[Taken, Taken]] = []
    for number in range(rounds):
        if number % 2:
            second, first = tracked(), plain()
            pairs.append((first, second))
        else:
            pairs.append((plain(), tracked()))
    nulls = [(plain().seconds, plain().seconds) for _ in range(max(2, rounds // 2))]
    ours = [taken for _, taken in pairs]
    return {
        "backend": keras.backend.backend(),
        "epochs": epochs,
        "steps": training.steps,
        "pairs": [(first.seconds, second.seconds) for first, second in pairs],
        "nulls": nulls,
        "inside_ms": [taken.inside_ms for taken in ours],
        "inside_by_hook_ms": _by_hook([taken.inside or {} for taken in ours]),
        "background_ms": [taken.background_ms for taken in ours],
    }


def stock_callbacks(folder: Path, epochs: int) -> list[Any]:
    """The tutorial's four callbacks, so that nothing stops before its last epoch."""
    logs = folder / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    return [
        keras.callbacks.ModelCheckpoint(folder / "best.keras", save_best_only=True),
        keras.callbacks.EarlyStopping(patience=epochs, restore_best_weights=True),
        keras.callbacks.LearningRateScheduler(_schedule),
        keras.callbacks.TensorBoard(logs, histogram_freq=1),
    ]


def _schedule(epoch: int, rate: float) -> float:
    return rate if epoch < 5 else rate * 0.9


def _by_hook(inside: Sequence[Spent]) -> dict[str, float]:
    names = sorted({name for spent in inside for name in spent})
    return {name: median(sum(spent.get(name, ())) / 1e6 for spent in inside) for name in names}


class Nothing(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """A batch hook that does nothing: what Keras charges for there being one."""

    async_safe = True

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Nothing."""


def batches(folder: Path, *, rounds: int, epochs: int) -> Any:
    """Seconds of `fit()` bare, with a batch hook that does nothing, with epoch logging, and with `log_batches=1`.

    Rounds go forwards and backwards in turn. `inside_us` is the mean of what the batch hook itself took in each.
    """
    training = Training(folder, digits_mlp(), epochs=epochs, batch_size=8)
    contenders: dict[str, Callable[[], Taken]] = {
        "bare": training.plain,
        "hook": lambda: training.plain(lambda: [Nothing()]),
        "epochs": training.tracked,
        "batches": lambda: training.tracked(log_batches=1),
    }
    for contend in contenders.values():
        contend()
    taken: dict[str, list[Taken]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in reversed(list(contenders)) if number % 2 else contenders:
            taken[name].append(contenders[name]())
    more = {name: median(one.background_ms for one in of_one) for name, of_one in taken.items()}
    hooks = [one.inside["on_train_batch_end"] for one in taken["batches"] if one.inside]
    return {
        "backend": keras.backend.backend(),
        "steps": training.steps * epochs,
        "seconds": {name: [one.seconds for one in of_one] for name, of_one in taken.items()},
        "inside_us": [sum(calls) / len(calls) / 1e3 for calls in hooks],
        "inside_p50_us": [median(calls) / 1e3 for calls in hooks],
        "background_us": (more["batches"] - more["epochs"]) * 1e3 / (training.steps * epochs),
    }


def checkpoints(folder: Path, *, rounds: int, epochs: int, width: int, layers: int, optimizer: str) -> Any:
    """How long the callbacks hold the training thread as an epoch ends in which a ModelCheckpoint saves the model.

    Stock ModelCheckpoint alone, stock with `TrackerCallback`, ours with it, in turn; `held_ms` of every epoch, and of
    these what the thread was at work.
    """
    from tracker_keras import ModelCheckpoint

    held = _timed_epoch_ends()
    training = Training(folder, digits_mlp(width, layers, optimizer), epochs=epochs)
    file = folder / "saved.keras"
    stock, ours = (lambda kind=kind: [kind(file)] for kind in (keras.callbacks.ModelCheckpoint, ModelCheckpoint))
    contenders: dict[str, Callable[[], Taken]] = {
        "stock": lambda: training.plain(stock),
        "observed": lambda: training.tracked(stock),
        "ours": lambda: training.tracked(ours),
    }
    results: dict[str, Any] = {
        name: {"held_ms": [], "held_cpu_ms": [], "seconds": [], "background_ms": []} for name in contenders
    }
    for number in range(-1, rounds):
        for name in reversed(list(contenders)) if number % 2 else contenders:
            held.clear()
            taken = contenders[name]()
            if number >= 0:  # the first round compiles the model and imports what is imported late
                results[name]["held_ms"] += [wall for wall, _ in held]
                results[name]["held_cpu_ms"] += [cpu for _, cpu in held]
                results[name]["seconds"].append(taken.seconds)
                results[name]["background_ms"].append(taken.background_ms)
    return {
        "backend": keras.backend.backend(),
        "epochs": epochs,
        "steps": training.steps,
        "bytes": file.stat().st_size,
        "contenders": results,
    }


def _timed_epoch_ends() -> list[tuple[float, float]]:
    """Make `CallbackList.on_epoch_end` add the ms that it takes, and those of CPU, to the list that is returned."""
    kind = keras.callbacks.CallbackList
    hook, taken = kind.on_epoch_end, []

    def timed(self: Any, *args: Any, **kwargs: Any) -> None:
        start, at_work = time.perf_counter(), time.thread_time()
        hook(self, *args, **kwargs)
        taken.append(((time.perf_counter() - start) * 1e3, (time.thread_time() - at_work) * 1e3))

    kind.on_epoch_end = timed
    return taken
