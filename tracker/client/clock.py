"""The clock of recorded times: set from the system clock when a run is opened, and non-decreasing from then on.

Durations are differences of recorded times, so a correction of the system clock must not change them.
"""

from __future__ import annotations

import time

_BOOT: int | None = getattr(time, "CLOCK_BOOTTIME", None)
"""A clock that counts while the machine sleeps. Without one, recorded times fall behind by the time of the sleep."""


def _ticks_ns() -> int:
    return time.monotonic_ns() if _BOOT is None else time.clock_gettime_ns(_BOOT)


class Clock:
    """Non-decreasing milliseconds since the Unix epoch.

    The hot path adds `offset_ns` to `time.monotonic_ns()`, which is faster than `now_ms()`.
    """

    def __init__(self) -> None:
        self._base_ns = 0
        self.offset_ns = 0
        self.set()

    def set(self, *, not_before_ms: int = 0) -> None:
        """Set the clock to the system's time, or to `not_before_ms` if that is later."""
        self._base_ns = max(time.time_ns(), not_before_ms * 1_000_000) - _ticks_ns()
        self.now_ms()

    def advance(self, not_before_ms: int) -> None:
        """Set the clock to `not_before_ms` if it is earlier."""
        if self.now_ms() < not_before_ms:
            self.set(not_before_ms=not_before_ms)

    def now_ms(self) -> int:
        """The time by this clock."""
        now_ns = self._base_ns + _ticks_ns()
        self.offset_ns = now_ns - time.monotonic_ns()
        return now_ns // 1_000_000


CLOCK = Clock()
now_ms = CLOCK.now_ms
