"""Reads hyperparameters from a compiled model: optimizer, loss, metrics, model, backend."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from tracker_keras.recording.guard import Guard
from tracker_keras.recording.optimizers import named_optimizers, unwrapped


def hyperparameters(model: Any, guard: Guard) -> dict[str, Any]:
    """Flat parameters of a compiled model, without settings that are None, since those were not set.

    An object with settings is recorded as its class, with its settings below its key: `optimizer` = "Adam",
    `optimizer.beta_1`. Parts that cannot be read (a custom class that raises) are reported to `guard` and left out.
    """
    parts: dict[str, Callable[[Any], Mapping[str, Any]]] = {
        "optimizer": _optimizer,
        "optimizer's settings": _optimizer_settings,
        "loss": _loss,
        "metrics": _metrics,
        "training": _training,
        "model": _model,
        "backend": _backend,
    }
    found: dict[str, Any] = {}
    for name, read in parts.items():
        with guard(f"reading the hyperparameters of the {name}"):
            found.update(read(model))
    return {key: value for key, value in found.items() if value is not None}


def parameter_counts(model: Any) -> dict[str, int]:
    """Numbers of total, trainable and other parameters of a built model, as in its summary."""
    total, trainable = _size(model.weights), _size(model.trainable_weights)
    return {"model.params": total, "model.trainable_params": trainable, "model.non_trainable_params": total - trainable}


def summary_text(model: Any) -> str:
    """The text that `model.summary()` prints for a built model."""
    lines: list[str] = []
    model.summary(print_fn=lines.append)
    return "\n".join(lines)


def _optimizer(model: Any) -> dict[str, Any]:
    outer: Any = getattr(model, "optimizer", None)
    optimizer = unwrapped(outer)
    if optimizer is None:
        return {}
    found: dict[str, Any] = {"optimizer": type(optimizer).__name__}
    if outer is not optimizer:
        found["loss_scale"] = type(outer).__name__
        found["loss_scale.initial_scale"] = outer.initial_scale
        found["loss_scale.dynamic_growth_steps"] = outer.dynamic_growth_steps
    if hasattr(optimizer, "optimizers"):
        found.update({f"optimizer.{one.name}": type(one).__name__ for one in optimizer.optimizers})
    return found


def _optimizer_settings(model: Any) -> dict[str, Any]:
    optimizers = list(named_optimizers(model).values())
    if len(optimizers) == 1 and optimizers[0] is unwrapped(model.optimizer):
        return _settings_of("optimizer", optimizers[0])
    found: dict[str, Any] = {}
    for one in optimizers:
        found.update(_settings_of(f"optimizer.{one.name}", one))
    return found


def _loss(model: Any) -> dict[str, Any]:
    loss = getattr(model, "loss", None)
    if isinstance(loss, Mapping):
        found: dict[str, Any] = {f"loss.{output}": _name(one) for output, one in loss.items()}
    elif isinstance(loss, (list, tuple)):
        found = {"loss": [_name(one) for one in loss]}
    else:
        found = {"loss": _name(loss)}
        if isinstance(loss, keras.losses.Loss):
            found.update(_settings_of("loss", loss))
    return {**found, **_weights(compiled_with(model).get("loss_weights"))}


def _weights(weights: Any) -> dict[str, Any]:
    if isinstance(weights, Mapping):
        return {f"loss_weights.{output}": weight for output, weight in weights.items()}
    return {"loss_weights": weights}


def _metrics(model: Any) -> dict[str, Any]:
    given = compiled_with(model)
    return {key: _names(given.get(key)) for key in ("metrics", "weighted_metrics")}


def _training(model: Any) -> dict[str, Any]:
    return {
        "steps_per_execution": getattr(model, "steps_per_execution", None),
        "jit_compile": getattr(model, "jit_compile", None),
        "run_eagerly": getattr(model, "run_eagerly", None),
        "dtype_policy": model.dtype_policy.name,
    }


def _model(model: Any) -> dict[str, Any]:
    return {"model.class": type(model).__name__, "model.name": model.name}


def _backend(_: Any) -> dict[str, Any]:
    backend = keras.backend.backend()
    library = sys.modules.get(backend)  # Keras has imported it; no import here, to stay independent of backends
    return {
        "backend": backend,
        "backend_version": getattr(library, "__version__", None),
        "keras_version": keras.version(),
    }


def compiled_with(model: Any) -> Mapping[str, Any]:
    """The original arguments of `compile()`; `get_compile_config()` would serialise the user's objects."""
    config = getattr(getattr(model, "_compile_config", None), "config", None)
    return config if isinstance(config, Mapping) else {}


def _settings_of(key: str, thing: Any) -> dict[str, Any]:
    return _settings(key, type(thing).__name__, thing.get_config())


def _settings(key: str, kind: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a `kind` (a class) as flat settings below `key`.

    Serialised objects in it become class and settings in turn. A name that Keras generated from the class is left out:
    it ends in a count of such objects in the process, so equal settings would differ.
    """
    flat: dict[str, Any] = {}
    for name, value in config.items():
        below = f"{key}.{name}"
        if name == "name" and _is_made_of(value, kind):
            continue
        if name == "learning_rate" and isinstance(value, float):
            flat[below] = _as_given(value)
        elif isinstance(value, Mapping) and "class_name" in value and "config" in value:
            flat.update(_serialized(below, value["class_name"], value["config"]))
        elif isinstance(value, Mapping):
            flat.update(_settings(below, "", value))
        else:
            flat[below] = value
    return flat


def _serialized(key: str, kind: str, config: Any) -> dict[str, Any]:
    """Settings of an object or function in Keras' serialised form; a lambda has no name."""
    if kind == "__lambda__":
        return {key: "lambda"}
    if isinstance(config, Mapping):
        return {key: kind, **_settings(key, kind, config)}
    return {key: config}


def _is_made_of(name: Any, kind: str) -> bool:
    return re.sub(r"_\d+$", "", str(name)).replace("_", "").lower() == kind.lower()


def _as_given(value: float) -> float:
    """`value`, rounded to float32 by a variable, as its shortest decimal, so that 0.01 is 0.01 again."""
    single = np.float32(value)
    return float(str(single)) if float(single) == value else value


def _names(given: Any) -> Any:
    """`given` (one, a list, or a mapping by output) with each object replaced by its name."""
    if isinstance(given, Mapping):
        return {str(output): _names(one) for output, one in given.items()}
    if isinstance(given, (list, tuple)):
        return [_names(one) for one in given]
    return _name(given)


def _name(thing: Any) -> str | None:
    """The name of a loss or metric: a string as it is, a metric's or function's name, else the object's class."""
    if thing is None or isinstance(thing, str):
        return thing
    if isinstance(thing, keras.metrics.Metric):
        return str(thing.name)
    name = getattr(thing, "__name__", None)
    return name if isinstance(name, str) else type(thing).__name__


def _size(weights: Any) -> int:
    return sum(math.prod(int(side) for side in weight.shape) for weight in weights)
