"""Requests to one tracking server over persistent connections.

This is the standard library's client, since it runs inside trainings: no dependency, and imported only if a server is
used. Errors of the network raise StoreUnavailable.
"""

from __future__ import annotations

import os
import select
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlencode, urlsplit

from tracker.domain import store_url
from tracker.domain.errors import InvalidValue, StoreError, StoreUnavailable
from tracker.remote.answers import ANSWER_S, SMALL, Answer, AnswerTooLarge
from tracker.remote.problem_details import error_of

if TYPE_CHECKING:
    import ssl

CONNECT_S = 10.0
"""Seconds for a server to accept a connection."""
KEPT = 8
"""Maximum number of idle connections."""
TARGET_BYTES = 60_000
"""The longest URL that is sent; servers accept little more."""
_BLOCK = 256 * 1024
_PROBLEM_BYTES = 64 * 1024

Body = bytes | Callable[[], BinaryIO] | None
Query = Mapping[str, Sequence[str]]


class Server:
    """A tracking server; thread-safe, each concurrent request has a connection of its own.

    A user and password in `url` are sent as HTTP Basic credentials.
    """

    def __init__(self, url: str) -> None:
        given = store_url.parse(url)
        self.url = given.shown
        parts = urlsplit(self.url)
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port
        self._prefix = parts.path
        self._headers = {"User-Agent": "callback-tracker"}
        if given.user is not None:
            secret = b64encode(f"{given.user}:{given.password or ''}".encode()).decode()
            self._headers["Authorization"] = f"Basic {secret}"
        self._context: ssl.SSLContext | None = None
        # A deque, whose ends are safe without a lock: a process may fork while another thread holds one.
        self._idle: deque[HTTPConnection] = deque()
        self._process = os.getpid()

    def close(self) -> None:
        """Close the idle connections. A closed server connects again at the next request."""
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()

    def __del__(self) -> None:
        with suppress(AttributeError):
            self.close()

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        twice: bool = True,
        most: int = SMALL,
    ) -> bytes:
        """The body of the response. With `twice` the request may be sent again if a persistent connection was closed.

        Raises the server's error, StoreUnavailable without a complete response, StoreError if it has more than `most`
        bytes.
        """
        with self.stream(method, path, query=query, body=body, headers=headers, twice=twice, most=most) as response:
            return response.whole()

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        twice: bool = True,
        most: int = SMALL,
    ) -> Iterator[Answer]:
        """The response, to be read in the `with` block; see `ask`."""
        target = self._prefix + path + (f"?{urlencode(query, doseq=True)}" if query else "")
        if len(target) > TARGET_BYTES:
            raise InvalidValue("query", f"{len(target)} bytes of URL", limit=f"{TARGET_BYTES} bytes over HTTP")
        sent = {**self._headers, "Accept": "application/msgpack", **(headers or {})}
        connection = response = None
        try:
            connection, response = self._send(method, target, body, sent, twice)
            known = {key.lower(): value for key, value in response.getheaders()}
            if not 200 <= response.status < 300:
                size = len(body) if isinstance(body, bytes) else int(sent.get("Content-Length", 0))
                raise error_of(self.url, response.status, known, response.some(_PROBLEM_BYTES), sent=size)
            if (coding := known.get("content-encoding", "identity").lower()) != "identity":
                raise StoreError(f"{self.url} compresses its answers as {coding[:40]!r}, which nobody asked for")
            response.allow(most)
            yield response
        except AnswerTooLarge as error:
            raise StoreError(
                f"{self.url} answers {method} {path} with more than is read: {error}; ask for less, or is it a "
                "tracking server?"
            ) from error
        except (OSError, HTTPException) as error:
            said = (str(error) or type(error).__name__)[:200]
            raise StoreUnavailable(f"{self.url} does not answer: {said}") from error
        finally:
            # The unread rest of a response would be taken for the next response.
            if connection is not None and response is not None and response.isclosed() and not response.will_close:
                self._keep(connection)
            elif connection is not None:
                connection.close()

    def _send(
        self, method: str, target: str, body: Body, headers: Mapping[str, str], twice: bool
    ) -> tuple[HTTPConnection, Answer]:
        kept = self._take()
        if kept is not None:
            try:
                return kept, _exchange(kept, method, target, body, headers)
            except TimeoutError:
                kept.close()
                raise
            except (OSError, HTTPException):
                # The server closed it, as it may at any time, while the request was on its way.
                kept.close()
                if not twice:
                    raise
        connection = self._connect()
        try:
            return connection, _exchange(connection, method, target, body, headers)
        except BaseException:
            connection.close()
            raise

    def _connect(self) -> HTTPConnection:
        connection = self._new_connection()
        connection.response_class = Answer
        connection.connect()
        return connection

    def _new_connection(self) -> HTTPConnection:
        if not self._secure:
            return HTTPConnection(self._host, self._port, timeout=CONNECT_S, blocksize=_BLOCK)
        if self._context is None:
            import ssl

            self._context = ssl.create_default_context()  # reads the system's certificates: once
        return HTTPSConnection(self._host, self._port, timeout=CONNECT_S, blocksize=_BLOCK, context=self._context)

    def _take(self) -> HTTPConnection | None:
        """An idle connection that is open as far as the client can tell."""
        while True:
            if self._process != os.getpid():
                self._idle, self._process = deque(), os.getpid()  # a fork: these are the parent's
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.sock is not None and not _has_news(connection):
                return connection
            connection.close()

    def _keep(self, connection: HTTPConnection) -> None:
        if len(self._idle) < KEPT and self._process == os.getpid():
            self._idle.append(connection)
        else:
            connection.close()


def _exchange(connection: HTTPConnection, method: str, target: str, body: Body, headers: Mapping[str, str]) -> Answer:
    connection.sock.settimeout(ANSWER_S)
    try:
        if callable(body):
            with body() as file:
                connection.request(method, target, body=file, headers=dict(headers))
        else:
            connection.request(method, target, body=body, headers=dict(headers))
    except (BrokenPipeError, ConnectionResetError):
        if body is None:
            raise
        # A server that refuses a body sends the reason and closes: its response may have arrived.
    answer = connection.getresponse()
    assert isinstance(answer, Answer)
    return answer


def _has_news(connection: HTTPConnection) -> bool:
    """Whether an idle connection has something to read, which can only be its end."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))
