"""`fit()` with `TrackerCallback` against none: the demo's kind of model on scikit-learn's handwritten digits."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any


def fit(folder: Path, *, rounds: int, epochs: int) -> Any:
    """Seconds of `fit()` plain and with the callback, `rounds` times each in the order A B B A …, one model.

    The weights are put back before every fit; runs are opened and finished outside the clock. `inside_ms` is the
    time that the callback's own methods held the training thread in each fit.
    """
    # On all cores of a small machine the thread pool's own scheduling is ten times what is to be measured.
    os.environ.update(TF_NUM_INTRAOP_THREADS="1", TF_NUM_INTEROP_THREADS="1")
    import keras

    import tracker
    from tracker_keras import TrackerCallback

    model, data = _model(keras), _digits()
    start = model.get_weights()
    inside = _timed(TrackerCallback)

    def plain() -> float:
        model.set_weights(start)
        return _fit(model, data, epochs, [])

    def tracked() -> float:
        model.set_weights(start)
        run = tracker.start_run(experiment="bench", store=f"sqlite:///{folder}/tracker.db")
        run.flush()
        callback = TrackerCallback(run)
        inside.append({})
        taken = _fit(model, data, epochs, [callback])
        run.finish()
        return taken

    plain(), tracked()  # compiles the model, imports what is imported late
    inside.clear()
    pairs: list[tuple[float, float]] = []
    for number in range(rounds):
        if number % 2:
            second, first = tracked(), plain()
            pairs.append((first, second))
        else:
            pairs.append((plain(), tracked()))
    nulls = [(plain(), plain()) for _ in range(max(2, rounds // 2))]
    return {
        "backend": keras.backend.backend(),
        "epochs": epochs,
        "steps": -(-int(len(data[0]) * 0.8) // 32),
        "pairs": pairs,
        "nulls": nulls,
        "inside_ms": [sum(methods.values()) * 1e3 for methods in inside],
        "inside_by_hook_ms": _by_hook(inside),
    }


def _digits() -> tuple[Any, Any]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.data.astype("float32") / 16.0, digits.target


def _model(keras: Any) -> Any:
    keras.utils.set_random_seed(7)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(512, activation="relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _fit(model: Any, data: tuple[Any, Any], epochs: int, callbacks: list[Any]) -> float:
    start = time.perf_counter()
    model.fit(*data, epochs=epochs, batch_size=32, validation_split=0.2, verbose=0, callbacks=callbacks)
    return time.perf_counter() - start


def _timed(kind: type) -> list[dict[str, float]]:
    """Make the hooks of `kind` add the seconds they take to the last mapping of the list that is returned."""
    spent: list[dict[str, float]] = []

    def wrapped(name: str, hook: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return hook(*args, **kwargs)
            finally:
                if spent:
                    spent[-1][name] = spent[-1].get(name, 0.0) + time.perf_counter() - start

        return timed

    for name in [name for name in vars(kind) if name.startswith("on_") or name in ("set_model", "set_params")]:
        setattr(kind, name, wrapped(name, vars(kind)[name]))
    return spent


def _by_hook(inside: list[dict[str, float]]) -> dict[str, float]:
    names = sorted({name for methods in inside for name in methods})
    return {name: median(methods.get(name, 0.0) * 1e3 for methods in inside) for name in names}
