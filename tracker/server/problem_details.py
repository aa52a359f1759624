"""Errors as problem details (RFC 9457), and the one table of errors and their HTTP statuses."""

from __future__ import annotations

from contextvars import ContextVar
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from tracker.domain import errors
from tracker.domain.limits import shortened
from tracker.server.group_commit import Busy
from tracker.server.server_folders import without_folders

TYPE = "application/problem+json"
ERROR = "tracker.error"
"""Scope key of the name of the error with which a request ended."""
IDENTITY = "tracker.identity"
"""Scope key of the authenticated identity, if tokens are required."""
READS = "tracker.reads"
"""Scope key of whether a viewer may send the request: then it changes nothing."""
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the current request, "" outside of any."""
CLIENT: ContextVar[str] = ContextVar("client", default="")
"""The client of the current request: the name of its token, else its address."""

STATUS: dict[type[Exception], int] = {
    errors.NotFound: 404,
    errors.RunExists: 409,
    errors.FileRemoved: 409,
    errors.StoreRestored: 409,
    errors.InvalidValue: 400,
    errors.StoreUnavailable: 503,
    errors.SchemaOutdated: 503,
    errors.SchemaTooNew: 503,
    errors.ArtifactError: 500,
    errors.TrackerError: 500,
}
"""The nearest base class counts."""
RETRY_AFTER_S = 2


class Problem(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A problem document. `error` is the class of `tracker.domain.errors` that a Python client raises for it.

    `field` and `limit` say which value broke which rule. `request_id` finds the request in the server's log.
    `error_code` and `message` are for MLflow's clients, on their paths only.
    """

    type: str = msgspec.field(default_factory=lambda: "about:blank")
    title: str
    status: int
    detail: str
    error: str
    field: str = ""
    limit: str = ""
    request_id: str = ""
    error_code: str = ""
    message: str = ""


class Refused(Exception):
    """A request that is refused before it reaches the store."""

    def __init__(
        self, status: int, detail: str, *, field: str = "", limit: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.field = field
        self.limit = limit
        self.headers = headers or {}


class Unreadable(Refused):
    """A malformed body, 422."""

    def __init__(self, error: errors.InvalidValue) -> None:
        super().__init__(422, str(error), field=error.field, limit=error.limit)


def response(
    status: int,
    detail: str,
    error: str,
    *,
    field: str = "",
    limit: str = "",
    error_code: str = "",
    headers: dict[str, str] | None = None,
) -> Response:
    """A problem as a response; `error_code` is MLflow's code for it, on paths of MLflow's clients."""
    detail = shortened(without_folders(detail), _LONGEST)
    problem = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        error=error,
        field=field,
        limit=limit,
        request_id=REQUEST_ID.get(),
        error_code=error_code,
        message=detail if error_code else "",
    )
    return Response(
        msgspec.json.encode(problem), status, {"X-Content-Type-Options": "nosniff", **(headers or {})}, media_type=TYPE
    )


_LONGEST = 10_000
"""Maximum characters of a detail, which may quote what was sent."""
_REFUSED_AS = {404: "NotFound", 503: "StoreUnavailable"}


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    name = _REFUSED_AS.get(error.status, "InvalidValue")
    return response(error.status, str(error), name, field=error.field, limit=error.limit, headers=error.headers)


async def _tracker_error(request: Request, error: Exception) -> Response:
    status = next(STATUS[base] for base in type(error).__mro__ if base in STATUS)
    name = next(base.__name__ for base in type(error).__mro__ if base.__module__ == errors.__name__)
    request.scope[ERROR] = name
    headers = {}
    # A query that took too long would take as long again.
    if status == 503 and not isinstance(error, errors.QueryTimeout):
        headers["Retry-After"] = "1" if isinstance(error, Busy) else str(RETRY_AFTER_S)
    return response(
        status,
        str(error),
        name,
        field=getattr(error, "field", ""),
        limit=getattr(error, "limit", ""),
        headers=headers,
    )


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    detail = {404: f"nothing is at {path}", 405: f"{path} does not take {request.method}"}.get(
        error.status_code, error.detail
    )
    name = "NotFound" if error.status_code == 404 else "InvalidValue"
    return response(error.status_code, detail, name, headers=dict(error.headers or {}))


async def _unexpected(request: Request, error: Exception) -> Response:
    # The log has the details; clients must not see internals of the server.
    return response(500, "the server failed; its log says how", "TrackerError")


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody is there to read it


HANDLERS: dict[Any, ExceptionHandler] = {
    errors.TrackerError: _tracker_error,
    Refused: _refused,
    HTTPException: _http,
    ClientDisconnect: _gone,
    Exception: _unexpected,
}
