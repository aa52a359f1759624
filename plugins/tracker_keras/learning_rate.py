"""Keras' LearningRateScheduler, for schedules that return any kind of number."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tracker_keras.recording.optimizers import unwrapped


class LearningRateScheduler(keras.callbacks.LearningRateScheduler):  # type: ignore[misc]  # Keras has no types
    """`keras.callbacks.LearningRateScheduler`, with its arguments; its decisions are recorded in the same way.

    `schedule(epoch, rate)`, or `schedule(epoch)`, may return any number: an int, a NumPy number, a tensor of one
    element (Keras' own accepts only floats). Exceptions of the schedule propagate: Keras' own takes any TypeError as a
    sign that the function takes only the epoch, and calls it again. Raises ValueError if the result is not a number.
    """

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Set the rate of each optimizer from the schedule."""
        optimizer = unwrapped(self.model.optimizer)
        several = getattr(optimizer, "optimizers", None)
        for one in several or [optimizer]:
            rate = self._scheduled(epoch, float(ops.convert_to_numpy(one.learning_rate)))
            one.learning_rate = rate
            if self.verbose > 0:
                name = f"{one.name} " if several else ""
                line = f"\nEpoch {epoch + 1}: LearningRateScheduler setting {name}learning rate to {rate}."
                print(line, flush=True)  # to stdout, as Keras does

    def _scheduled(self, epoch: int, rate: float) -> float:
        given = (epoch, rate) if _takes(self.schedule, epoch, rate) or not _takes(self.schedule, epoch) else (epoch,)
        returned = self.schedule(*given)
        found = None if isinstance(returned, (bool, str)) or returned is None else _number(returned)
        if found is None:
            raise ValueError(
                f"the learning rate for epoch {epoch} is not a number: the schedule returned {returned!r}; "
                "it must return a float, an int, or a tensor of one element"
            )
        return found


def _takes(schedule: Callable[..., Any], *arguments: Any) -> bool:
    """Whether `schedule` accepts these arguments; assumed for functions without a signature (some C functions)."""
    try:
        inspect.signature(schedule).bind(*arguments)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def _number(value: Any) -> float | None:
    """`value` as a float; None if it is not one number."""
    try:
        array = np.asarray(ops.convert_to_numpy(value))
        return float(array.reshape(())) if array.size == 1 else None
    except (TypeError, ValueError):
        return None
