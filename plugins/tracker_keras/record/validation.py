"""When a `fit()` holds validation, which it tells no callback."""

from __future__ import annotations

import sys
from collections.abc import Collection
from types import FrameType
from typing import Literal

# fit() calls CallbackList, which calls callbacks; wrappers of any of them may stand between.
_DEPTH = 24


def validation_of(epoch: int) -> Literal["held", "later", "never", "unknown"]:
    """Whether the `fit()` that calls held validation in Keras' `epoch`, does so in a later one, or never will.

    `epoch` counts from 0. Unknown in a loop of the user's own.
    """
    frame: FrameType | None = sys._getframe(1)
    for _ in range(_DEPTH):
        if frame is None:
            break
        if frame.f_code.co_name == "fit":
            given = frame.f_locals
            if {"validation_data", "validation_freq", "epochs"} <= given.keys():
                return _validation(epoch, given["validation_data"], given["validation_freq"], given["epochs"])
        frame = frame.f_back
    return "unknown"


def _validation(
    epoch: int, data: object, frequency: int | Collection[int], epochs: int
) -> Literal["held", "later", "never"]:
    """`validation_freq` counts epochs from 1: every so many, or those that it lists."""
    if data is None:
        return "never"

    def is_due(number: int) -> bool:
        return (number + 1) % frequency == 0 if isinstance(frequency, int) else number + 1 in frequency

    if is_due(epoch):
        return "held"
    return "later" if any(is_due(one) for one in range(epoch + 1, epochs)) else "never"
