"""The thread that ships a live journal: syncs it to disk, delivers it, renews the lease, and waits out outages."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from tracker.client.delivery import Delivery
from tracker.client.journal import Journal
from tracker.domain.errors import StoreError
from tracker.domain.records import HEARTBEAT_MS

log = logging.getLogger("tracker")

INTERVAL_S = 0.25
"""How often the journal is looked at."""
SYNC_S = 1.0
"""How often it is forced to disk while it grows."""
BACKOFF_S = (0.5, 30.0)
"""The first and the longest pause between attempts while the store is away."""


class Shipper:
    """Owns the journal's delivery until everything is stored, or the process ends.

    `after_start` runs once on the thread when the first batch went through: the place for work that may wait.
    """

    def __init__(self, journal: Journal, delivery: Delivery, *, after_start: Callable[[], None] | None = None) -> None:
        self._journal = journal
        self._delivery = delivery
        self._after_start = after_start
        self._wake = threading.Event()
        self._changed = threading.Condition()
        self._closing = False
        self._abandoned = False
        self._attempt_after_wake = 0
        self._asked = 0
        self._synced_number = -1
        self._synced_at = 0.0
        self._sent_at = time.monotonic()
        self._failures = 0
        self._failing_since_ask = False
        self.last_error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="tracker-shipper", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def drain(self, timeout: float, *, closing: bool = False, give_up_when_away: bool = False) -> bool:
        """Ship now and wait until all is stored, `timeout` seconds at most; True if it is.

        With `give_up_when_away` one failed attempt ends the wait: the store is known to be away. With `closing` the
        thread ends as soon as all is stored, now or later, and the journal is removed.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            self._closing = self._closing or closing
            self._asked += 1
            asked = self._asked
            self._failing_since_ask = False
        self._wake.set()
        with self._changed:
            while not (self._attempt_after_wake >= asked and self._delivery.complete and self._journal_is_whole()):
                if give_up_when_away and self._failing_since_ask and self._attempt_after_wake >= asked:
                    return False
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not self._thread.is_alive():
                    break
                self._changed.wait(min(remaining, 1.0))
            return self._delivery.complete and self._journal_is_whole()

    def abandon(self) -> None:
        """Stop without waiting and leave the journal as it is, for whoever syncs it later."""
        self._abandoned = True
        self._wake.set()

    def _journal_is_whole(self) -> bool:
        return self._journal.disk_error is None

    def _run(self) -> None:
        while not self._abandoned:
            asked = self._asked
            self._journal.retry_pending()
            self._sync_to_disk()
            failed = not self._ship()
            with self._changed:
                self._attempt_after_wake = asked
                self._failing_since_ask = failed
                self._changed.notify_all()
                if self._closing and self._delivery.complete and self._journal_is_whole():
                    break
            self._wake.wait(self._pause())
            self._wake.clear()
        self._end()

    def _pause(self) -> float:
        if not self._failures:
            return INTERVAL_S
        first, longest = BACKOFF_S
        return min(first * 2 ** (self._failures - 1), longest) * random.uniform(0.7, 1.3)

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
            while not self._abandoned and self._delivery.deliver():
                sent = True
                self._delivered()
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
            try:
                after_start()
            except Exception:
                log.exception("shipping journals of earlier processes failed; `tracker sync` tries again")

    def _note(self, error: Exception, message: str, *args: object, traceback: bool = False) -> None:
        """Say it once for as long as it stays the same."""
        if str(error) != str(self.last_error):
            log.warning(message, *args, exc_info=error if traceback else None)
        self.last_error = error

    def _end(self) -> None:
        if not self._abandoned and self._delivery.complete:
            self._journal.finish(keep=bool(self._delivery.refused or self._delivery.garbage))
        with self._changed:
            self._changed.notify_all()
