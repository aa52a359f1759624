"""Request bodies, with limits on size, time and their total."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from importlib.util import find_spec

from starlette.requests import Request

from tracker.domain.errors import InvalidValue
from tracker.server.problem_details import CLIENT, READS, Refused, Unreadable

GRACE_S = 30.0
SLOWEST = 64 * 1024
"""Bytes a second that a client must send on average over each `GRACE_S` seconds, until the body is complete."""
SMALL = 1024 * 1024
"""Bodies up to this size have a budget of their own, however many large ones there are. Viewers may send no larger
ones."""
WINDOW = 8 * 1024 * 1024
"""The largest window that a compressed body may need for decoding; RFC 9659 guarantees senders no more."""
_PIECE = 1024 * 1024


async def _chunks(request: Request, largest: int | None, grace_s: float) -> AsyncIterator[bytes]:
    """The body in chunks as it arrives, of at most `largest` bytes (413).

    Refused (408) if it arrives too slowly, so that no client occupies memory for ever, or if the server ends (503).
    """
    announced = request.headers.get("content-length", "")
    if largest is not None and announced.isdecimal() and int(announced) > largest:
        raise too_large(int(announced), largest)
    loop = asyncio.get_running_loop()
    deadline, received, mark = loop.time() + grace_s, 0, SLOWEST * grace_s
    stream = request.stream().__aiter__()
    while True:
        try:
            async with asyncio.timeout_at(deadline):
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
        except asyncio.CancelledError:
            # Only an ending server does this, when it has waited long enough.
            raise Refused(
                503, "the server is shutting down", headers={"Retry-After": "2", "Connection": "close"}
            ) from None
        received += len(chunk)
        if received >= mark:
            deadline, mark = loop.time() + grace_s, received + SLOWEST * grace_s
        if largest is not None and received > largest:
            raise too_large(received, largest)
        yield chunk


def too_large(size: int, largest: int) -> Refused:
    """The error for a body, or a part of one, of `size` bytes where `largest` are accepted."""
    error = InvalidValue("body", f"{size} bytes", limit=f"{largest} bytes")
    return Refused(413, str(error), field=error.field, limit=error.limit)


class BodyLimits:
    """Limits on the size of bodies, and on the time that they take.

    A body that is held in memory has at most `largest` bytes, and `SMALL` if the request only reads. All that are held
    at once have at most `together`, those of one client (its token, else its address) at most half of that; bodies up
    to `SMALL` do not count there, but have a budget of their own, `small_together`. Of a compressed body both its
    compressed and its uncompressed bytes count. Files are streamed, each at most `largest_file` bytes, if it is given.
    A body must arrive with `SLOWEST` bytes a second on average over each `grace_s` seconds.
    """

    def __init__(
        self,
        largest: int = 64 * 1024 * 1024,
        together: int = 128 * 1024 * 1024,
        *,
        small_together: int = 32 * 1024 * 1024,
        largest_file: int | None = None,
        grace_s: float = GRACE_S,
    ) -> None:
        self.largest = largest
        self._largest_file = largest_file
        self._grace_s = grace_s
        self._together = together
        self._small_together = small_together
        self._large: Counter[str] = Counter()
        self._small = 0
        # Each decompression holds a window in memory.
        self._unpacking = asyncio.Semaphore(2)

    def file(self, request: Request) -> AsyncIterator[bytes]:
        """The body, a file, in chunks as it arrives. Refused: 408, 413 or 503."""
        return _chunks(request, self._largest_file, self._grace_s)

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """Context manager of the request's body, which counts as held until it ends. Refused: 408, 413, 415, 422 or
        503."""
        coding = request.headers.get("content-encoding", "identity").strip().lower()
        if coding not in codings():
            known = ", ".join(codings())
            raise Refused(
                415,
                f"Content-Encoding {coding[:80]!r}",
                field="Content-Encoding",
                limit=known,
                headers={"Accept-Encoding": known},
            )
        largest = min(self.largest, SMALL) if request.scope.get(READS) else self.largest
        held = _BodyBudget(CLIENT.get())
        try:
            parts: list[bytes] = []
            async for chunk in _chunks(request, largest, self._grace_s):
                self._hold(held, len(chunk))
                parts.append(chunk)
            whole = b"".join(parts)
            if coding == "zstd":
                parts = []
                async with self._unpacking:
                    async for part in _unpacked(whole, largest):
                        self._hold(held, len(part))
                        parts.append(part)
                whole = b"".join(parts)
            yield whole
        finally:
            self._let_go(held)

    def _hold(self, held: _BodyBudget, more: int) -> None:
        """Count `more` bytes of a body; one that is no longer small moves to the budget of large ones."""
        size = held.size + more
        self._let_go(held)
        if size <= SMALL:
            self._require(self._small + size <= self._small_together, self._small)
            self._small += size
        else:
            self._require(self._large.total() + size <= self._together, self._large.total())
            # A client's only body may have the full size: only its other bodies count against its share.
            mine = self._large[held.client]
            self._require(not mine or mine + size <= self._together // 2, mine)
            self._large[held.client] += size
        held.size = size

    def _let_go(self, held: _BodyBudget) -> None:
        if held.size <= SMALL:
            self._small -= held.size
        else:
            self._large[held.client] -= held.size
            if not self._large[held.client]:
                del self._large[held.client]
        held.size = 0

    def _require(self, is_room: bool, waiting: int) -> None:
        if not is_room:
            raise Refused(503, f"{waiting} bytes of bodies wait already", headers={"Retry-After": "1"})


class _BodyBudget:
    """The bytes of one client's body that count."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.size = 0


@cache
def codings() -> tuple[str, ...]:
    """Supported content codings: zstd if a module that reads it is installed."""
    return ("identity", "zstd") if find_spec("zstandard") else ("identity",)


async def _unpacked(packed: bytes, largest: int) -> AsyncIterator[bytes]:
    """`packed` decompressed in pieces, so that a decompression bomb is never in memory whole. Refused: 413, 422."""
    from zstandard import ZstdDecompressor, ZstdError

    reader = ZstdDecompressor(max_window_size=WINDOW).stream_reader(packed, read_across_frames=True)
    size = 0
    while True:
        try:
            part = await asyncio.to_thread(reader.read, _PIECE)
        except ZstdError as error:
            raise Unreadable(InvalidValue("body", f"{len(packed)} bytes that are not zstd: {error}")) from error
        if not part:
            return
        size += len(part)
        if size > largest:
            raise too_large(size, largest)
        yield part
