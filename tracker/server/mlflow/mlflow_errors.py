"""Errors as MLflow's clients read them: JSON with `error_code` and `message`, and the status that goes with it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Send

from tracker.domain.errors import InvalidRecord, QueryTimeout, StoreError, TrackerError
from tracker.domain.limits import shortened
from tracker.mlflow_bridge.bridge_entities import BridgeError
from tracker.mlflow_bridge.bridge_errors import mlflow_error
from tracker.server.group_commit import Busy
from tracker.server.problem_details import RETRY_AFTER_S, Refused
from tracker.server.server_folders import without_folders

log = logging.getLogger("tracker.server")

STATUS: Mapping[str, int] = {
    "INTERNAL_ERROR": 500,
    "INVALID_STATE": 500,
    "NOT_IMPLEMENTED": 501,
    "TEMPORARILY_UNAVAILABLE": 503,
    "RESOURCE_CONFLICT": 409,
    "NOT_FOUND": 404,
    "ENDPOINT_NOT_FOUND": 404,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "PERMISSION_DENIED": 403,
    "UNAUTHENTICATED": 401,
    "BAD_REQUEST": 400,
    "RESOURCE_ALREADY_EXISTS": 400,
    "INVALID_PARAMETER_VALUE": 400,
}

_CLASS: Mapping[str, tuple[str, str]] = {
    "INTERNAL_ERROR": ("XXM00", "CLIENT_INTERNAL_ERROR"),
    "INVALID_STATE": ("XXM00", "CLIENT_INTERNAL_ERROR"),
    "TEMPORARILY_UNAVAILABLE": ("XXM00", "CLIENT_INTERNAL_ERROR"),
    "NOT_FOUND": ("KAM00", "RESOURCE_NOT_FOUND"),
    "ENDPOINT_NOT_FOUND": ("KAM00", "RESOURCE_NOT_FOUND"),
    "RESOURCE_DOES_NOT_EXIST": ("KAM00", "RESOURCE_NOT_FOUND"),
    "PERMISSION_DENIED": ("KAM00", "PERMISSION_DENIED"),
    "BAD_REQUEST": ("KAM00", "INVALID_PARAMETER_VALUE"),
    "INVALID_PARAMETER_VALUE": ("KAM00", "INVALID_PARAMETER_VALUE"),
    "RESOURCE_ALREADY_EXISTS": ("KAM00", "RESOURCE_ALREADY_EXISTS"),
}
"""MLflow's additions to each code: an SQLSTATE and the class of the error."""

_CODE_OF: Mapping[int, str] = {
    404: "ENDPOINT_NOT_FOUND",
    405: "ENDPOINT_NOT_FOUND",
    409: "RESOURCE_CONFLICT",
    503: "TEMPORARILY_UNAVAILABLE",
}
"""The code for a request that is refused before it reaches the store; others are BAD_REQUEST."""

_LONGEST = 10_000
"""Maximum characters of a message, which may quote what was sent."""

Headers = list[tuple[bytes, bytes]]


class ErrorBody(msgspec.Struct, frozen=True):
    """An answer that reports an error."""

    status: int
    body: bytes
    headers: Headers = []

    async def send(self, send: Send) -> None:
        await answer(send, self.body, self.status, self.headers)


async def answer(send: Send, body: bytes, status: int = 200, headers: Headers | None = None) -> None:
    """Send JSON."""
    fixed = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": fixed + headers if headers else fixed})
    await send({"type": "http.response.body", "body": body})


def document(code: str, message: str) -> bytes:
    """The body that reports an error."""
    message = shortened(without_folders(message), _LONGEST)
    error_answer: dict[str, Any] = {"error_code": code, "message": message}
    if code in _CLASS:
        error_answer["sqlstate"], error_answer["error_class"] = _CLASS[code]
    try:
        return msgspec.json.encode(error_answer)
    except UnicodeEncodeError:  # half of a surrogate pair came from a client
        error_answer["message"] = message.encode("utf-8", "backslashreplace").decode()
        return msgspec.json.encode(error_answer)


def refusal(code: str, message: str) -> ErrorBody:
    """An error of one of MLflow's codes."""
    return ErrorBody(STATUS[code], document(code, message))


def error_answer(error: Exception) -> ErrorBody:
    """The response for a raised `error`."""
    match error:
        case BridgeError():
            return ErrorBody(STATUS.get(error.code, 500), document(error.code, error.message))
        case Refused():
            code = _CODE_OF.get(error.status, "BAD_REQUEST")
            headers = [(k.lower().encode(), v.encode()) for k, v in error.headers.items()]
            return ErrorBody(error.status, document(code, str(error)), headers)
        case QueryTimeout():
            # Without Retry-After: a query that took too long would take as long again.
            return refusal("TEMPORARILY_UNAVAILABLE", str(error))
        case InvalidRecord():
            return refusal("INTERNAL_ERROR", str(error))  # it is the same at the next try
        case StoreError():
            again = b"1" if isinstance(error, Busy) else b"%d" % RETRY_AFTER_S
            return ErrorBody(503, document("TEMPORARILY_UNAVAILABLE", str(error)), [(b"retry-after", again)])
        case TrackerError():
            return error_answer(mlflow_error(error))
        case ClientDisconnect():
            return ErrorBody(400, b"")  # nobody is there to read it
    log.error("a request of MLflow's failed", exc_info=error)
    return ErrorBody(500, document("INTERNAL_ERROR", "the server failed; its log says how"))
