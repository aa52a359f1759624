"""Group commit: one thread applies whatever batches wait in one transaction, and answers each after the commit."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tracker.domain.errors import StoreUnavailable, TrackerError
from tracker.domain.frames import Ack, Batch

log = logging.getLogger("tracker.server")

AppendMany = Callable[[Sequence[Batch]], Sequence[Ack | Exception]]
"""Applies batches in one transaction, each alone; StoreUnavailable if it applied none."""


class Busy(StoreUnavailable):
    """As many batches wait as may: the client is to send this one again a little later."""


@dataclass(slots=True, eq=False)
class _Waiting:
    batch: Batch
    future: asyncio.Future[Ack]
    loop: asyncio.AbstractEventLoop
    weight: int = field(init=False)

    def __post_init__(self) -> None:
        self.weight = self.batch.points + len(self.batch.items)


class Writer:
    """The one way into the store for all requests of this process. Use it as a context manager.

    The longer a commit takes, the more batches the next one carries: nothing waits for company. A group has at most
    `most_batches` (PostgreSQL keeps track of 64 savepoints cheaply) of `most_rows` points and other frames together.
    """

    def __init__(
        self, append_many: AppendMany, *, most_waiting: int = 1024, most_batches: int = 64, most_rows: int = 200_000
    ) -> None:
        self._append_many = append_many
        self._most_waiting = most_waiting
        self._most_batches = most_batches
        self._most_rows = most_rows
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="tracker-writer", daemon=True)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def append(self, batch: Batch) -> Ack:
        """RunStore.append through the next group; Busy if the queue is full."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(batch, loop.create_future(), loop)
        with self._changed:
            if self._closed:
                raise StoreUnavailable("the server is shutting down")
            if len(self._waiting) >= self._most_waiting:
                raise Busy(f"{self._most_waiting} batches wait already for their turn")
            self._waiting.append(waiting)
            self._changed.notify()
        return await waiting.future

    def close(self) -> None:
        """Take no more, commit what was taken, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while group := self._next_group():
            _settle(group, self._apply([waiting.batch for waiting in group]))

    def _next_group(self) -> list[_Waiting]:
        """What to commit next; empty when all is done."""
        group: list[_Waiting] = []
        rows = 0
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            while self._waiting and len(group) < self._most_batches:
                rows += self._waiting[0].weight
                if group and rows > self._most_rows:
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


def _settle(group: Sequence[_Waiting], results: Sequence[Ack | Exception]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Ack], Ack | Exception]]] = {}
    for waiting, result in zip(group, results, strict=True):
        by_loop.setdefault(waiting.loop, []).append((waiting.future, result))
    for loop, pairs in by_loop.items():
        try:
            loop.call_soon_threadsafe(_answer, pairs)
        except RuntimeError:  # the loop is closed: nobody waits for these answers any more
            log.warning("%d batches were committed after their clients were cut off", len(pairs))


def _answer(pairs: Sequence[tuple[asyncio.Future[Ack], Ack | Exception]]) -> None:
    for future, result in pairs:
        if future.done():  # its client went away
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
