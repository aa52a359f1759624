"""A thread that repeats its work, with exponential backoff while it fails."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

BACKOFF_S = (0.5, 30.0)
"""The first and the longest pause between attempts while the work fails."""
_dice = random.Random()
"""Not the global generator: a training may have seeded it, and its results must not depend on the store."""


class RetryLoop:
    """Does `work` at once when woken, otherwise `interval` seconds after the last time (None: only when woken).

    `work` returns False if it failed temporarily. `changed` is notified after each attempt.
    """

    def __init__(
        self, name: str, work: Callable[[], bool], changed: threading.Condition, *, interval: float | None
    ) -> None:
        self._work = work
        self._changed = changed
        self._interval = interval
        # Not an Event: a signal handler may interrupt a wait and wait too, and only this queue's `put` is re-entrant.
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._asked = 0
        self._answered = 0
        self._failures = 0
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; a second call does nothing."""
        if self._thread.ident is None:
            self._thread.start()

    def wake(self) -> None:
        """Do the work now, even during a backoff."""
        self._wake.put(None)

    def ask(self) -> int:
        """Wake the loop; return a number for `has_answered` and `has_failed`."""
        self._asked += 1
        asked = self._asked
        self.wake()
        return asked

    def has_answered(self, asked: int) -> bool:
        """Whether an attempt that began after `ask` returned `asked` is over."""
        return self._answered >= asked

    def has_failed(self, asked: int) -> bool:
        """Whether the last such attempt failed."""
        return bool(self._failures) and self.has_answered(asked)

    def stop(self) -> None:
        """Stop after the current attempt."""
        self._stopped = True
        self.wake()

    def join(self, timeout: float) -> None:
        """Wait until the thread has stopped, `timeout` seconds at most."""
        if self._thread.ident is not None:
            self._thread.join(timeout)

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopped:
            asked = self._asked
            failures = 0 if self._work() else self._failures + 1
            with self._changed:
                self._answered, self._failures = asked, failures
                self._changed.notify_all()
            if not self._stopped:
                with suppress(Empty):
                    self._wake.get(timeout=self._pause())

    def _pause(self) -> float | None:
        if not self._failures:
            return self._interval
        first, longest = BACKOFF_S
        return min(first * 2.0 ** min(self._failures - 1, 10), longest) * _dice.uniform(0.7, 1.3)
