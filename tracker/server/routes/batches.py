"""Route for batches of clients, which the writer's thread commits."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from urllib.parse import quote, unquote

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from tracker.client.transport import at_home
from tracker.domain.errors import InvalidValue
from tracker.domain.frames import Ack, Batch, CheckpointLogged
from tracker.domain.limits import check_safe_path
from tracker.domain.ports import ArtifactHome
from tracker.remote.address import run_path
from tracker.server.operations import MSGPACK, Operation, Services, encoder, payload
from tracker.server.problem_details import Refused, Unreadable
from tracker.server.request_body import codings
from tracker.wire.batch_codec import decode_batch

_LARGE = 128 * 1024
"""Bodies above it are decoded in a thread, so that other requests need not wait for milliseconds."""


async def post_batch(services: Services, request: Request) -> Response:
    """Commit a batch; answer once it is on disk. Sending it again changes nothing."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != MSGPACK:
        raise Refused(415, f"Content-Type {given!r}", field="Content-Type", limit=MSGPACK)
    async with services.intake.body(request) as body:
        try:
            batch = decode_batch(body) if len(body) <= _LARGE else await asyncio.to_thread(decode_batch, body)
        except InvalidValue as error:
            raise Unreadable(error) from error
        ack = await services.writer.append(own_files(at_home(batch, services.artifacts), services.artifacts))
    media_type, encode = encoder(request)
    return payload(encode(ack), media_type)


def own_files(batch: Batch, artifacts: ArtifactHome) -> Batch:
    """Return `batch` with the addresses of its checkpoints' files on this server, whatever addresses the client sent.

    The files were uploaded before the batch. The file that a row names is read, shown and removed later, so it must be
    one of the run's.
    """
    if not any(isinstance(item, CheckpointLogged) and item.uri for _, item in batch.items):
        return batch
    root = artifacts.uri(batch.run_id)
    items = [(number, _own_file(item, batch.run_id, root) if isinstance(item, CheckpointLogged) else item)
             for number, item in batch.items]  # fmt: skip
    return replace(batch, items=items)


def _own_file(item: CheckpointLogged, run_id: str, root: str) -> CheckpointLogged:
    if not item.uri:
        return item
    _, found, path = item.uri.partition(f"{run_path(run_id, 'artifacts')}/")
    if not found and item.uri.startswith(f"{root}/"):
        path = item.uri[len(root) + 1 :]
    with suppress(InvalidValue):
        return replace(item, uri=f"{root}/{quote(check_safe_path(unquote(path)))}")
    return replace(item, uri=f"{root}/{quote(item.file.path.replace('{sha256}', item.sha256))}")


OPERATIONS = [
    Operation(
        method="POST",
        path="/api/v1/batches",
        summary="Apply a batch of a journal's frames, exactly once",
        handle=post_batch,
        answers=Ack,
        headers=[
            {
                "name": "Content-Encoding",
                "in": "header",
                "schema": {"enum": list(codings())},
                "description": "How the body is compressed; the limit of its size holds for what it says.",
            }
        ],
        failures=(404, 408, 409, 413, 415, 422),
        takes=Batch,
    )
]
