"""Whether the server is up, whether it can do its work, and what it has done so far."""

from __future__ import annotations

import logging

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tracker.domain.errors import StoreUnavailable, TrackerError
from tracker.server.metrics import MEDIA_TYPE
from tracker.server.operations import JSON, Operation, Services
from tracker.server.problem_details import RETRY_AFTER_S, Refused

log = logging.getLogger("tracker.server")

_PATIENCE_S = 5.0
_RETRY = {"Retry-After": str(RETRY_AFTER_S)}


class Health(msgspec.Struct, frozen=True):
    """How it is."""

    status: str


async def alive(services: Services, request: Request) -> Response:
    """Answers while the process does."""
    return Response(msgspec.json.encode(Health("ok")), media_type=JSON)


async def ready(services: Services, request: Request) -> Response:
    """Answers 200 if the store would take a write within seconds, else 503.

    Strangers may ask, so the answer is yes or no. The server's log has what is in the way, once for each outage.
    """
    try:
        with anyio.move_on_after(_PATIENCE_S) as scope:
            await anyio.to_thread.run_sync(services.store.ready, abandon_on_cancel=True, limiter=services.probes)
        if scope.cancelled_caught:
            raise StoreUnavailable(f"the store has not answered for {_PATIENCE_S:g} seconds")
    except TrackerError as error:
        if services.readiness.is_ready:
            log.warning("not ready: %s", error)
        services.readiness.is_ready = False
        raise Refused(503, "the server takes no writes now; its log says why", headers=_RETRY) from error
    if not services.readiness.is_ready:
        log.warning("ready again")
    services.readiness.is_ready = True
    return Response(msgspec.json.encode(Health("ready")), media_type=JSON)


async def metrics(services: Services, request: Request) -> Response:
    """What all processes of the server counted, for Prometheus."""
    return Response(services.metrics.text(), headers={"Content-Type": MEDIA_TYPE})


OPERATIONS = [
    Operation(method="GET", path="/healthz", summary="Whether the process is up", handle=alive, answers=Health),
    Operation(method="GET", path="/readyz", summary="Whether a write would be taken", handle=ready, answers=Health),
    Operation(
        method="GET",
        path="/metrics",
        summary="What the server counts, in Prometheus' text format",
        handle=metrics,
        content={"text/plain": {"schema": {"type": "string"}}},
    ),
]
