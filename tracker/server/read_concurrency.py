"""Concurrency of reads: how many at once, shared fairly between clients, with a limit on the wait."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tracker.server.fair_lock import FairLock
from tracker.server.problem_details import CLIENT, Refused

PATIENCE_S = 40.0
"""Seconds that a read waits for a slot; then the client gets 503 with Retry-After."""
_RETRY = {"Retry-After": "5"}


class ReadSlots:
    """`places` slots for reads, at most `each` of them for one client (its token, else its address).

    Waiting clients are served in turn, one read each, however many each has waiting. For one event loop.
    """

    def __init__(self, places: int, each: int, *, patience_s: float = PATIENCE_S) -> None:
        self._free = places
        self._each = each
        self._patience_s = patience_s
        self._taken: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Context manager of a slot for the current request's client. Refused (503) if none becomes free in time."""
        client = await self.enter()
        try:
            yield
        finally:
            self.leave(client)

    async def enter(self) -> str:
        """Take a slot and return its client, for `leave`. Refused (503) if none becomes free in time."""
        client = CLIENT.get()
        if self._free and self._taken[client] < self._each and client not in self._waiting:
            self._take(client)
        else:
            await self._wait(client)
        return client

    def leave(self, client: str) -> None:
        """Release a slot."""
        self._free += 1
        self._taken[client] -= 1
        if not self._taken[client]:
            del self._taken[client]
        self._admit()

    def _take(self, client: str) -> None:
        self._free -= 1
        self._taken[client] += 1

    async def _wait(self, client: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        try:
            async with asyncio.timeout(self._patience_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.leave(client)  # its turn came as it stopped to wait
            else:
                self._forget(client, turn)
            if isinstance(error, TimeoutError):
                raise Refused(
                    503,
                    f"reads of this kind have been waiting for their turn for {self._patience_s:g} s: "
                    f"one client has at most {self._each} at once; ask again later",
                    headers=_RETRY,
                ) from None
            raise

    def _forget(self, client: str, turn: asyncio.Future[None]) -> None:
        queue = self._waiting.get(client)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._waiting[client]

    def _admit(self) -> None:
        """Give free slots to waiting clients, first to the one that was served the longest ago."""
        for client in list(self._waiting):
            if not self._free:
                return
            if self._taken[client] >= self._each:
                continue
            queue = self._waiting[client]
            turn = queue.popleft()
            if queue:
                self._waiting.move_to_end(client)
            else:
                del self._waiting[client]
            self._take(client)
            turn.set_result(None)


class ReadConcurrency:
    """How many reads of each kind a server does at once.

    Most are `short`. `long` ones read very many rows, and keep their slot until the client has the response; they never
    delay short ones. `genuine` is for requests that MLflow's own application answers. Threads of streamed long reads
    take `fair_lock`.
    """

    def __init__(self) -> None:
        self.short = ReadSlots(8, 6)
        self.long = ReadSlots(4, 3)
        self.genuine = ReadSlots(16, 8)
        self.fair_lock = FairLock()
