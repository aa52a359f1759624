"""What the scenarios are made of: tiny data, a tiny model, and what Keras itself says of a training."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

Facts = dict[str, Any]
SCENARIOS: dict[str, Callable[[], Facts]] = {}
X = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
Y = X @ np.array([[1.0], [-2.0], [0.5]], dtype="float32")
BATCH, STEPS = 5, 4


def scenario(function: Callable[[], Facts]) -> Callable[[], Facts]:
    """Register a scenario; it returns what the record is to be held against."""
    SCENARIOS[function.__name__] = function
    return function


def linear(optimizer: Any = None, *, rate: float = 0.01, name: str = "linear", **compile_args: Any) -> Any:
    """A compiled model of four parameters."""
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)], name=name)
    model.compile(optimizer or keras.optimizers.SGD(rate), **{"loss": "mse", "metrics": ["mae"], **compile_args})
    return model


def fit(model: Any, *callbacks: Any, **arguments: Any) -> Any:
    """Fit in four steps an epoch, two epochs unless told otherwise."""
    given = {"x": X, "y": Y, "batch_size": BATCH, "epochs": 2, "verbose": 0, "callbacks": list(callbacks), **arguments}
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
