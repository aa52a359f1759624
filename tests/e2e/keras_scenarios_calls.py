"""Scenarios of the same training, called in many ways: what is recorded of it must not depend on how."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any

import keras
from keras_bench import BATCH, Facts, Truth, X, Y, linear, log_lines, scenario

import tracker
from tracker_keras import TrackerCallback

stock = keras.callbacks
VERBOSE: Mapping[str, dict[str, Any]] = {
    "0": {"verbose": 0},
    "1": {"verbose": 1},
    "2": {"verbose": 2},
    "auto": {"verbose": "auto"},
    "not given": {},
}
PLACES = ("first", "middle", "last")


def put(ours: Any, others: list[Any], place: str) -> list[Any]:
    """`others` with `ours` among them."""
    index = {"first": 0, "middle": len(others) // 2, "last": len(others)}[place]
    return [*others[:index], ours, *others[index:]]


def beside() -> list[Any]:
    """Callbacks that decide something at the end of each epoch; Truth notes what was."""
    return [
        Truth(),
        stock.ReduceLROnPlateau("loss", patience=1, min_delta=1e9, factor=0.5),
        stock.EarlyStopping("loss", patience=9, restore_best_weights=True),
    ]


@scenario
def called_with_verbose() -> Facts:
    """`fit(verbose=…)` in every form, with our callback first, in the middle and last."""
    facts: Facts = {"runs": {}}
    model = linear()
    for form, given in VERBOSE.items():
        for place in PLACES:
            name, others = f"verbose {form}, {place}", beside()
            model.optimizer.learning_rate = 0.01
            with log_lines() as said, tracker.start_run(name=name) as run, contextlib.redirect_stdout(io.StringIO()):
                callbacks = put(TrackerCallback(run, resume=True), others, place)
                history = model.fit(X, Y, batch_size=BATCH, epochs=4, callbacks=callbacks, **given)
            facts["runs"][name] = {"rates": others[0].rates, "loss": history.history["loss"], "said": said}
    return facts
