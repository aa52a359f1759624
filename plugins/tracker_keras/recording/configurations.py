"""Reads the configuration of the other callbacks of a fit."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras

_BY_KERAS = (keras.callbacks.History, keras.callbacks.ProgbarLogger)


def configurations(callbacks: Iterable[Any]) -> dict[str, Any]:
    """Parameters `callbacks` (the classes, in their order) and `callbacks.<class>.<argument>` for their arguments.

    Callbacks have no `get_config`, so the configuration is the constructor's arguments that are stored under the same
    name and are plain values or functions (recorded by name). A second callback of a class is `<class>_2`. Callbacks
    that Keras adds itself are left out.
    """
    found: dict[str, Any] = {}
    names: list[str] = []
    for callback in callbacks:
        if not isinstance(callback, _BY_KERAS):
            kind = type(callback).__name__
            names.append(kind)
            key = kind if names.count(kind) == 1 else f"{kind}_{names.count(kind)}"
            for argument in _arguments(type(callback)):
                if (value := _value(argument, vars(callback).get(argument))) is not None:
                    found[f"callbacks.{key}.{argument}"] = value
    return {"callbacks": names, **found} if names else {}


def _arguments(kind: type) -> Iterator[str]:
    """The constructors' arguments of a class and its base classes, without hooks (LambdaCallback's)."""
    seen = set()
    for one in kind.__mro__:
        if one is keras.callbacks.Callback:
            return
        if "__init__" in vars(one):
            for name in list(inspect.signature(vars(one)["__init__"]).parameters)[1:]:
                if name not in seen and not name.startswith("on_"):
                    seen.add(name)
                    yield name


def _value(argument: str, value: Any) -> Any:
    """`value` as a parameter, a function by its name; None if it cannot be one."""
    if argument == "min_delta" and isinstance(value, (int, float)):
        return abs(value)  # Keras flips its sign once it knows the metric's direction
    if isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(one, (bool, int, float, str)) for one in value):
        return list(value)
    if isinstance(value, Mapping) or value is None:
        return None
    name = getattr(value, "__name__", None) if callable(value) else None
    return "lambda" if name == "<lambda>" else name
