"""Group commit: one thread applies all waiting batches in one transaction, and answers each after the commit."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from tracker.domain.errors import StoreUnavailable, TrackerError
from tracker.domain.frames import Ack, Batch

log = logging.getLogger("tracker.server")

AppendMany = Callable[[Sequence[Batch]], Sequence[Ack | Exception]]
"""Applies batches in one transaction, each alone; StoreUnavailable if it applied none."""


_SETTLE_ROWS = 30_000
_SETTLE_S = 0.5
"""Rows and seconds after which `settle` is called though there is more to commit."""
_PAUSE_S = 0.02
"""Seconds without a batch after which it is called sooner."""


class Busy(StoreUnavailable):
    """The queue is full: the client shall send this batch again a little later."""


_Waiting = tuple[Batch, "asyncio.Future[Ack] | Future[Ack]", asyncio.AbstractEventLoop | None]
"""A waiting batch, the future of its result, and that future's event loop; None for a plain thread."""


class GroupCommit:
    """The one way into the store for all requests of this process. Use it as a context manager.

    The longer a commit takes, the more batches the next one has; no batch waits for others to join it. A group has at
    most `most_batches` (PostgreSQL keeps track of 64 savepoints cheaply) of `most_rows` points and other frames
    together. `settle` is called when the queue is empty, and from time to time while it never is.
    """

    def __init__(
        self,
        append_many: AppendMany,
        *,
        settle: Callable[[], object] = lambda: None,
        most_waiting: int = 1024,
        most_batches: int = 64,
        most_rows: int = 200_000,
    ) -> None:
        self._append_many = append_many
        self._settle = settle
        self._most_waiting = most_waiting
        self._most_batches = most_batches
        self._most_rows = most_rows
        # The thread takes `_idle` when the queue is empty; whoever adds a batch releases it.
        self._waiting: deque[_Waiting] = deque()
        self._idle = threading.Lock()
        self._idle.acquire()
        self._entry = threading.Lock()
        self._closed = False
        self._unsettled_since: float | None = None
        self._unsettled_rows = 0
        self._thread = threading.Thread(target=self._run, name="tracker-writer", daemon=True)

    def __enter__(self) -> GroupCommit:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def waiting(self) -> int:
        """How many batches are in the queue."""
        return len(self._waiting)

    async def append(self, batch: Batch) -> Ack:
        """RunStore.append through the next group; Busy if the queue is full. For the event loop."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Ack] = loop.create_future()
        self._enter(batch, future, loop)
        return await future

    def submit(self, batch: Batch) -> Future[Ack]:
        """The same for plain threads: a future of the result. Busy if the queue is full."""
        future: Future[Ack] = Future()
        self._enter(batch, future, None)
        return future

    def close(self) -> None:
        """Accept no more, commit what was accepted, and end the thread."""
        with self._entry:
            self._closed = True
            self._wake()
        self._thread.join()

    def _enter(
        self, batch: Batch, future: asyncio.Future[Ack] | Future[Ack], loop: asyncio.AbstractEventLoop | None
    ) -> None:
        with self._entry:
            if self._closed:
                raise StoreUnavailable("the server is shutting down")
            if len(self._waiting) >= self._most_waiting:
                raise Busy(f"{self._most_waiting} batches wait already for their turn")
            self._waiting.append((batch, future, loop))
            self._wake()

    def _wake(self) -> None:
        if self._idle.locked():
            self._idle.release()

    def _run(self) -> None:
        while group := self._next_group():
            _answer_all(group, self._apply([batch for batch, _, _ in group]))
            if self._unsettled_since is None:
                self._unsettled_since = time.monotonic()
            self._unsettled_rows += sum(_weight(batch) for batch, _, _ in group)
            if self._unsettled_rows >= _SETTLE_ROWS or time.monotonic() - self._unsettled_since >= _SETTLE_S:
                self._settle_now()
        self._settle_now()

    def _settle_now(self) -> None:
        self._unsettled_since, self._unsettled_rows = None, 0
        try:
            self._settle()
        except StoreUnavailable as error:
            log.warning("points stay packed for now: %s", error)
        except Exception:
            log.exception("points stay packed")

    def _next_group(self) -> list[_Waiting]:
        """The batches to commit next; empty once the writer is closed and all are committed."""
        while not self._waiting:
            if self._closed:
                return []
            if not self._idle.acquire(timeout=-1 if self._unsettled_since is None else _PAUSE_S):
                self._settle_now()
        group = [self._waiting.popleft()]
        rows = _weight(group[0][0])
        while self._waiting and len(group) < self._most_batches:
            rows += _weight(self._waiting[0][0])
            if rows > self._most_rows:
                break
            group.append(self._waiting.popleft())
        return group

    def _apply(self, batches: Sequence[Batch]) -> Sequence[Ack | Exception]:
        try:
            return self._append_many(batches)
        except TrackerError as error:
            return [error] * len(batches)
        except Exception:
            log.exception("a group of %d batches failed", len(batches))
            return [TrackerError("the server failed; its log says how")] * len(batches)


def _weight(batch: Batch) -> int:
    return batch.points + len(batch.items)


def _answer_all(group: Sequence[_Waiting], results: Sequence[Ack | Exception]) -> None:
    by_loop: dict[
        asyncio.AbstractEventLoop | None, list[tuple[asyncio.Future[Ack] | Future[Ack], Ack | Exception]]
    ] = {}
    for (_, future, loop), result in zip(group, results, strict=True):
        by_loop.setdefault(loop, []).append((future, result))
    for loop, pairs in by_loop.items():
        if loop is None:
            _answer(pairs)
            continue
        try:
            loop.call_soon_threadsafe(_answer, pairs)
        except RuntimeError:  # the loop is closed: nobody waits for these answers any more
            log.warning("%d batches were committed after their clients were cut off", len(pairs))


def _answer(pairs: Sequence[tuple[asyncio.Future[Ack] | Future[Ack], Ack | Exception]]) -> None:
    for future, result in pairs:
        if future.done():  # its client went away
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
