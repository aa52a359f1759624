"""How long the end of a run may take, and protection of it from Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_TIMEOUT_S = 30.0
"""Seconds that all open runs together may take to ship their data when the process ends."""
SIGNAL_TIMEOUT_S = 5.0
"""The same for a process that got SIGTERM or SIGHUP."""


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C while the end of a run is written."""
    before = None
    if threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)
