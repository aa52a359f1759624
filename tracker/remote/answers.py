"""HTTP responses with limits on bytes and time, heads and framing included.

A trainer reads them, so none may fill its memory or block its threads: a server may be broken, or be another program.
"""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse, IncompleteRead
from typing import Any

SMALL = 1024 * 1024
"""Maximum bytes of the response to a change."""
RECORDS = 64 * 1024 * 1024
"""The same for records: runs, parameters, epochs, events, checkpoints."""
SERIES = 1024 * 1024 * 1024
"""The same for the points of a series, 30 bytes each, and histograms."""
ANSWER_S = 60.0
"""Seconds of waiting for each `STRETCH` bytes of a response, the first included, or for its end."""
STRETCH = 1024 * 1024
_HEAD = 64 * 1024
"""Bytes of status line and headers, those of interim responses included."""
_PIECE = 256 * 1024
_FRAMING = 2 * _PIECE
"""Bytes that may arrive for one piece: chunks have headers of their own."""


class AnswerTooLarge(HTTPException):
    """A response is larger than the limit that the message names."""


class SlowAnswer(TimeoutError):
    """A response began to arrive, and continues too slowly."""


class Answer(HTTPResponse):
    """A response, read by `pieces` or `whole` after `allow` has set the limit of its size."""

    def __init__(self, sock: socket.socket, *args: Any, **more: Any) -> None:
        super().__init__(sock, *args, **more)
        self._source = _Source(self.fp.detach(), sock)
        self.fp = io.BufferedReader(self._source)
        self._most = 0

    def allow(self, most: int) -> None:
        """Accept at most `most` bytes of body. Raises AnswerTooLarge if more are announced."""
        self._most = most
        if self.length is not None and self.length > most:
            raise AnswerTooLarge(f"{self.length} bytes are announced, of at most {most}")

    def pieces(self) -> Iterator[bytes]:
        """The body in pieces. Raises AnswerTooLarge, SlowAnswer, IncompleteRead, and OSError for the connection's."""
        size = 0
        while piece := self.some(_PIECE):
            size += len(piece)
            if size > self._most:
                raise AnswerTooLarge(f"more than {self._most} bytes")
            yield piece
        if self.length:
            raise IncompleteRead(b"", self.length)  # `read` of a part does not say so

    def whole(self) -> bytes:
        """The body; raises what `pieces` does."""
        return b"".join(self.pieces())

    def some(self, size: int) -> bytes:
        """The next `size` bytes of the body, or as many as there are. Raises what `pieces` does."""
        self._source.allow(_FRAMING)
        try:
            return self.read(size)
        except ValueError as error:  # a chunk of a size that is none
            raise HTTPException(f"an answer that cannot be read: {error}") from error


class _Source(io.RawIOBase):
    """Raw reader of a socket: no more bytes than allowed, and each `STRETCH` of them within `ANSWER_S` of waiting.

    The reader's own processing time does not count.
    """

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw = raw
        self._sock = sock
        self._received = 0
        self._most = _HEAD
        self._left_s = ANSWER_S
        self._mark = STRETCH

    def allow(self, more: int) -> None:
        """Allow this many more bytes."""
        self._most = self._received + more

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._received >= self._most:
            raise AnswerTooLarge("headers or chunks without an end")
        self._sock.settimeout(max(self._left_s, 0.001))
        begun = time.monotonic()
        try:
            count = self._raw.readinto(buffer)
        except TimeoutError as error:
            if not self._received:
                raise
            raise SlowAnswer(f"slower than {STRETCH} bytes in {ANSWER_S:g} s") from error
        finally:
            self._left_s -= time.monotonic() - begun
        self._received += count or 0
        if self._received >= self._mark:
            self._left_s, self._mark = ANSWER_S, self._received + STRETCH
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()
