"""Routes for files of runs: upload, download, list."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from tracker.domain.limits import check_run_id
from tracker.server.files import DIGEST, Stored, give, take
from tracker.server.operations import Operation, Services, asked, encoder, payload
from tracker.server.own_addresses import OwnAddresses

_PATH = "/api/v1/runs/{run_id}/artifacts/{path:path}"


async def put(services: Services, request: Request) -> Response:
    """Store the body under the path; it becomes visible when it is complete and its SHA-256 is that of the header."""
    stored = await take(services, request, request.path_params["run_id"], request.path_params["path"])
    media_type, encode = encoder(request)
    uri = OwnAddresses.of(request).file(request.path_params["run_id"], stored.uri)
    return payload(encode(replace(stored, uri=uri)), media_type, 201)


async def get(services: Services, request: Request) -> Response:
    """Send the file's bytes."""
    return await give(services, request, request.path_params["run_id"], request.path_params["path"])


async def list_all(services: Services, request: Request) -> Response:
    """List the paths of all files of the run."""
    run = check_run_id(request.path_params["run_id"])
    return await asked(services, request, lambda: list(services.artifacts.list(run)))


def _header(name: str, description: str, **more: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "schema": {"type": "string", **more}, "description": description}


_ANY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_BYTES = {"*/*": {"schema": {"type": "string", "format": "binary"}}}

OPERATIONS = [
    Operation(
        method="GET",
        path="/api/v1/runs/{run_id}/artifacts",
        summary="The paths of the run's files",
        handle=list_all,
        answers=list[str],
    ),
    Operation(
        method="PUT",
        path=_PATH,
        summary="Store a file; `{sha256}` in the path stands for its digest",
        handle=put,
        answers=Stored,
        status=201,
        headers=[
            _header(
                DIGEST,
                "The SHA-256 of the body in hex; nothing is stored if it is another.",
                pattern="^[0-9a-fA-F]{64}$",
            )
        ],
        failures=(408, 413, 500),
        body={"required": True, "content": _ANY},
    ),
    Operation(
        method="GET",
        path=_PATH,
        summary="A file's bytes",
        handle=get,
        content=_BYTES,
        headers=[
            _header("Range", "One range of bytes, like `bytes=1000-`; anything else is ignored."),
            _header("If-Range", "The ETag of the file to be gone on with; of another one, all is sent."),
            _header("If-None-Match", "ETags of what the client has."),
        ],
        also={
            "206": {"description": "The part that was asked for.", "content": _BYTES},
            "304": {"description": "The client has it."},
        },
        failures=(404, 416, 500),
    ),
]
