"""Operations of the HTTP API as values: each becomes a route, all together the OpenAPI document."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tracker.artifacts.local import LocalArtifacts
from tracker.domain.deadlines import query_deadline
from tracker.domain.errors import InvalidValue, RunNotFound
from tracker.domain.limits import check_run_id
from tracker.server.fair_lock import FairLock
from tracker.server.group_commit import GroupCommit
from tracker.server.long_answers import LongAnswer, Pieces
from tracker.server.metrics import Metrics
from tracker.server.own_addresses import OwnAddresses
from tracker.server.read_concurrency import ReadConcurrency
from tracker.server.request_body import BodyLimits
from tracker.store.store import SqlRunStore
from tracker.wire.batch_codec import invalid
from tracker.wire.record_codec import to_json, to_msgpack

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)
MSGPACK = "application/msgpack"
JSON = "application/json"
SHORT_ROWS = 100_000
"""Points of a history up to which it is read and answered in memory."""
SHORT_PAGE = 1000
"""Runs of a page up to which a search is a short read."""
HEADERS = {"Vary": "Accept", "X-Content-Type-Options": "nosniff"}
"""Headers of responses in JSON or MessagePack."""


@dataclass(slots=True)
class Readiness:
    """Whether the store would have taken a write when `/readyz` last asked it."""

    is_ready: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Dependencies of the routes. The store is read in threads, never on the event loop; `reads` bounds how many.

    Each query has `query_seconds`, None for no limit.
    """

    store: SqlRunStore
    writer: GroupCommit
    artifacts: LocalArtifacts
    intake: BodyLimits = field(default_factory=BodyLimits)
    metrics: Metrics = field(default_factory=Metrics)
    query_seconds: float | None = None
    reads: ReadConcurrency = field(default_factory=ReadConcurrency)
    threads: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(math.inf))
    """Unbounded: `reads` bounds how many are in use."""
    probes: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(2))
    readiness: Readiness = field(default_factory=Readiness)

    async def ask(self, question: Callable[[], T], *, long: bool = False) -> T:
        """Call `question` in a thread and return its result; `long` takes a slot of long reads, for very many rows.

        QueryTimeout if it reads for too long; Refused if no slot was free in time.
        """
        async with (self.reads.long if long else self.reads.short).place():
            return await self._in_thread(question)

    async def stream(
        self, make: Callable[[FairLock], Pieces], media_type: str, headers: Mapping[str, str]
    ) -> LongAnswer:
        """A response of the pieces that `make` reads; it occupies a slot of long reads until the client has them all.

        `make` holds the given lock while it is busy.
        """
        slots = self.reads.long
        client = await slots.enter()
        try:
            made = await self._in_thread(lambda: make(self.reads.fair_lock))
        except BaseException:
            slots.leave(client)
            raise
        return LongAnswer(made, self.reads.fair_lock, lambda: slots.leave(client), media_type, headers)

    async def _in_thread(self, question: Callable[[], T]) -> T:
        def asked() -> T:
            with query_deadline(self.query_seconds):
                return question()

        return await anyio.to_thread.run_sync(asked, limiter=self.threads)


Handler = Callable[[Services, Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path. `answers` is the type of its result, None for no result.

    `query` has its query parameters as fields. `failures` are the statuses of its problems, except those that any
    operation may have. `takes` is the type of its body in MessagePack; `body` and `content` are OpenAPI objects for a
    request and a response that are no records, `also` for the responses of other statuses.
    """

    method: str
    path: str
    summary: str
    handle: Handler
    answers: Any = None
    takes: Any = None
    status: int = 200
    query: type[msgspec.Struct] | None = None
    headers: Sequence[Mapping[str, Any]] = ()
    failures: Sequence[int] = ()
    body: Mapping[str, Any] | None = None
    content: Mapping[str, Any] | None = None
    also: Mapping[str, Any] = field(default_factory=dict)


def routes(operations: Sequence[Operation], services: Services) -> list[Route]:
    """One route a path, so that the response to an unsupported method names all supported ones."""
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    return [_route(path, by_method, services) for path, by_method in by_path.items()]


def _route(path: str, by_method: Mapping[str, Operation], services: Services) -> Route:
    async def endpoint(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await by_method[method].handle(services, request)

    return Route(path, endpoint, methods=list(by_method))


def run_id(request: Request) -> str:
    """The run id of the path; RunNotFound if it is malformed."""
    given: str = request.path_params["run_id"]
    try:
        return check_run_id(given)
    except InvalidValue:
        raise RunNotFound(given) from None


def query(request: Request, kind: type[S]) -> S:
    """The query parameters as a `kind`, a Struct whose lists are parameters that may be repeated."""
    known = {one.name: one for one in msgspec.structs.fields(kind)}
    given: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise InvalidValue(name[:100], "no such parameter", limit=", ".join(known) or "none")
        if "\x00" in value:
            raise InvalidValue(name, "a NUL character, which no store keeps")
        if "list" in str(known[name].type):
            given.setdefault(name, []).append(value)
        elif name in given:
            raise InvalidValue(name, "given twice", limit="once")
        else:
            given[name] = value
    try:
        found = msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise invalid(error, "query") from None
    for name, value in given.items():
        if getattr(found, name) is None:
            raise InvalidValue(name, f"{value!r}; to give none, leave the parameter out")
    return found


def encoder(request: Request) -> tuple[str, Callable[[Any], bytes]]:
    """The media type that the client accepts, and its encoder: JSON unless it names MessagePack."""
    wants_msgpack = "msgpack" in request.headers.get("accept", "")
    return (MSGPACK, to_msgpack) if wants_msgpack else (JSON, to_json)


def payload(body: bytes, media_type: str, status: int = 200) -> Response:
    """`body` as a response of `media_type`, one of the two of each path."""
    return Response(body, status, HEADERS, media_type=media_type)


async def asked(services: Services, request: Request, question: Callable[[], Any], *, long: bool = False) -> Response:
    """The result of `question` as a response; called and encoded in a thread, as both may be slow. See `Services.ask`.

    Files on the server's disk get their addresses on the server.
    """
    media_type, encode = encoder(request)
    own, run = OwnAddresses.of(request), request.path_params.get("run_id", "")
    return payload(await services.ask(lambda: encode(own.shown(question(), run)), long=long), media_type)
