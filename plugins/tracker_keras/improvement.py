"""What is better, for callbacks that watch a metric: NaN never is."""

from __future__ import annotations

import math
from typing import Any


class NanIsNoBest:
    """Before a Keras callback that monitors: a value of NaN is no improvement, and any number is one over NaN."""

    def _is_improvement(self, monitor_value: Any, reference_value: Any) -> bool:
        if math.isnan(float(monitor_value)):
            return False
        if reference_value is None or math.isnan(float(reference_value)):
            return True
        return bool(super()._is_improvement(monitor_value, reference_value))  # type: ignore[misc]  # Keras'
