"""The outermost layer: gives each request an id, counts, times and logs it, and ensures that it gets a response."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tracker.server import problem_details
from tracker.server.gate import RULE
from tracker.server.logs import plain_path
from tracker.server.metrics import Metrics

log = logging.getLogger("tracker.server")

Note = Callable[[str, str, int, float, int, str, Mapping[str, Any]], None]
"""Logs an answered request: `logs.Log.answered`."""
ROUTE = "tracker.route"
"""Scope key in which an application may store its route, for the metrics; one of few."""
_SANE = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:+@-]{0,127}\Z")
_GONE = 499
"""The logged status of a request whose client disconnected before the response."""
_STORE_ERRORS = frozenset({"StoreError", "StoreUnavailable", "QueryTimeout", "SchemaOutdated", "SchemaTooNew"})


class RequestLog:
    """Wraps the whole application. The id is the client's X-Request-ID if valid, else a new one, and is sent back."""

    def __init__(self, app: ASGIApp, metrics: Metrics, note: Note | None = None) -> None:
        self._app = app
        self._metrics = metrics
        self._note = note
        self._begin = os.urandom(6).hex()
        self._numbers = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = None
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                given = value
        if given is not None and _SANE.match(given):
            request_id = given.decode()
        else:
            request_id = f"{self._begin}-{next(self._numbers):x}"
        problem_details.REQUEST_ID.set(request_id)
        status = size = 0

        async def sending(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            else:
                size += len(message.get("body", b""))
            await send(message)

        metrics = self._metrics
        begun = time.perf_counter()
        metrics.answering += 1
        try:
            await self._app(scope, receive, sending)
        except ClientDisconnect:
            log.debug("%s %s: the client disconnected", scope["method"], plain_path(scope["path"]))
        except Exception:
            log.exception("%s %s failed", scope["method"], plain_path(scope["path"]))
            if not status:
                refusal = problem_details.response(500, "the server failed; its log says how", "TrackerError")
                await refusal(scope, receive, sending)
        finally:
            seconds = time.perf_counter() - begun
            status = status or _GONE
            metrics.answering -= 1
            metrics.request(scope["method"], _route(scope), status, seconds)
            if scope.get(problem_details.ERROR) in _STORE_ERRORS:
                metrics.error(scope[problem_details.ERROR])
            if self._note is not None:
                self._note(scope["method"], scope["path"], status, seconds, size, request_id, scope)


def _route(scope: Scope) -> str:
    """The request's route, as one of few: the application's, else the rule that admitted the request."""
    taken: str | None = getattr(scope.get("route"), "path", None)
    return taken or scope.get(ROUTE) or scope.get(RULE) or "other"
