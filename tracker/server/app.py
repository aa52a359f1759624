"""The application: a value built from its arguments."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from tracker.domain.ports import ArtifactHome, RunStore
from tracker.server.access import HostCheck, Hosts
from tracker.server.intake import Intake
from tracker.server.openapi import document
from tracker.server.operations import JSON, Operation, Services, routes
from tracker.server.problems import HANDLERS
from tracker.server.routes import artifacts as artifact_routes
from tracker.server.routes import batches, health, runs
from tracker.server.writer import Writer


def create_app(
    store: RunStore,
    writer: Writer,
    artifacts: ArtifactHome,
    *,
    hosts: Hosts,
    intake: Intake | None = None,
    started: Callable[[], None] = lambda: None,
) -> Starlette:
    """The tracking server over `store`, written through `writer`. `started` is called when it answers."""
    services = Services(store=store, writer=writer, artifacts=artifacts, intake=intake or Intake())
    operations = [*batches.OPERATIONS, *runs.OPERATIONS, *artifact_routes.OPERATIONS, *health.OPERATIONS]
    operations.append(_openapi(operations))

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        started()
        yield

    app = Starlette(
        routes=list(routes(operations, services)),
        middleware=[Middleware(HostCheck, hosts=hosts)],
        exception_handlers=HANDLERS,
        lifespan=life,
    )
    app.router.redirect_slashes = False
    return app


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
