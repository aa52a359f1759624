"""Streamed responses that are too long for memory: each piece is made when the client has taken the one before."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass

import anyio
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from tracker.server.fair_lock import FairLock


@dataclass(frozen=True, slots=True)
class Pieces:
    """The bytes of a response in pieces, and the function that releases their resources."""

    pieces: Iterator[bytes]
    close: Callable[[], None] = lambda: None


class LongAnswer(StreamingResponse):
    """A response that sends pieces, each made in a thread when its turn comes.

    `done` is called once the client has all of them, or has disconnected.
    """

    def __init__(
        self, made: Pieces, turns: FairLock, done: Callable[[], None], media_type: str, headers: Mapping[str, str]
    ) -> None:
        super().__init__(_in_turn(made.pieces, turns), 200, headers, media_type=media_type)
        self._made = made
        self._done = done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._made.close()
            self._done()


async def _in_turn(pieces: Iterator[bytes], turns: FairLock) -> AsyncIterator[bytes]:
    limiter = anyio.CapacityLimiter(1)

    def next_piece() -> bytes | None:
        with turns:
            return next(pieces, None)

    while (piece := await anyio.to_thread.run_sync(next_piece, limiter=limiter)) is not None:
        yield piece
