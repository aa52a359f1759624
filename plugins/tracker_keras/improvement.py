"""Comparison of a monitored metric's values in which NaN is never an improvement."""

from __future__ import annotations

import math
from typing import Any


class NanIsNoBest:
    """Mixin, before a Keras callback that monitors: NaN is never an improvement, and any number improves on NaN."""

    def _is_improvement(self, monitor_value: Any, reference_value: Any) -> bool:
        if math.isnan(float(monitor_value)):
            return False
        if reference_value is None or math.isnan(float(reference_value)):
            return True
        return bool(super()._is_improvement(monitor_value, reference_value))  # type: ignore[misc]  # Keras'
