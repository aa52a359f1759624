"""Finds the users' callbacks that may set `model.stop_training`."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

import keras

_NAME = "stop_training"


def ends_epochs(callback: Any) -> bool:
    """Whether a user's callback has an `on_epoch_end`."""
    return _is_users(callback) and _overrides(callback, "on_epoch_end")


def stoppers(callbacks: Iterable[Any]) -> str:
    """The classes of the callbacks that may have stopped a training before an epoch's end, as text.

    Batch hooks are not watched, so these are the users' callbacks with other hooks than `on_epoch_end` whose code
    contains the name `stop_training`; if there are none, all with such hooks; else "assignment".
    """
    hooks = [name for name in dir(keras.callbacks.Callback) if name.startswith("on_") and name != "on_epoch_end"]
    able = [one for one in callbacks if _is_users(one) and any(_overrides(one, name) for name in hooks)]
    naming = [one for one in able if any(_names_it(function) for function in _functions(one))]
    return " or ".join(dict.fromkeys(type(one).__name__ for one in naming or able)) or "assignment"


def _is_users(callback: Any) -> bool:
    kind = type(callback)
    is_keras = kind.__module__.partition(".")[0] in ("keras", "tracker_keras")
    return not is_keras or kind is keras.callbacks.LambdaCallback


def _overrides(callback: Any, name: str) -> bool:
    of_class = getattr(type(callback), name, None)
    return of_class is not getattr(keras.callbacks.Callback, name) or name in vars(callback)


def _functions(callback: Any) -> Iterator[Any]:
    yield from vars(callback).values()
    for kind in type(callback).__mro__:
        if kind is keras.callbacks.Callback:
            return
        yield from vars(kind).values()


def _names_it(function: Any) -> bool:
    code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    return code is not None and (_NAME in code.co_names or _NAME in code.co_consts)
