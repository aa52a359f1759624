"""Background work of a run: done in order by one thread, and finished before the run's end is recorded."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from queue import Empty, SimpleQueue

Work = Callable[[], None]
_Entry = tuple[Work, Future[None], float]
_NUDGE: _Entry = (lambda: None, Future(), 0.0)
"""Queue entry that ends a pause."""


class Background:
    """Does work items one after the other; its thread starts with the first item, and ends after `close`.

    Exceptions are passed to `report(kind, problem)` and end only their item. This is not an executor of the standard
    library, because the interpreter joins those without a limit before it runs our exit handlers.
    """

    def __init__(self, report: Callable[[str, object], None], *, name: str = "tracker-background") -> None:
        self._report = report
        self._name = name
        self._queue: SimpleQueue[_Entry | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._last: Future[None] | None = None
        self._is_closed = False
        self._done = 0

    def do(self, work: Work, *, pause: float = 0.0) -> Future[None]:
        """Do `work` after all earlier items; the future is done when it is, or cancelled after `close`.

        It may start `pause` seconds later, so that it can handle more at once; sooner if a thread waits for it, or
        another item is added meanwhile.
        """
        done: Future[None] = Future()
        with self._lock:
            if self._is_closed:
                done.cancel()
                return done
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._queue.put((work, done, pause))
            self._last = done
        return done

    def wait(self, timeout: float) -> bool:
        """Wait until all items added so far are done, `timeout` seconds at most; True if they are."""
        last = self._last
        if last is None or last.done() or threading.current_thread() is self._thread:
            return True
        self._queue.put(_NUDGE)
        try:
            last.result(timeout)
        except TimeoutError:
            return False
        except CancelledError:
            pass
        return True

    def close(self, timeout: float, *, patient: bool = False) -> float:
        """Wait as `wait` does, accept no more items, and return the seconds that are left of `timeout`.

        With `patient` the timeout restarts whenever an item is done, since items that are not done are lost.
        """
        began, seen = time.monotonic(), self._done
        while not (is_done := self.wait(timeout)) and patient and self._done > seen:
            began, seen = time.monotonic(), self._done
        if not is_done:
            what = self._name.removeprefix("tracker-")
            self._report(what, f"background work of {what} was not done within {timeout:.0f} s")
        self._is_closed = True
        self._queue.put(None)  # without the lock: a signal handler may end the run while its thread holds it
        return max(timeout - (time.monotonic() - began), 0.0)

    def disown(self) -> None:
        """In a forked child, which has no thread: accept nothing."""
        self._lock, self._is_closed, self._last = threading.Lock(), True, None

    def _run(self) -> None:
        is_closing = False
        taken: deque[_Entry | None] = deque()
        while taken or not (is_closing and self._queue.empty()):
            entry = taken.popleft() if taken else self._queue.get()
            if entry is None:
                with self._lock:  # a `do` that passed its check has put its item by now
                    is_closing = True
                continue
            work, done, pause = entry
            if pause and not taken and not is_closing:
                with contextlib.suppress(Empty):
                    taken.append(self._queue.get(timeout=pause))
            try:
                work()
            except Exception as error:
                self._report(type(error).__name__, f"background work failed: {error!r}")
            finally:
                self._done += 1
                if not done.done():
                    done.set_result(None)
            del work, done, entry  # no references while waiting for the next item
