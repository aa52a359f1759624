"""Freed memory goes back to the system: glibc keeps what threads freed, for ever if something small lies above it."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from functools import cache

LOOK_S = 2.0
"""How often `FreedMemory.look` is to be called."""
_CALM_S, _WORK_S = 0.6, 0.2
"""Processor time between two looks below which the process is calm, and from which on it has worked at all."""


class FreedMemory:
    """Gives back what is free once the process has worked and is calm again: under load that would only cost time."""

    def __init__(self) -> None:
        self._last = self._trimmed = time.process_time()

    def look(self) -> None:
        """Give back what is free, if now is the time."""
        now = time.process_time()
        is_calm = now - self._last < _CALM_S
        self._last = now
        if is_calm and now - self._trimmed > _WORK_S:
            self._trimmed = now
            if (trim := _malloc_trim()) is not None:
                trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    """The C library's function of that name, None where it has none."""
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None
    return found
