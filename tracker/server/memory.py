"""Returns freed memory to the system: glibc keeps memory that threads freed, for ever if a small block is above it."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from functools import cache

LOOK_S = 2.0
"""Seconds between calls of `FreedMemory.release`."""
_CALM_S, _WORK_S = 0.6, 0.2
"""CPU seconds between two calls: below the first the process is idle, from the second on it has worked at all."""


class FreedMemory:
    """Returns free memory once the process has worked and is idle again: under load that would only cost time."""

    def __init__(self) -> None:
        self._last = self._trimmed = time.process_time()

    def release(self) -> None:
        """Return free memory if the process is idle again after work."""
        now = time.process_time()
        is_calm = now - self._last < _CALM_S
        self._last = now
        if is_calm and now - self._trimmed > _WORK_S:
            self._trimmed = now
            if (trim := _malloc_trim()) is not None:
                trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    """The C library's `malloc_trim`, None if it has none."""
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None
    return found
