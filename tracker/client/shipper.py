"""The thread that ships a live journal: syncs it to disk, delivers it, renews the lease, and waits out outages."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from tracker.client import lifecycle
from tracker.client.delivery import Delivery
from tracker.client.journal import Journal
from tracker.domain.errors import StoreError
from tracker.domain.words import HEARTBEAT_MS

log = logging.getLogger("tracker")

INTERVAL_S = 1.0
"""How often the journal is looked at."""
SYNC_S = 1.0
"""How often it is forced to disk while it grows."""
BACKOFF_S = (0.5, 30.0)
"""The first and the longest pause between attempts while the store is away."""
_dice = random.Random()
"""Our own: a training may have seeded the global one, and its course must not depend on whether a store answers."""


class Shipper:
    """Owns the journal's delivery until everything is stored, or the process ends.

    `after_start` is done later, on a thread of its own, when the first batch went through: the place for what may wait
    and may take long.
    """

    def __init__(self, journal: Journal, delivery: Delivery, *, after_start: Callable[[], None] | None = None) -> None:
        self._journal = journal
        self._delivery = delivery
        self._after_start = after_start
        # Not an Event: a signal handler that drains may interrupt a drain, and only this queue's `put` is re-entrant.
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._changed = threading.Condition()
        self._closing = False
        self._asked = 0
        self._answered = 0
        self._failing = False
        self._synced_number = -1
        self._synced_at = 0.0
        self._sent_at = time.monotonic()
        self._failures = 0
        self.last_error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="tracker-shipper", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def drain(self, timeout: float, *, closing: bool = False, give_up_when_away: bool = False) -> bool:
        """Ship now and wait until all that is written by now is stored, `timeout` seconds at most; True if it is.

        With `give_up_when_away` one failed attempt ends the wait: the store is known to be away. With `closing` the
        thread ends as soon as all is stored, now or later, and the journal is removed.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            self._closing = self._closing or closing
            self._asked += 1
            asked = self._asked
            number = self._journal.last_number
        self._wake.put(None)
        with self._changed:
            while self._delivery.settled < number:
                remaining = deadline - time.monotonic()
                away = give_up_when_away and self._failing and self._answered >= asked
                if away or remaining <= 0 or not self._thread.is_alive():
                    return False
                self._changed.wait(min(remaining, 1.0))
        if closing:
            self._thread.join(max(deadline - time.monotonic(), 0.0))
        return True

    def _run(self) -> None:
        while True:
            asked = self._asked
            written = self._journal.retry_pending()
            self._sync_to_disk()
            shipped = self._ship()
            with self._changed:
                self._answered, self._failing = asked, not (shipped and written)
                self._changed.notify_all()
                if self._closing and self._delivery.settled >= self._journal.last_number:
                    break
            with suppress(Empty):
                self._wake.get(timeout=self._pause())
        try:
            self._delivery.finish()
        except OSError as error:
            log.warning("everything of %s is stored, but it cannot be removed: %s", self._journal.path, error)

    def _pause(self) -> float:
        if not self._failures:
            return INTERVAL_S
        first, longest = BACKOFF_S
        return min(first * 2.0 ** min(self._failures - 1, 10), longest) * _dice.uniform(0.7, 1.3)

    def _sync_to_disk(self) -> None:
        number, now = self._journal.last_number, time.monotonic()
        if number == self._synced_number or (now - self._synced_at < SYNC_S and not self._closing):
            return
        try:
            self._journal.sync()
        except OSError as error:
            self._note(error, "cannot force the journal %s to disk: %s", self._journal.path, error)
            return
        self._synced_number, self._synced_at = number, now

    def _ship(self) -> bool:
        """Deliver all there is; False if the store is away."""
        try:
            sent = False
            while self._delivery.deliver():
                sent = True
                self._delivered()
                self._sync_to_disk()
            if not sent and (time.monotonic() - self._sent_at) * 1000 >= HEARTBEAT_MS:
                self._delivery.renew()
                self._delivered()
        except StoreError as error:
            self._failures += 1
            self._note(error, "the store does not take what run journal %s holds (kept, will retry): %s",
                       self._journal.path.name, error)  # fmt: skip
            return False
        except Exception as error:  # a bug of ours: the journal keeps everything, training goes on
            self._failures += 1
            self._note(error, "shipping %s failed (kept, will retry)", self._journal.path.name, traceback=True)
            return False
        return True

    def _delivered(self) -> None:
        if self._failures:
            log.info("the store is back; shipping %s", self._journal.path.name)
        self._failures, self.last_error, self._sent_at = 0, None, time.monotonic()
        with self._changed:
            self._changed.notify_all()
        after_start, self._after_start = self._after_start, None
        if after_start is not None:
            lifecycle.do_later(after_start)

    def _note(self, error: Exception, message: str, *args: object, traceback: bool = False) -> None:
        """Say it once for as long as it stays the same."""
        if str(error) != str(self.last_error):
            log.warning(message, *args, exc_info=error if traceback else None)
        self.last_error = error
