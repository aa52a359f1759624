"""MLflow's own application behind ours, loaded in a thread once it is needed."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import threading
from collections.abc import Callable
from functools import cache

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tracker.domain.deadlines import query_deadline
from tracker.domain.errors import StoreUnavailable
from tracker.domain.extras import how_to_install
from tracker.server.mlflow import mlflow_errors
from tracker.server.mlflow.decode import json_object
from tracker.server.mlflow.endpoints import replayed
from tracker.server.read_concurrency import ReadSlots
from tracker.server.request_body import BodyLimits
from tracker.server.server_folders import without_folders

log = logging.getLogger("tracker.server")

_HOW = f"{how_to_install('mlflow')} where the server runs, and start it again"
_HARMLESS = {b"x-content-type-options": b"nosniff", b"x-frame-options": b"SAMEORIGIN"}
_LARGE = 256 * 1024


@cache
def installed() -> bool:
    """Whether MLflow is installed. It is not imported."""
    try:
        return importlib.util.find_spec("mlflow") is not None
    except (ImportError, ValueError):
        return False


class LazyApp:
    """Calls `make` at the first request for the application; requests during the call wait `patience_s` at most.

    A request takes a slot of `room`, and reads from the store for `query_seconds` at most, None for no limit.
    """

    def __init__(
        self,
        make: Callable[[], ASGIApp],
        intake: BodyLimits,
        room: ReadSlots,
        *,
        query_seconds: float | None = None,
        patience_s: float = 60.0,
    ) -> None:
        self._room = room
        self._query_seconds = query_seconds
        self._patience_s = patience_s
        self._make = make
        self._intake = intake
        self._app: ASGIApp | None = None
        self._failed: Exception | None = None
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Start to load, unless loading has started."""
        with self._lock:
            if self._thread is None and installed():
                self._thread = threading.Thread(target=self._load, name="tracker-mlflow", daemon=True)
                self._thread.start()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not installed():
            await mlflow_errors.refusal("NOT_IMPLEMENTED", f"MLflow is not installed here: {_HOW}").send(send)
            return
        if self._app is None and not await self._loaded():
            await self._why().send(send)
            return
        assert self._app is not None
        answer = _Answer(send)
        try:
            async with self._intake.body(Request(scope, receive)) as body:
                body = _sane(scope, body) if len(body) <= _LARGE else await asyncio.to_thread(_sane, scope, body)
                async with self._room.place():
                    with query_deadline(self._query_seconds):
                        await self._app(_plain(scope, len(body)), _whole(body, receive), answer)
        except Exception as error:
            if not answer.begun:
                await mlflow_errors.error_answer(error).send(send)
            else:
                log.exception("MLflow's application failed at %s", scope["path"])

    async def _loaded(self) -> bool:
        self.begin()
        event = asyncio.Event()
        with self._lock:
            if self._app is None and self._failed is None:
                self._waiting.append((asyncio.get_running_loop(), event))
            else:
                event.set()
        try:
            async with asyncio.timeout(self._patience_s):
                await event.wait()
        except TimeoutError:
            return False
        return self._app is not None

    def _why(self) -> mlflow_errors.ErrorBody:
        """The error while there is no application: it could not be loaded, which is final, or it is still loading."""
        if self._failed is not None:
            why = "MLflow could not be loaded here; the server's log says why"
            return mlflow_errors.refusal("NOT_IMPLEMENTED", why)
        return mlflow_errors.error_answer(StoreUnavailable("MLflow is still being loaded; ask again"))

    def _load(self) -> None:
        app, failed = None, None
        try:
            app = self._make()
        except Exception as error:
            log.exception("MLflow could not be loaded")
            failed = error
        with self._lock:
            self._app, self._failed = app, failed
            waiting, self._waiting = self._waiting, []
        for loop, event in waiting:
            try:
                loop.call_soon_threadsafe(event.set)
            except RuntimeError:  # its loop is closed
                log.debug("a request went away while MLflow was loaded")


def _sane(scope: Scope, body: bytes) -> bytes:
    """`body`, or an empty object if it should be an object and is not: MLflow's handlers fail on other JSON."""
    is_json = any(name == b"content-type" and value.startswith(b"application/json") for name, value in scope["headers"])
    return body if not is_json or json_object(body) else b"{}"


class _Answer:
    """A `send` that adds the headers that prevent content sniffing in browsers.

    It replaces the HTML page of a failed application by an error that MLflow's clients can read. Errors name no folder
    of this machine.
    """

    def __init__(self, send: Send) -> None:
        self.begun = False
        self._send = send
        self._replaced = False
        self._error: tuple[Message, list[bytes]] | None = None

    async def __call__(self, message: Message) -> None:
        if self._replaced:
            return
        if self._error is not None:
            await self._send_error(message)
            return
        if message["type"] == "http.response.start":
            self.begun = True
            headers = {name.lower(): value for name, value in message["headers"]}
            if message["status"] == 500 and headers.get(b"content-type", b"").startswith(b"text/"):
                self._replaced = True
                said = "MLflow's application failed; the server's log says how"
                await mlflow_errors.refusal("INTERNAL_ERROR", said).send(self._send)
                return
            kept = [(name, value) for name, value in message["headers"] if name.lower() not in _HARMLESS]
            message = {**message, "headers": [*kept, *_HARMLESS.items()]}
            if message["status"] >= 400:
                self._error = message, []
                return
        await self._send(message)

    async def _send_error(self, message: Message) -> None:
        """Send the start and the whole body once all of it is there."""
        assert self._error is not None
        start, parts = self._error
        parts.append(message.get("body", b""))
        if message.get("more_body"):
            return
        body = b"".join(parts)
        if b"/" in body:
            body = without_folders(body.decode("utf-8", "replace")).encode()
            headers = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
            start = {**start, "headers": [*headers, (b"content-length", b"%d" % len(body))]}
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})


def _plain(scope: Scope, size: int) -> Scope:
    """`scope` for the uncompressed body of `size` bytes."""
    told = (b"content-length", b"content-encoding", b"transfer-encoding")
    headers = [(name, value) for name, value in scope["headers"] if name not in told]
    return {**scope, "headers": [*headers, (b"content-length", b"%d" % size)] if size else headers}


def _whole(body: bytes, receive: Receive) -> Receive:
    """A `receive` that yields `body` at once, then the later messages."""
    return replayed({"type": "http.request", "body": body, "more_body": False}, receive)
