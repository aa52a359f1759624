"""A fair lock for threads that keep the interpreter busy for long: one of them works at a time.

Python runs one thread at a time anyhow. A thread that reads row by row releases the interpreter lock at each row, and
gets it back only milliseconds later if another thread is busy: two long reads at once take far longer than one after
the other, and the event loop waits for each of them.
"""

from __future__ import annotations

import threading
from collections import deque


class FairLock:
    """A lock that threads get in the order in which they request it. Use it as a context manager."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._is_taken = False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._guard:
            if not self._is_taken:
                self._is_taken = True
                return
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        mine.acquire()

    def __exit__(self, *_: object) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._is_taken = False
