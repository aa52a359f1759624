"""The reference training: a small model, the stock callbacks, and what Keras itself says of it.

A `Script` is one training as data. A condition changes what it holds; `train` runs what came of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import keras
from e2e.field.data import BATCH, EPOCHS, XV, YV, X, Y

FIT = keras.Model.fit
"""Keras' own, taken before anything of ours is imported."""


class Died(Exception):
    """What a training dies of here."""


class Looks(keras.callbacks.Callback):
    """Sees the learning rate before each epoch's first batch; kills the training before the batch `dies_at` of an epoch."""

    def __init__(self, dies_at: tuple[int, int] | None) -> None:
        super().__init__()
        self.rates: dict[int, float] = {}
        self._dies_at, self._epoch = dies_at, 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self._epoch not in self.rates:
            rate = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
            self.rates[self._epoch] = float(rate)
        if (self._epoch, batch) == self._dies_at:
            raise Died


def halved(epoch: int, rate: float) -> float:
    """The schedule of the reference's LearningRateScheduler."""
    return rate * 0.5 if epoch == 2 else rate


@dataclass
class Script:
    """One training: everything that a condition may change.

    `hand_over` makes of (ours, those beside) what `fit()` gets; `fit` and `call` are how that is called, and by whom.
    """

    keras: ModuleType = keras
    model: Callable[[Script], Any] = lambda script: sequential(script)
    compiled: dict[str, Any] = field(default_factory=dict)
    optimizer: Callable[[], Any] = lambda: keras.optimizers.Adam(0.05)
    arguments: dict[str, Any] = field(
        default_factory=lambda: {
            "x": X, "y": Y, "batch_size": BATCH, "epochs": EPOCHS, "validation_data": (XV, YV), "shuffle": False,
        }
    )  # fmt: skip
    beside: Callable[[Script], list[Any]] = lambda script: stock(script)
    first: list[Callable[[Script], Any]] = field(default_factory=list)
    """Further callbacks, made before the stock ones."""
    last: list[Callable[[Script], Any]] = field(default_factory=list)
    hand_over: Callable[[Any, list[Any], Any], Any] = lambda ours, others, model: [ours, *others]
    ours: dict[str, Any] = field(default_factory=lambda: {"resume": True, "histograms": 2})
    fit: Callable[[Any, dict[str, Any]], Any] = lambda model, arguments: model.fit(**arguments)
    call: Callable[[Callable[[], None]], None] = lambda training: training()
    around: list[Callable[[], Any]] = field(default_factory=list)
    """Context managers that the training runs in."""
    dies_at: tuple[int, int] | None = None
    looks: bool = True
    """Whether a callback of the test itself is among the others."""
    follows_schedule: bool = False
    """Whether the optimizer's rate changes with each step."""
    callbacks: Any = None
    """What `fit()` was given at last."""


def stock(script: Script) -> list[Any]:
    """The stock callbacks; their decisions do not hang on the last digits of a loss."""
    known = script.keras.callbacks
    return [
        known.LearningRateScheduler(halved),
        known.EarlyStopping("val_loss", min_delta=0.15, patience=3, restore_best_weights=True),
        known.ReduceLROnPlateau("val_loss", min_delta=0.15, patience=2, factor=0.5),
        known.ModelCheckpoint("best.keras", save_best_only=True),
        known.ModelCheckpoint("epoch-{epoch}.weights.h5", monitor="loss", save_weights_only=True),
    ]


def layers(script: Script) -> list[Any]:
    """The layers of every model here, with the same weights."""
    keras.utils.set_random_seed(7)
    made = script.keras.layers
    return [made.Dense(4, activation="tanh", name="hidden"), made.Dense(1, activation="sigmoid", name="out")]


def sequential(script: Script) -> Any:
    """The plainest model."""
    return script.keras.Sequential([script.keras.layers.Input((3,)), *layers(script)], name="net")


def compiled(script: Script) -> Any:
    """The script's model, ready to be trained."""
    model = script.model(script)
    model.compile(
        script.optimizer(), **{"loss": "binary_crossentropy", "metrics": ["accuracy", "mae"], **script.compiled}
    )
    return model


def train(script: Script, name: str, *, resume: str = "never") -> dict[str, Any]:
    """Run the script, recorded in a run of that name: which run, what Keras said, what was said on our log."""
    import tracker
    from tracker_keras import TrackerCallback

    looks = Looks(script.dies_at)
    told: dict[str, Any] = {"rates": None, "history": None, "error": None}

    def training() -> None:
        with ExitStack() as stack:
            said = told["said"] = stack.enter_context(closing(_Lines())).lines
            for manager in script.around:
                stack.enter_context(manager())
            try:
                with tracker.start_run("field", name=name, resume=resume) as run:
                    told["run"] = run.id
                    ours = TrackerCallback(run, **script.ours)
                    others = [*(make(script) for make in script.first), *script.beside(script)]
                    if script.looks:
                        others.append(looks)
                    others += [make(script) for make in script.last]
                    model = compiled(script)
                    script.callbacks = script.hand_over(ours, others, model)
                    fitted = script.fit(model, {**script.arguments, "callbacks": script.callbacks})
                    told["history"] = getattr(fitted, "history", None)
                    told["epochs"] = getattr(fitted, "epoch", None)
            except Died as error:
                told["error"] = repr(error)
            told["problems"] = dict(run.problems)
            told["errors"] = ours.guard.errors
            told["said"] = list(said)

    script.call(training)
    told["schedule"] = script.follows_schedule
    told["saves"] = bool(script.ours.get("resume") or script.ours.get("checkpoint"))
    told["rates"] = list(looks.rates.items())
    return told


class _Lines(logging.Handler):
    """What is said on the log `tracker`, tracebacks included, one string a message."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        logging.getLogger("tracker").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {self.format(record)}")

    def close(self) -> None:
        logging.getLogger("tracker").removeHandler(self)
        super().close()
