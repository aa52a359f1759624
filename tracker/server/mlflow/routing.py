"""Routes as values: a method and a path of MLflow's API, the request's type, and the handler."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from msgspec import Struct
from starlette.types import ASGIApp, Scope

from tracker.domain.errors import TrackerError
from tracker.domain.frames import Batch
from tracker.mlflow_bridge.bridge import Bridge
from tracker.mlflow_bridge.bridge_errors import mlflow_error
from tracker.server.fair_lock import FairLock
from tracker.server.long_answers import LongAnswer, Pieces
from tracker.server.mlflow import endpoints
from tracker.server.operations import JSON, Services

S = TypeVar("S", bound=Struct)
NOTHING = b"{}"
_PLAIN = {"X-Content-Type-Options": "nosniff"}
Prepared = tuple[Batch, Callable[[], None] | None]
"""What a call logs, and a function for the rest of the call, called in a thread once that is stored."""
PREFIXES = ("/api/2.0/mlflow/", "/ajax-api/2.0/mlflow/")


def _never(given: Any) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Route:
    """`answer` is called in a thread; `log` prepares, on the event loop, what the writer stores.

    `is_long` returns whether a request reads very many rows. If `answer` returns None, `stream` makes the response in
    pieces. Parts of `path` in braces are fields of the request. `lone` is for the route that logs one parameter: MLflow
    has another message for its conflict.
    """

    method: str
    path: str
    takes: type[Struct]
    answer: Callable[[Bridge, Any], bytes | None] | None = None
    log: Callable[[Bridge, Any], Prepared] | None = None
    lone: bool = False
    is_long: Callable[[Any], bool] = _never
    stream: Callable[[Bridge, Any, FairLock], Pieces] | None = None


def get(
    path: str,
    takes: type[S],
    answer: Callable[[Bridge, S], bytes | None],
    *,
    is_long: Callable[[S], bool] = _never,
    stream: Callable[[Bridge, S, FairLock], Pieces] | None = None,
) -> Route:
    """A GET route."""
    return Route("GET", path, takes, answer, is_long=is_long, stream=stream)


def post(
    path: str, takes: type[S], answer: Callable[[Bridge, S], bytes], *, is_long: Callable[[S], bool] = _never
) -> Route:
    """A POST route."""
    return Route("POST", path, takes, answer, is_long=is_long)


def log(path: str, takes: type[S], prepare: Callable[[Bridge, S], Prepared], *, lone: bool = False) -> Route:
    """A POST route through which clients log: it answers once the writer's group is committed."""
    return Route("POST", path, takes, log=prepare, lone=lone)


class Table:
    """Endpoints by method and path, under both of MLflow's prefixes. A path without fields is one lookup in `fixed`."""

    def __init__(self, routes: Iterable[Route], services: Services, bridge: Bridge) -> None:
        self.fixed: dict[tuple[str, str], ASGIApp] = {}
        self._open: list[tuple[str, re.Pattern[str], ASGIApp]] = []
        for route in routes:
            handle = _handle(route, services, bridge)
            endpoint = (
                endpoints.get_endpoint(route.takes, handle)
                if route.method == "GET"
                else endpoints.body_endpoint(route.takes, handle, services.intake)
            )
            for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
                self._add(method, route.path, endpoint)

    def _add(self, method: str, path: str, endpoint: ASGIApp) -> None:
        for prefix in PREFIXES:
            if "{" in path:
                pattern = re.escape(prefix) + re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path) + r"\Z"
                self._open.append((method, re.compile(pattern), endpoint))
            else:
                self.fixed[method, prefix + path] = endpoint

    def match(self, scope: Scope) -> ASGIApp | None:
        """The endpoint of a path with fields; the fields are put into the scope."""
        for method, pattern, endpoint in self._open:
            if method == scope["method"] and (found := pattern.match(scope["path"])):
                scope[endpoints.FIELDS] = found.groupdict()
                return endpoint
        return None


def _handle(route: Route, services: Services, bridge: Bridge) -> Callable[[Any], Awaitable[bytes | LongAnswer]]:
    if route.log is not None:
        prepare, append, lone = route.log, services.writer.append, route.lone

        async def store(given: Any) -> bytes:
            try:
                batch, more = prepare(bridge, given)
                await append(batch)
            except TrackerError as error:
                raise mlflow_error(error, lone=lone) from error
            if more is not None:
                await services.ask(more)
            return NOTHING

        return store
    answer, is_long, stream = route.answer, route.is_long, route.stream
    assert answer is not None

    async def ask(given: Any) -> bytes | LongAnswer:
        found = await services.ask(lambda: answer(bridge, given), long=is_long(given))
        if found is not None:
            return found
        assert stream is not None
        return await services.stream(lambda turns: stream(bridge, given, turns), JSON, _PLAIN)

    return ask
