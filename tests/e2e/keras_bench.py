"""What the scenarios are made of: tiny data, a tiny model, and what Keras itself says of a training."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from tracker_keras import TrackerCallback

Facts = dict[str, Any]
SCENARIOS: dict[str, Callable[[], Facts]] = {}
X = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
Y = X @ np.array([[1.0], [-2.0], [0.5]], dtype="float32")
BATCH, STEPS = 5, 4
SEED = os.environ["FIELD_SEED"]
"""What `verbose()` and `anywhere()` draw by."""
_draw = random.Random(SEED)


def scenario(function: Callable[[], Facts]) -> Callable[[], Facts]:
    """Register a scenario; it returns what the record is to be held against. Each draws by itself."""

    @functools.wraps(function)
    def drawing() -> Facts:
        _draw.seed(f"{SEED} {function.__name__}")
        return function()

    SCENARIOS[function.__name__] = drawing
    return drawing


def verbose() -> Any:
    """How much `fit()` says: nothing of ours depends on it."""
    return _draw.choice((0, 1, 2, "auto"))


def anywhere(callbacks: Iterable[Any]) -> list[Any]:
    """The callbacks in their order, ours at any place among them: nothing of ours depends on it."""
    given = list(callbacks)
    ours = [one for one in given if isinstance(one, TrackerCallback)]
    if len(ours) == 1:
        given.remove(ours[0])
        given.insert(_draw.randint(0, len(given)), ours[0])
    return given


def linear(optimizer: Any = None, *, rate: float = 0.01, name: str = "linear", **compile_args: Any) -> Any:
    """A compiled model of four parameters."""
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)], name=name)
    model.compile(optimizer or keras.optimizers.SGD(rate), **{"loss": "mse", "metrics": ["mae"], **compile_args})
    return model


def fit(model: Any, *callbacks: Any, **arguments: Any) -> Any:
    """Fit in four steps an epoch, two epochs unless told otherwise; `verbose` and the place of ours are drawn.

    With `ordered=True` the callbacks stand where they are given.
    """
    listed = list(callbacks) if arguments.pop("ordered", False) else anywhere(callbacks)
    given = {"x": X, "y": Y, "batch_size": BATCH, "epochs": 2, "verbose": verbose(), "callbacks": listed, **arguments}
    return model.fit(**given)


def rate_of(model: Any) -> float:
    """The optimizer's rate now."""
    return float(ops.convert_to_numpy(model.optimizer.learning_rate))


class Truth(keras.callbacks.Callback):
    """What the epochs really were: the rate before each first batch, the optimizer's steps at each end."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []
        self.iterations: list[int] = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if batch == 0:
            self.rates.append(rate_of(self.model))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.iterations.append(int(ops.convert_to_numpy(self.model.optimizer.iterations)))


@contextlib.contextmanager
def log_lines() -> Iterator[list[str]]:
    """What is said on the log `tracker` meanwhile, tracebacks included, one string a message."""
    lines: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Collect()
    logging.getLogger("tracker").addHandler(handler)
    try:
        yield lines
    finally:
        logging.getLogger("tracker").removeHandler(handler)
