"""Bodies of requests: bounded in size, in time, and all together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from tracker.server.problems import Refused

GRACE_S = 30.0
SLOWEST = 64 * 1024
"""Bytes a second that a client must reach on the average after the grace."""


async def chunks(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes. Refused (408) if it comes too slowly, so that nobody holds a place for ever."""
    loop = asyncio.get_running_loop()
    deadline, received = loop.time() + GRACE_S, 0
    stream = request.stream().__aiter__()
    while True:
        try:
            async with asyncio.timeout_at(deadline + received / SLOWEST):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Refused(
                408,
                f"after {received} bytes the body stopped coming",
                limit=f"{SLOWEST} bytes a second",
                headers={"Connection": "close"},
            ) from None
        received += len(chunk)
        yield chunk


class Intake:
    """Whole bodies in memory: each no larger than `largest`, all that are held at once no more than `together`."""

    def __init__(self, largest: int = 64 * 1024 * 1024, together: int = 128 * 1024 * 1024) -> None:
        self.largest = largest
        self._together = together
        self._held = 0

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """The request's body, which counts as held until the context ends. Refused: 408, 413 or 503."""
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self.largest:
            raise self._too_large(int(announced))
        parts: list[bytes] = []
        held = 0
        try:
            async for chunk in chunks(request):
                held += len(chunk)
                self._held += len(chunk)
                if held > self.largest:
                    raise self._too_large(held)
                if self._held > self._together:
                    raise Refused(503, f"{self._held} bytes of bodies wait already", headers={"Retry-After": "1"})
                parts.append(chunk)
            yield b"".join(parts)
        finally:
            self._held -= held

    def _too_large(self, size: int) -> Refused:
        return Refused(413, f"a body of {size} bytes", field="body", limit=f"{self.largest} bytes")
