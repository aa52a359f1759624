"""MLflow's application is loaded when it is needed, once, while others wait; and what of it may be reached at all."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from mlflow.server import app as flask
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from tracker.server.mlflow import allowlist, lazy_app
from tracker.server.mlflow.ui import STATIC
from tracker.server.read_concurrency import ReadSlots
from tracker.server.request_body import BodyLimits


async def asked(app: ASGIApp) -> tuple[int, bytes, dict[bytes, bytes]]:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(one.get("body", b"") for one in sent[1:]), dict(sent[0]["headers"])


def mounted(make: Callable[[], ASGIApp]) -> lazy_app.LazyApp:
    return lazy_app.LazyApp(make, BodyLimits(), ReadSlots(2, 2), patience_s=5.0)


def test_all_wait_for_one_load() -> None:
    """Requests that come while it is loaded are answered once it is; it is loaded once."""
    go, loads = threading.Event(), []

    def make() -> ASGIApp:
        loads.append(1)
        assert go.wait(10)
        return PlainTextResponse("loaded")

    async def all_of_them() -> list[Any]:
        app = mounted(make)
        app.begin()
        tasks = [asyncio.create_task(asked(app)) for _ in range(5)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)
        go.set()
        return [*await asyncio.gather(*tasks), await asked(app)]

    answers = asyncio.run(all_of_them())
    assert [(status, body) for status, body, _ in answers] == [(200, b"loaded")] * 6
    assert answers[0][2][b"x-content-type-options"] == b"nosniff"
    assert loads == [1]


def test_it_cannot_be_loaded() -> None:
    """Who asks for what cannot be loaded is told so, in a way that no client tries again."""

    def make() -> ASGIApp:
        raise ImportError("broken")

    status, body, _ = asyncio.run(asked(mounted(make)))
    assert (status, json.loads(body)["error_code"]) == (501, "NOT_IMPLEMENTED")
    assert b"broken" not in body


def test_it_takes_too_long() -> None:
    """After its patience a request is answered 503, and told when to come again."""
    go = threading.Event()

    def make() -> ASGIApp:
        assert go.wait(10)
        return PlainTextResponse("late")

    status, body, headers = asyncio.run(asked(lazy_app.LazyApp(make, BodyLimits(), ReadSlots(2, 2), patience_s=0.01)))
    go.set()
    assert (status, json.loads(body)["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
    assert int(headers[b"retry-after"]) > 0


def test_it_fails() -> None:
    """The page that says that it failed, and an error that it raises, are told as MLflow's clients read errors."""

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError("inside")

    async def fails_late(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("<html>inside", 500)(scope, receive, send)
        raise ZeroDivisionError("inside")

    for app in (PlainTextResponse("<html>inside", 500), fails, fails_late):
        status, body, _ = asyncio.run(asked(mounted(lambda app=app: app)))  # type: ignore[misc]
        assert (status, json.loads(body)["error_code"]) == (500, "INTERNAL_ERROR")
        assert b"inside" not in body


@pytest.mark.parametrize("rule", sorted({rule.rule for rule in flask.url_map.iter_rules()}))
def test_every_path_of_mlflow_is_known(rule: str) -> None:
    """No path of MLflow's falls through to our own routes, whether it is answered or denied."""
    import re

    path = re.sub(r"<[^>]+>", "x", rule)
    outside = path in ("/", "/health", "/version") or path.startswith((STATIC, "/build/"))
    assert outside or allowlist.is_ours(path)


@pytest.mark.parametrize(
    "path",
    [
        "/ajax-api/3.0/mlflow/scorer/invoke",
        "/ajax-api/3.0/mlflow/../mlflow/traces/search",
        "/ajax-api/3.0//mlflow/traces/search",
        "/ajax-api/3.0/mlflow/gateway/secrets/list",
        "/api/2.0/mlflow/webhooks",
        "/api/2.0/mlflow/runs/create-promptlab-run",
        "/api/2.0/mlflow/never",
    ],
)
def test_what_is_not_reached(path: str) -> None:
    """What is dangerous, and what is not named, never gets to MLflow's application."""
    assert not allowlist.is_reached("POST", path)


def test_what_is_reached() -> None:
    """The registry, traces, GraphQL and what else the pages ask."""
    for path in ("/api/2.0/mlflow/registered-models/search", "/ajax-api/3.0/mlflow/traces/search", "/graphql"):
        assert allowlist.is_reached("POST", path)


def test_graphql_is_for_post() -> None:
    """A GET of GraphQL fails inside MLflow, so it does not get there."""
    assert not allowlist.is_reached("GET", "/graphql")
