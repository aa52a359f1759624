"""Reads a model's optimizers without their wrappers: names, learning rates, numbers of steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops


def unwrapped(optimizer: Any) -> Any:
    """The user's optimizer; with mixed precision Keras wraps it in a LossScaleOptimizer."""
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer


def named_optimizers(model: Any) -> dict[str, Any]:
    """The model's optimizers by the key of their rate: `learning_rate`, for a MultiOptimizer `learning_rate_<name>`.

    Empty for a model compiled without an optimizer. The keys are those that Keras' own callbacks write.
    """
    optimizer = unwrapped(getattr(model, "optimizer", None))
    if optimizer is None:
        return {}
    if hasattr(optimizer, "optimizers"):
        return {f"learning_rate_{one.name}": one for one in optimizer.optimizers}
    return {"learning_rate": optimizer}


def learning_rates(model: Any) -> dict[str, float]:
    """The current rates of all optimizers."""
    return {key: _as_float(one.learning_rate) for key, one in named_optimizers(model).items()}


def settable(model: Any) -> dict[str, Any]:
    """The optimizers whose rate can be assigned: those without a schedule or function."""
    optimizers = named_optimizers(model).items()
    return {key: one for key, one in optimizers if not callable(getattr(one, "_learning_rate", None))}


def settable_rates(model: Any) -> dict[str, float]:
    """The current rates of the settable optimizers."""
    return {key: _as_float(one.learning_rate) for key, one in settable(model).items()}


def set_rates(model: Any, rates: Mapping[str, float]) -> None:
    """Assign `rates`, by key, to the settable optimizers."""
    for key, one in settable(model).items():
        if key in rates:
            one.learning_rate = float(rates[key])


def scheduled_rates(model: Any) -> dict[str, float]:
    """The rates of the last step by a LearningRateSchedule; optimizers without a schedule are left out.

    `optimizer.learning_rate` is already the next step's, which differs where a staircase schedule drops.
    """
    rates = {}
    for key, one in named_optimizers(model).items():
        schedule = getattr(one, "_learning_rate", None)
        if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
            last = max(int(_as_float(one.iterations)) - 1, 0)
            rates[key] = _as_float(schedule(ops.convert_to_tensor(last, dtype=one.iterations.dtype)))
    return rates


def iterations(model: Any) -> int:
    """All steps of the model's optimizer so far; 0 without an optimizer."""
    optimizer = unwrapped(getattr(model, "optimizer", None))
    return 0 if optimizer is None else int(_as_float(optimizer.iterations))


def _as_float(value: Any) -> float:
    try:
        return float(value)  # three times as fast as the fallback, for variables of a distribution strategy
    except (TypeError, ValueError, NotImplementedError):
        return float(ops.convert_to_numpy(value))
