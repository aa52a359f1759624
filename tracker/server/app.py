"""The server's ASGI application, built from its arguments."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from tracker.artifacts.local import LocalArtifacts
from tracker.server.gate import Gate, Hosts
from tracker.server.group_commit import GroupCommit
from tracker.server.metrics import Metrics
from tracker.server.mounts import Mounted, WithMounts
from tracker.server.openapi import document
from tracker.server.operations import JSON, Operation, Services, routes
from tracker.server.problem_details import HANDLERS
from tracker.server.request_body import BodyLimits
from tracker.server.request_log import Note, RequestLog
from tracker.server.roles import Rules
from tracker.server.routes import artifacts as artifact_routes
from tracker.server.routes import batches, health, runs
from tracker.server.token_auth import TokenAuth
from tracker.store.store import SqlRunStore

Around = Callable[[ASGIApp, Services], ASGIApp]
"""Makes an application that answers some requests itself and passes the others to the given one."""


def create_app(
    store: SqlRunStore,
    writer: GroupCommit,
    artifacts: LocalArtifacts,
    *,
    hosts: Hosts,
    auth: TokenAuth | None = None,
    intake: BodyLimits | None = None,
    metrics: Metrics | None = None,
    query_seconds: float | None = None,
    note: Note | None = None,
    around: Around | None = None,
    mounts: Sequence[Mounted] = (),
    started: Callable[[], None] = lambda: None,
) -> ASGIApp:
    """The tracking server over `store`, written through `writer`. `started` is called when it answers.

    A request passes `RequestLog` (id, log, metrics) and the gate (host, origin, token, role). It is answered by a
    plugin's application, or by the one that `around` puts before our own routes.
    """
    metrics = metrics or Metrics()
    services = Services(
        store=store,
        writer=writer,
        artifacts=artifacts,
        intake=intake or BodyLimits(),
        metrics=metrics,
        query_seconds=query_seconds,
    )
    operations = [*batches.OPERATIONS, *runs.OPERATIONS, *artifact_routes.OPERATIONS, *health.OPERATIONS]
    operations.append(_openapi(operations))

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        started()
        yield

    native = Starlette(routes=list(routes(operations, services)), exception_handlers=HANDLERS, lifespan=life)
    native.router.redirect_slashes = False
    inner: ASGIApp = around(native, services) if around is not None else native
    rules = Rules([(mount.path, mount.reads, mount.writes) for _, mount in mounts])
    return RequestLog(Gate(WithMounts(inner, mounts) if mounts else inner, hosts, auth, rules), metrics, note)


def _openapi(operations: list[Operation]) -> Operation:
    async def handle(services: Services, request: Request) -> Response:
        return Response(msgspec.json.encode(document(operations)), media_type=JSON)

    return Operation(
        method="GET",
        path="/api/v1/openapi.json",
        summary="This document",
        handle=handle,
        content={JSON: {"schema": {"type": "object"}}},
    )
