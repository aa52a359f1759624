"""EarlyStopping as Keras has it, without being taken in by NaN."""

from __future__ import annotations

import math
from typing import Any

import keras


class EarlyStopping(keras.callbacks.EarlyStopping):  # type: ignore[misc]  # Keras has no types
    """`keras.callbacks.EarlyStopping`, with its arguments and attributes; what it decides is recorded in the same way.

    NaN is no best: Keras' own takes a first NaN for the best value, which nothing is better than ever after. Here an
    epoch with NaN is one without an improvement, and the first number after it is one.
    """

    def _is_improvement(self, monitor_value: Any, reference_value: Any) -> bool:
        if math.isnan(float(monitor_value)):
            return False
        if reference_value is None or math.isnan(float(reference_value)):
            return True
        return bool(super()._is_improvement(monitor_value, reference_value))
