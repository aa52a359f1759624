"""What every request gets, whatever the application behind it does."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tracker.server.metrics import Metrics
from tracker.server.problem_details import REQUEST_ID
from tracker.server.request_log import RequestLog


def asked(app: ASGIApp, *headers: tuple[bytes, bytes]) -> tuple[list[Message], list[tuple[Any, ...]], Metrics]:
    """What was sent, what was noted and what was counted for one request."""
    sent: list[Message] = []
    noted: list[tuple[Any, ...]] = []
    metrics = Metrics()

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    def note(
        method: str, path: str, status: int, seconds: float, size: int, id_: str, scope: Mapping[str, Any]
    ) -> None:
        noted.append((method, path, status, size, id_))

    scope: Scope = {"type": "http", "method": "GET", "path": "/x", "headers": list(headers)}
    asyncio.run(RequestLog(app, metrics, note)(scope, receive, send))
    assert metrics.answering == 0
    return sent, noted, metrics


def test_application_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """A failure is 500 without the inside of the server, with the id; the log has the inside, once."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert REQUEST_ID.get() == "mine"
        raise ZeroDivisionError("secret")

    sent, noted, metrics = asked(app, (b"x-request-id", b"mine"))
    assert sent[0]["status"] == 500
    assert json.loads(sent[1]["body"])["request_id"] == "mine"
    assert b"secret" not in sent[1]["body"]
    assert noted == [("GET", "/x", 500, len(sent[1]["body"]), "mine")]
    assert 'status="500"' in metrics.text()
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.levelno == logging.ERROR


def test_application_that_fails_half_way(caplog: pytest.LogCaptureFixture) -> None:
    """After the answer has begun nothing more is sent; the log has why."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    sent, noted, _ = asked(app)
    assert [message["type"] for message in sent] == ["http.response.start"]
    assert noted[0][2] == 200
    assert len(caplog.records) == 1


def test_client_that_goes_away(caplog: pytest.LogCaptureFixture) -> None:
    """A client that does not wait is no failure of the server."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ClientDisconnect

    sent, noted, _ = asked(app)
    assert (sent, noted[0][2], caplog.records) == ([], 499, [])


def test_store_that_fails_is_counted() -> None:
    """What an application says the store failed with is counted."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["tracker.error"], scope["tracker.route"] = "StoreUnavailable", "/few"
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b"away"})

    _, _, metrics = asked(app)
    assert 'tracker_store_errors_total{error="StoreUnavailable"} 1' in metrics.text()
    assert 'tracker_http_requests_total{method="GET",route="/few",status="503"} 1' in metrics.text()
