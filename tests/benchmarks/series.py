"""Series whose room on disk is measured: of a real training, random doubles, and short ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

Values = Iterator[dict[str, float]]
"""The metrics of one log call after the other."""


def keras_batches() -> Values:
    """What Keras hands to callbacks after each batch of a real training, again and again."""
    import keras
    import numpy as np

    rng = np.random.default_rng(1)
    x = rng.normal(size=(4000, 20)).astype("float32")
    y = np.argmax(x @ rng.normal(size=(20, 10)) + rng.normal(size=(4000, 10)), axis=1)
    model = keras.Sequential([keras.layers.Dense(64, "relu"), keras.layers.Dense(10, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy", "sparse_top_k_categorical_accuracy"])
    found: list[dict[str, float]] = []

    class Collect(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            found.append({name: float(value) for name, value in logs.items()})

    model.fit(x, y, epochs=80, batch_size=16, verbose=0, callbacks=[Collect()])  # 20 000 batches; the bar costs time
    return itertools.cycle(found)


def random_doubles() -> Values:
    """Four metrics that nothing can compress."""
    import random

    rng = random.Random(1)
    while True:
        yield {name: rng.random() for name in ("a", "b", "c", "d")}


def short_series() -> Values:
    """Four hundred metrics, for runs of a hundred epochs."""
    import random

    rng = random.Random(1)
    names = [f"layer_{index}/norm" for index in range(400)]
    while True:
        yield {name: rng.random() for name in names}


SERIES = {"keras": keras_batches, "random": random_doubles, "short": short_series}
