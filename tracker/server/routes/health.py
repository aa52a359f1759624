"""Whether the server is up, whether it can do its work, and what it has done so far."""

from __future__ import annotations

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tracker.domain.errors import StoreUnavailable
from tracker.server.metrics import MEDIA_TYPE
from tracker.server.operations import JSON, Operation, Services

_PATIENCE_S = 5.0


class Health(msgspec.Struct, frozen=True):
    """How it is."""

    status: str


async def alive(services: Services, request: Request) -> Response:
    """Answers while the process does."""
    return Response(msgspec.json.encode(Health("ok")), media_type=JSON)


async def ready(services: Services, request: Request) -> Response:
    """Answers 200 if the store does, within seconds."""
    with anyio.move_on_after(_PATIENCE_S) as scope:
        await anyio.to_thread.run_sync(services.store.experiments, abandon_on_cancel=True, limiter=services.probes)
    if scope.cancelled_caught:
        raise StoreUnavailable(f"the store has not answered for {_PATIENCE_S:g} seconds")
    return Response(msgspec.json.encode(Health("ready")), media_type=JSON)


async def metrics(services: Services, request: Request) -> Response:
    """What all processes of the server counted, for Prometheus."""
    return Response(services.metrics.text(), headers={"Content-Type": MEDIA_TYPE})


OPERATIONS = [
    Operation(method="GET", path="/healthz", summary="Whether the process is up", handle=alive, answers=Health),
    Operation(method="GET", path="/readyz", summary="Whether the store answers", handle=ready, answers=Health),
    Operation(
        method="GET",
        path="/metrics",
        summary="What the server counts, in Prometheus' text format",
        handle=metrics,
        content={"text/plain": {"schema": {"type": "string"}}},
    ),
]
