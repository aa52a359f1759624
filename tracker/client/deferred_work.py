"""Work that is not urgent and may take long, each on its own thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger("tracker")

LATER_S = 5.0
"""Seconds that such work may take when the process ends."""

_threads: list[threading.Thread] = []


def do_later(work: Callable[[], None]) -> None:
    """Do `work` on its own thread; when the process ends it has LATER_S seconds left, then it is abandoned."""

    def run() -> None:
        try:
            work()
        except Exception:
            log.exception("background work failed")

    thread = threading.Thread(target=run, name="tracker-later", daemon=True)
    thread.start()
    _threads[:] = [other for other in _threads if other.is_alive()] + [thread]


def wait() -> None:
    """Wait for all such work, LATER_S seconds at most."""
    deadline = time.monotonic() + LATER_S
    for thread in _threads:
        thread.join(max(deadline - time.monotonic(), 0.0))
