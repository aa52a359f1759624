"""Reads from Keras which direction of a metric is better, and which metric is monitored."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras

from tracker.domain.goals import Goal

_GOALS: dict[str, Goal] = {"up": "max", "down": "min", "max": "max", "min": "min"}


def metric_goals(model: Any, keys: Iterable[str]) -> dict[str, Goal]:
    """The goals of the log keys whose metric declares its direction; the `val_` metrics share it.

    Keras uses the same direction for `mode="auto"`. With several outputs a key is `<output>_<metric>`, and a second
    metric of the same name has a number.
    """
    directions: dict[str, Goal] = {metric.name: goal for metric in _flat(model.metrics) if (goal := _direction(metric))}
    for name in ("loss", *_losses(model)):
        directions[name] = "min"
    goals: dict[str, Goal] = {}
    for key in keys:
        name = re.sub(r"_\d+$", "", bare) if (bare := key.removeprefix("val_")) not in directions else bare
        named = [known for known in directions if name == known or (known != "loss" and name.endswith(f"_{known}"))]
        if named:
            goals[key] = directions[max(named, key=len)]
    return goals


def _losses(model: Any) -> Iterator[str]:
    """The names of the losses of single outputs, which declare no direction."""
    for metric in getattr(getattr(model, "_compile_loss", None), "metrics", None) or ():
        yield str(metric.name)


def batch_twins(goals: Mapping[str, Goal]) -> dict[str, Goal]:
    """The goals of the batch logs' keys."""
    return {f"batch/{key}": goal for key, goal in goals.items() if not key.startswith("val_")}


def monitored(callbacks: Iterable[Any], keys: Iterable[str]) -> tuple[str, Goal | None] | None:
    """The key that EarlyStopping, else a best-only ModelCheckpoint, monitors, and its goal if `mode` declares it.

    A key that is not among the logs' `keys` is skipped: Keras only warns about it.
    """
    there = set(keys)
    for callback in sorted(_watchers(callbacks), key=lambda one: not isinstance(one, keras.callbacks.EarlyStopping)):
        if callback.monitor in there:
            return callback.monitor, _GOALS.get(callback.mode)
    return None


def _watchers(callbacks: Iterable[Any]) -> Iterator[Any]:
    for callback in callbacks:
        judges = isinstance(callback, keras.callbacks.ModelCheckpoint) and (
            callback.save_best_only or getattr(callback, "keep_best", None)
        )
        if judges or isinstance(callback, keras.callbacks.EarlyStopping):
            yield callback


def _flat(metrics: Iterable[Any]) -> Iterator[Any]:
    """The single metrics; `compile()` puts them into containers, which are metrics too."""
    for metric in metrics:
        inner = getattr(metric, "metrics", None)
        if isinstance(inner, (list, tuple)):
            yield from _flat(inner)
        elif metric is not None:
            yield metric


def _direction(metric: Any) -> Goal | None:
    direction = getattr(metric, "_direction", None)
    return _GOALS.get(direction) if isinstance(direction, str) else None
