"""Threads that ship a live journal, one its frames and one its files. They sync it to disk and retry after outages."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from tracker.client.deferred_work import do_later
from tracker.client.delivery import Delivery
from tracker.client.journal import Journal
from tracker.client.retry_loop import RetryLoop
from tracker.domain.errors import RequestTooLarge, StoreError
from tracker.domain.vocabulary import HEARTBEAT_MS

log = logging.getLogger("tracker")

INTERVAL_S = 1.0
"""Seconds between reads of the journal."""
SYNC_S = 1.0
"""Seconds between syncs to disk while the journal grows."""


class Shipper:
    """Owns the journal's delivery until everything is stored, or the process ends.

    `before_start` is called first, and repeated while it raises StoreError. `after_start` is called on its own thread
    after the first successful batch: for work that is not urgent and may take long.
    """

    def __init__(
        self,
        journal: Journal,
        delivery: Delivery,
        *,
        before_start: Callable[[], None] | None = None,
        after_start: Callable[[], None] | None = None,
    ) -> None:
        self._journal = journal
        self._delivery = delivery
        self._before_start = before_start
        self._after_start = after_start
        self._changed = threading.Condition()
        self._frames = RetryLoop("tracker-shipper", self._ship, self._changed, interval=INTERVAL_S)
        # Files take long and fail independently: their thread starts with the first file.
        self._files = RetryLoop("tracker-uploads", self._upload, self._changed, interval=None)
        self._closing = False
        self._synced_number = -1
        self._synced_at = 0.0
        self._sent_at = time.monotonic()
        self._is_away = False
        self._files_seen = 0
        self._asked_for_files = False
        self.last_error: Exception | None = None
        delivery.on_stored(self._frames.wake)

    def start(self) -> None:
        """Start the thread for frames."""
        self._frames.start()

    def drain(self, timeout: float, *, closing: bool = False, give_up_when_away: bool = False) -> bool:
        """Ship now and wait until everything written so far is stored, `timeout` seconds at most; True if it is.

        With `give_up_when_away` the wait ends after a failed attempt at everything left: then the store or the artifact
        home is away. With `closing` the threads end as soon as everything is stored, now or later, and the journal is
        removed.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            self._closing = self._closing or closing
            number = self._journal.last_number
        asked = self._frames.ask()

        def is_away() -> bool:
            return give_up_when_away and self._cannot_ship(asked)

        if not self._wait(lambda: self._delivery.settled >= number, is_away, deadline):
            return False
        # All files are known only now, so earlier attempts do not count.
        self._asked_for_files = True
        files = self._files.ask()

        def is_late() -> bool:
            return give_up_when_away and (self._files.has_failed(files) or self._cannot_ship(asked))

        if not self._wait(lambda: self._delivery.is_done(number), is_late, deadline):
            return False
        if closing:
            self._frames.join(max(deadline - time.monotonic(), 0.0))
        return True

    def _wait(self, is_done: Callable[[], bool], gives_up: Callable[[], bool], deadline: float) -> bool:
        with self._changed:
            while not is_done():
                remaining = deadline - time.monotonic()
                if gives_up() or remaining <= 0 or not self._frames.is_alive:
                    return False
                self._changed.wait(min(remaining, 1.0))
        return True

    def _cannot_ship(self, asked: int) -> bool:
        """Whether an attempt since `asked` failed, or found frames in memory that the disk does not take."""
        return self._frames.has_failed(asked) or (self._frames.has_answered(asked) and bool(self._journal.pending))

    # -- frames --------------------------------------------------------------------------------------------------

    def _ship(self) -> bool:
        """Deliver all frames written so far; False if the store is away."""
        self._journal.retry_pending()
        self._sync_to_disk()
        try:
            if self._before_start is not None:
                self._before_start()
                self._before_start = None
            sent = False
            while self._delivery.deliver_frames():
                sent = True
                self._delivered()
                self._sync_to_disk()
            if not sent and (time.monotonic() - self._sent_at) * 1000 >= HEARTBEAT_MS:
                self._delivery.renew()
                self._delivered()
        except StoreError as error:
            self._is_away = True
            self._note(error, "the store does not take what run journal %s holds (kept, will retry): %s",
                       self._journal.path.name, error)  # fmt: skip
            if isinstance(error, RequestTooLarge):
                self._renew()
            return False
        except Exception as error:  # a bug in Tracker: the journal keeps everything, training goes on
            self._is_away = True
            self._note(error, "shipping %s failed (kept, will retry)", self._journal.path.name, traceback=True)
            return False
        if self._closing and self._delivery.is_done(self._journal.last_number):
            self._finish()
        return True

    def _renew(self) -> None:
        """Renew the lease though frames wait, since a small request is accepted."""
        if (time.monotonic() - self._sent_at) * 1000 >= HEARTBEAT_MS:
            with suppress(StoreError):
                self._delivery.renew()
                self._sent_at = time.monotonic()

    def _delivered(self) -> None:
        if self._is_away:
            log.info("the store is back; shipping %s", self._journal.path.name)
        self._is_away, self.last_error, self._sent_at = False, None, time.monotonic()
        if self._delivery.files_seen != self._files_seen:
            self._files_seen = self._delivery.files_seen
            self._files.start()
            self._files.wake()
        with self._changed:
            self._changed.notify_all()
        after_start, self._after_start = self._after_start, None
        if after_start is not None:
            do_later(after_start)

    def _finish(self) -> None:
        self._files.stop()
        self._frames.stop()
        try:
            self._delivery.finish()
        except OSError as error:
            log.warning("everything of %s is stored, but it cannot be removed: %s", self._journal.path, error)

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

    def _note(self, error: Exception, message: str, *args: object, traceback: bool = False) -> None:
        """Log an error unless it is the same as the last one."""
        if str(error) != str(self.last_error):
            log.warning(message, *args, exc_info=error if traceback else None)
        self.last_error = error

    # -- files ---------------------------------------------------------------------------------------------------

    def _upload(self) -> bool:
        """Store the files that wait; False if some could not be stored."""
        asked, self._asked_for_files = self._asked_for_files, False
        try:
            self._delivery.upload_all(at_once=asked)
        except StoreError as error:
            log.debug("files of %s wait: %s", self._journal.path.name, error)
        if self._closing:
            self._frames.wake()
        return not self._delivery.late
