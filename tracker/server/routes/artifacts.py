"""Files of runs, streamed through a temporary file: a file is there whole or not at all."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import mimetypes
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO
from urllib.parse import quote

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tracker.artifacts.local import path_of
from tracker.domain.errors import ArtifactError, InvalidValue, NotFound, StoreUnavailable
from tracker.domain.limits import check_artifact_path, check_run_id
from tracker.domain.ports import ArtifactHome
from tracker.server.intake import chunks
from tracker.server.operations import Operation, Services, asked, encoder, payload

_PATH = "/api/v1/runs/{run_id}/artifacts/{path:path}"
_CHUNK = 1024 * 1024
_DIGEST = "X-Tracker-SHA256"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

_SHOWN = {"image/png", "image/jpeg", "image/gif", "image/webp", "text/plain", "application/json", "text/csv"}
"""What a browser may show in place: nothing that can carry a script."""


class Stored(Struct, frozen=True):
    """Where a file is now, and the SHA-256 of its bytes in hex."""

    uri: str
    sha256: str


class FileNotThere(NotFound):
    """The run has no such file."""


async def put(services: Services, request: Request) -> Response:
    """Store the body under the path; visible when it is whole, and only if its digest is what the header says."""
    run, path = _place(request)
    await services.ask(lambda: _refuse_links(services.artifacts, run, path))
    with tempfile.TemporaryDirectory(prefix="tracker-put-") as folder:
        file = Path(folder) / "file"
        digest = await _spool(request, file)
        wanted = request.headers.get(_DIGEST)
        if wanted is not None and wanted.lower() != digest:
            raise InvalidValue(_DIGEST, f"{wanted[:80]!r}, but the bytes that came have {digest}")
        try:
            uri, sha256 = await services.ask(lambda: services.artifacts.put(run, path, file))
        except ArtifactError as error:
            raise _told(error) from error
    media_type, encode = encoder(request)
    return payload(encode(Stored(uri, sha256)), media_type, 201)


async def get(services: Services, request: Request) -> Response:
    """The file's bytes."""
    run, path = _place(request)
    file = await services.ask(lambda: _fetched(services.artifacts, run, path))
    kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
    shown = "inline" if kind in _SHOWN else "attachment"
    return StreamingResponse(
        _read(file),
        headers={
            "Content-Length": str(os.fstat(file.fileno()).st_size),
            "Content-Disposition": f"{shown}; filename*=UTF-8''{quote(path.rpartition('/')[2])}",
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "sandbox; default-src 'none'",
        },
        media_type=kind,
    )


async def list_all(services: Services, request: Request) -> Response:
    """The paths of all files of the run; none for a run that has none."""
    run = check_run_id(request.path_params["run_id"])
    return await asked(services, request, lambda: list(services.artifacts.list(run)))


def _place(request: Request) -> tuple[str, str]:
    run, path = check_run_id(request.path_params["run_id"]), request.path_params["path"]
    check_artifact_path(path.replace("{sha256}", "0" * 64))
    return run, path


def _refuse_links(artifacts: ArtifactHome, run: str, path: str) -> None:
    """InvalidValue if a symbolic link stands on the way to a local file: it may lead out of the run's folder."""
    root = artifacts.uri(run)
    if not root.startswith("file:"):
        return
    place = path_of(root)
    for name in ("", *path.split("/")):
        place = place / name
        if place.is_symlink():
            raise InvalidValue("path", f"{path[:200]!r} leads through a symbolic link")


async def _spool(request: Request, file: Path) -> str:
    """Write the body to `file`; return its SHA-256."""
    digest = hashlib.sha256()

    def write(parts: list[bytes]) -> None:
        for part in parts:
            digest.update(part)
            opened.write(part)

    waiting: list[bytes] = []
    try:
        with file.open("wb") as opened:
            async for chunk in chunks(request):
                waiting.append(chunk)
                if sum(map(len, waiting)) >= _CHUNK:
                    await asyncio.to_thread(write, waiting)
                    waiting = []
            await asyncio.to_thread(write, waiting)
    except OSError as error:
        raise _told(ArtifactError(f"cannot take the file: {error.strerror or error}"), error) from error
    return digest.hexdigest()


def _fetched(artifacts: ArtifactHome, run: str, path: str) -> IO[bytes]:
    """A copy of the file, open and without a name, so that nothing is left of it once it is closed."""
    _refuse_links(artifacts, run, path)
    with tempfile.TemporaryDirectory(prefix="tracker-get-") as folder:
        try:
            copy = artifacts.fetch(f"{artifacts.uri(run)}/{quote(path)}", Path(folder) / "file")
        except ArtifactError as error:
            raise _told(error, missing=f"run {run!r} has no artifact {path!r}") from error
        return copy.open("rb")


async def _read(file: IO[bytes]) -> AsyncIterator[bytes]:
    with file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk


def _told(error: ArtifactError, cause: BaseException | None = None, *, missing: str = "") -> Exception:
    """`error` as what the client can do about it: the file is not there, or there is no room now."""
    cause = cause or error.__cause__
    if missing and isinstance(cause, (FileNotFoundError, IsADirectoryError, NotADirectoryError)):
        return FileNotThere(missing)
    if isinstance(cause, OSError) and cause.errno in _NO_ROOM:
        return StoreUnavailable(str(error))
    if isinstance(cause, (IsADirectoryError, NotADirectoryError, FileExistsError)):
        return InvalidValue("path", str(error))
    return error


_ANY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}

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
            {
                "name": _DIGEST,
                "in": "header",
                "schema": {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"},
                "description": "The SHA-256 of the body in hex; nothing is stored if it is another.",
            }
        ],
        failures=(408, 500),
        body={"required": True, "content": _ANY},
    ),
    Operation(
        method="GET",
        path=_PATH,
        summary="A file's bytes",
        handle=get,
        content={"*/*": {"schema": {"type": "string", "format": "binary"}}},
        failures=(404, 500),
    ),
]
