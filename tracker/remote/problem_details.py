"""Error responses → the errors that the embedded store would have raised."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from tracker.domain import errors
from tracker.domain.errors import (
    AccessRefused,
    ArtifactError,
    FileRemoved,
    InvalidValue,
    NotFound,
    RequestTooLarge,
    RunExists,
    RunNotFound,
    StoreError,
    StoreRestored,
    StoreUnavailable,
    TrackerError,
)

MEDIA_TYPE = "application/problem+json"
_AWAY = frozenset({408, 425, 429, 502, 503, 504})
_LONGEST = 2000
_SAID_BY: dict[int, tuple[type[TrackerError], ...]] = {
    400: (InvalidValue,),
    404: (NotFound, ArtifactError),
    409: (RunExists, FileRemoved, StoreRestored),
    413: (InvalidValue,),
    422: (InvalidValue,),
    500: (ArtifactError,),
    503: (StoreError,),
}
"""The errors that a status may have. Any other is about the network or the credentials: no refusal."""
_ATTRIBUTES: dict[str, Any] = {"field": "", "limit": "", "run_id": "", "text": "", "position": 0, "hint": ""}
"""Attributes of errors besides the message, and their defaults if the server did not send them."""


def error_of(server: str, status: int, headers: Mapping[str, str], body: bytes, *, sent: int = 0) -> TrackerError:
    """The error for a response with this status, to a request whose body had `sent` bytes.

    Only a tracking server's own problem document about a request is a refusal. Anything else (a proxy, another server,
    a server that failed) is a StoreError: pending data is kept, and sent again.
    """
    problem = _problem(headers, body)
    detail = str(problem.get("detail") or problem.get("title") or "")[:_LONGEST]
    kind = getattr(errors, str(problem.get("error")), None)
    if isinstance(kind, type) and issubclass(kind, _SAID_BY.get(status, ())):
        return _made(kind, detail, problem)
    said = f"{server} answered {status}" + (f": {detail}" if detail else "")
    if status == 413:
        return RequestTooLarge(server, sent, detail)
    if status in _AWAY:
        again = headers.get("retry-after", "")
        return StoreUnavailable(said + (f" (again in {again} s)" if again.isdecimal() else ""))
    if 300 <= status < 400:
        return StoreError(f"{said}, which leads to {headers.get('location', 'nowhere')!r}; use that address")
    if status in (401, 403) and problem:
        return AccessRefused(said)
    if problem:
        return StoreError(said)
    if status in (401, 403):
        return AccessRefused(f"{said}; does the URL say user:password@ before the host, and is it right?")
    return StoreError(f"{said}; is it a tracking server?")


def _problem(headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    if headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        return {}
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


_RUN = re.compile(r"run '([^'\\]*)' not found")


def _made(kind: type[TrackerError], detail: str, problem: Mapping[str, Any]) -> TrackerError:
    """An error of this class with the server's message, not with a new one."""
    if kind is RunNotFound and (found := _RUN.fullmatch(detail)):
        return RunNotFound(found[1])
    error = kind.__new__(kind)
    Exception.__init__(error, detail or kind.__name__)
    for name, otherwise in _ATTRIBUTES.items():
        value = problem.get(name, otherwise)
        setattr(error, name, value if isinstance(value, type(otherwise)) else otherwise)
    return error
