"""Work beside the training: done in order by one thread a run, and waited for before the run is said to have ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from queue import SimpleQueue

Work = Callable[[], None]


class Background:
    """Does what it is given, one thing after the other; its thread starts with the first.

    What raises is told to `report(kind, problem)`, and costs only itself. Not an executor of the standard library: the
    interpreter joins those without a limit, before any exit path of ours.
    """

    def __init__(self, report: Callable[[str, object], None]) -> None:
        self._report = report
        self._queue: SimpleQueue[tuple[Work, Future[None]]] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._last: Future[None] | None = None
        self._is_closed = False

    def do(self, work: Work) -> Future[None]:
        """Do `work` after what was given before it; the future is done when it is, or cancelled if it is too late."""
        done: Future[None] = Future()
        with self._lock:
            if self._is_closed:
                done.cancel()
                return done
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tracker-background", daemon=True)
                self._thread.start()
            self._queue.put((work, done))
            self._last = done
        return done

    def wait(self, timeout: float) -> bool:
        """Wait until all that was given by now is done, `timeout` seconds at most; True if it is."""
        last = self._last
        if last is None or last.done() or threading.current_thread() is self._thread:
            return True
        try:
            last.result(timeout)
        except TimeoutError:
            return False
        except CancelledError:
            pass
        return True

    def close(self, timeout: float) -> float:
        """Wait as `wait` does, take nothing more, and return the seconds that are left of `timeout`."""
        began = time.monotonic()
        if not self.wait(timeout):
            self._report("background", f"what was to be done beside the training was not done within {timeout:.0f} s")
        self._is_closed = True
        return max(timeout - (time.monotonic() - began), 0.0)

    def disown(self) -> None:
        """In a forked child, which has no thread: take nothing."""
        self._lock, self._is_closed, self._last = threading.Lock(), True, None

    def _run(self) -> None:
        while True:
            work, done = self._queue.get()
            try:
                work()
            except Exception as error:
                self._report(type(error).__name__, f"work beside the training failed: {error!r}")
            finally:
                done.set_result(None)
            del work, done  # not to be held until the next one comes
