"""Limits on connections before their request is known: head size, time for the head, and their number.

uvicorn limits none of these. Everybody who reaches the port can open connections, so the limits apply before tokens are
checked.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

log = logging.getLogger("tracker.server")

HEAD_BYTES = 64 * 1024
"""Maximum size of request line and headers together."""
HEAD_S = 10.0
"""Seconds for a request's head from its first byte, and for a connection's first byte from its start."""
WRITE_S = 60.0
SLOWEST_READER = 16 * 1024
"""Bytes a second that a client must read of a response on average over each `WRITE_S`, while bytes wait for it."""
UNREAD_BYTES = 128 * 1024 * 1024
"""Bytes of responses that may wait for all clients; beyond it, clients that read nothing for `STALLED_S` are
dropped."""
STALLED_S = 5.0
_SWEEP_S = 1.0
_OTHER_FILES = 128
"""Files that the process needs besides its connections: databases, artifacts, pipes."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Maximum number of open connections, in all and from one address."""

    total: int
    per_address: int

    @classmethod
    def of_this_process(cls) -> ConnectionLimits:
        """As many as the process may have files, less what it needs itself; half of them from one address."""
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        total = max(min(files, 65_536) - _OTHER_FILES, 16)
        return cls(total, max(total // 2, 8))


class Connections:
    """The open connections of one process.

    When there are too many, the one that has been idle for longest is closed, first among those of the new connection's
    address. If all of them are busy, the new one gets 503. So a client that opens connections and sends nothing closes
    its own, and a health check can always connect.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._by_address: dict[str, OrderedDict[BoundedProtocol, None]] = {}
        self._all: OrderedDict[BoundedProtocol, None] = OrderedDict()
        self._sweeping = False
        self._said = False

    def protocol(self) -> type[HttpToolsProtocol]:
        """The protocol class of which uvicorn makes an instance for each connection."""
        return type("TrackerProtocol", (BoundedProtocol,), {"open_connections": self})

    def enter(self, one: BoundedProtocol) -> bool:
        """Count a new connection; False if there is no room for it."""
        mine = self._by_address.setdefault(one.address, OrderedDict())
        mine[one] = None
        self._all[one] = None
        is_room = True
        if len(mine) > self._limits.per_address:
            is_room = self._make_room(mine, one, f"{self._limits.per_address} from one address")
        elif len(self._all) > self._limits.total:
            is_room = self._make_room(self._all, one, f"{self._limits.total} in all")
        if not self._sweeping:
            self._sweeping = True
            one.loop.call_later(_SWEEP_S, self._sweep, one.loop)
        return is_room

    def leave(self, one: BoundedProtocol) -> None:
        """Remove a closed connection."""
        self._all.pop(one, None)
        mine = self._by_address.get(one.address)
        if mine is not None:
            mine.pop(one, None)
            if not mine:
                del self._by_address[one.address]

    def used(self, one: BoundedProtocol) -> None:
        """Mark the connection as used most recently: a request of it begins."""
        if one in self._all:
            self._all.move_to_end(one)
            self._by_address[one.address].move_to_end(one)

    def _make_room(self, there: OrderedDict[BoundedProtocol, None], newcomer: BoundedProtocol, limit: str) -> bool:
        if not self._said:
            self._said = True
            log.warning("as many connections as this process takes (%s): idle ones are closed for new ones", limit)
        oldest = next((one for one in there if one is not newcomer and one.is_idle), None)
        if oldest is None:
            return False
        self.leave(oldest)
        oldest.abort()
        return True

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for one in list(self._all):
            one.check(now)
        self._drop_stalled(now)
        self._sweeping = bool(self._all)
        if self._sweeping:
            loop.call_later(_SWEEP_S, self._sweep, loop)

    def _drop_stalled(self, now: float) -> None:
        """Drop clients that read nothing of their responses while too many bytes wait in all, the longest idle
        first."""
        unread = [(one, one.unread) for one in self._all if one.unread]
        total = sum(size for _, size in unread)
        if total <= UNREAD_BYTES:
            return
        stalled = [pair for pair in unread if now - pair[0].read_at > STALLED_S]
        for one, size in sorted(stalled, key=lambda pair: pair[0].read_at):
            log.warning("%s reads nothing of its answer, and %d bytes wait for clients: dropped", one.address, total)
            one.abort()
            total -= size
            if total <= UNREAD_BYTES:
                return


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's connection, with the limits of this module."""

    open_connections: Connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self._head_since: float | None = self.loop.time()
        self._head_bytes = 0
        self.unread = 0
        """Bytes of responses that wait for the client, as of the last check."""
        self.read_at = 0.0
        """Time of the last check that found that the client had read."""
        self._paused: tuple[float, int] | None = None
        """Since when writing is paused, and how many bytes the client had to read then."""
        self._is_refused = False
        if not self.open_connections.enter(self):
            self._refuse(503, "as many connections as this server takes are busy")

    def connection_lost(self, exc: Exception | None) -> None:
        self.open_connections.leave(self)
        super().connection_lost(exc)

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def abort(self) -> None:
        """Close it at once."""
        self.transport.abort()

    def check(self, now: float) -> None:
        """Close it if the client took too long to send a head or to read a response."""
        if self._head_since is not None and self.is_idle and now - self._head_since > HEAD_S:
            if self._head_bytes:
                self._refuse(408, f"the request's head did not arrive within {HEAD_S:g} seconds")
            else:
                self.transport.close()
        elif self._paused is not None:
            self._check_reading(*self._paused, now)
        else:
            self.unread = 0

    def _check_reading(self, since: float, size: int, now: float) -> None:
        unread = self.transport.get_write_buffer_size()
        if unread != self.unread:
            self.unread, self.read_at = unread, now
        if now - since > WRITE_S:
            if size - unread < SLOWEST_READER * WRITE_S:
                self.abort()
            else:
                self._paused = now, unread

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        super().data_received(data)
        if self._head_since is not None and not self._is_refused:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(431, f"the request's head is larger than {HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        self._head_since, self._head_bytes = self.loop.time(), 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_since = None
        if self._is_refused:
            return
        # Small heads, as nearly all are, arrive in one piece that was not counted yet.
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > HEAD_BYTES:
            self._refuse(431, f"the request's head is larger than {HEAD_BYTES} bytes")
            return
        self.open_connections.used(self)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._is_refused:
            super().on_message_complete()

    def pause_writing(self) -> None:
        now = self.loop.time()
        self._paused = now, self.transport.get_write_buffer_size()
        self.unread, self.read_at = self._paused[1], now
        super().pause_writing()

    def resume_writing(self) -> None:
        self._paused = None
        super().resume_writing()

    def _refuse(self, status: int, why: str) -> None:
        """Send the reason in one line and close; while a response is being sent, only close."""
        self._is_refused = True
        if not self.is_idle:
            self.abort()
            return
        body = why.encode()
        head: list[Any] = [STATUS_LINE[status], b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\n"]
        self.transport.write(b"".join([*head, b"content-length: %d\r\n\r\n" % len(body), body]))
        self.transport.close()
