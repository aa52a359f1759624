"""The state of the other callbacks: read when a training is saved, restored when it resumes.

Keras' callbacks lose it in a new process, and most of them reset it in `on_train_begin`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from tracker_keras.resuming.state_file import Arrays, listed

log = logging.getLogger("tracker")

State = dict[str, Any]
_BATCHES = ("_batches_seen_since_last_saving", "_last_batch_seen")
_KNOWN: Mapping[str, tuple[str, ...]] = {
    "EarlyStopping": ("wait", "best", "best_epoch", "stopped_epoch"),
    "ReduceLROnPlateau": ("wait", "best", "cooldown_counter"),
    "ModelCheckpoint": ("best", *_BATCHES),
    "OrbaxCheckpoint": ("best", *_BATCHES, "_total_batches_seen"),
    "SwapEMAWeights": ("_ema_weights_in_model",),
    "TensorBoard": ("_global_train_batch", "_global_test_batch"),
}
"""The attributes by which each of Keras' callbacks, and its subclasses, decide."""
_ARRAYS: Mapping[str, tuple[str, ...]] = {"EarlyStopping": ("best_weights",)}


def take(callbacks: Iterable[Any]) -> tuple[State, Arrays]:
    """The numbers of each callback, for JSON, by its kind and position among its kind, and its arrays.

    The state of a user's callback is its `state_dict()`, if it also has `load_state_dict(state)`. Arrays are not
    copied, since callbacks replace them and never change them.
    """
    states: State = {}
    arrays: dict[str, Any] = {}
    for name, kind, one in _named(callbacks):
        if kind is None:
            states[name] = {"own": one.state_dict()}
            continue
        states[name] = {key: _plain(getattr(one, key)) for key in _KNOWN[kind] if hasattr(one, key)}
        if isinstance(one, keras.callbacks.Callback) and (monitor := getattr(one, "monitor", None)):
            states[name]["monitor"] = monitor
        for key in _ARRAYS.get(kind, ()):
            for number, array in enumerate(getattr(one, key, None) or ()):
                arrays[f"{name}/{key}/{number}"] = array
    return states, arrays


def put_back(callbacks: Iterable[Any], states: Mapping[str, Any], arrays: Arrays) -> None:
    """Restore each callback's state by its kind and position; log what cannot be restored."""
    for name, kind, one in _named(callbacks):
        saved = states.get(name)
        if saved is None:
            log.warning("resume: %s has no saved state; it starts from its initial state", name)
        elif kind is None:
            one.load_state_dict(saved["own"])
        elif saved.get("monitor") != getattr(one, "monitor", None):
            log.warning(
                "resume: %s monitored %s, and now %s; it starts from its initial state",
                name,
                saved.get("monitor"),
                one.monitor,
            )
        else:
            for key in _KNOWN[kind]:
                if key in saved:
                    setattr(one, key, _number(saved[key]))
            for key in _ARRAYS.get(kind, ()):
                if found := listed(arrays, f"{name}/{key}"):
                    setattr(one, key, found)
            if hasattr(one, "is_put_back"):  # our ModelCheckpoint
                one.is_put_back = True


def has_stopped(callbacks: Iterable[Any]) -> bool:
    """Whether an EarlyStopping has ended the training; one whose patience was increased since has not."""
    return any(
        one.stopped_epoch > 0 and one.wait >= one.patience
        for one in callbacks
        if isinstance(one, keras.callbacks.EarlyStopping)
    )


def _named(callbacks: Iterable[Any]) -> Iterator[tuple[str, str | None, Any]]:
    """The callbacks that have a state: a unique name, the kind of Keras' callback, and the callback."""
    counts: dict[str, int] = {}
    for one in callbacks:
        kind = next((name for name in _KNOWN if _is(one, name)), None)
        if kind is None and not (hasattr(one, "state_dict") and hasattr(one, "load_state_dict")):
            continue
        called = kind or type(one).__name__
        counts[called] = counts.get(called, 0) + 1
        yield called if counts[called] == 1 else f"{called}_{counts[called]}", kind, one


def _is(callback: Any, name: str) -> bool:
    known = getattr(keras.callbacks, name, None)
    return isinstance(known, type) and isinstance(callback, known)


def _plain(value: Any) -> Any:
    """A number of any library as a Python number."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    array = np.asarray(keras.ops.convert_to_numpy(value))
    return array.item() if array.size == 1 else None


def _number(value: Any) -> Any:
    """A number from JSON, in which NaN and the infinities are strings."""
    return float(value) if isinstance(value, str) else value
