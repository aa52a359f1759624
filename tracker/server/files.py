"""Upload and download of runs' files, for every route that needs it.

An upload is stored completely or not at all. A download supports ranges, has an ETag that changes with its bytes, and
is sandboxed in a browser.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import mimetypes
import os
import re
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from tracker.artifacts import safe_paths
from tracker.artifacts.local import LocalArtifacts, is_name_at_fault
from tracker.domain.errors import ArtifactError, InvalidValue, NotFound, StoreUnavailable
from tracker.domain.limits import check_artifact_path, check_run_id, check_safe_path
from tracker.server.operations import Services
from tracker.server.problem_details import Refused

DIGEST = "X-Tracker-SHA256"
_CHUNK = 1024 * 1024
_SYNC = 64 * 1024 * 1024
"""Bytes of a file that are written before it is forced to disk: many dirty pages in the kernel delay all commits."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SHOWN = {"image/png", "image/jpeg", "image/gif", "image/webp", "text/plain", "application/json", "text/csv"}
"""Media types that a browser may show inline: none that can contain a script."""
_HARMLESS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_RANGE = re.compile(r"bytes=(?P<first>\d{0,18})-(?P<last>\d{0,18})\Z", re.ASCII)


class Stored(Struct, frozen=True):
    """Address of a stored file, and the SHA-256 of its bytes in hex."""

    uri: str
    sha256: str


class FileNotThere(NotFound):
    """The run has no such file."""


async def take(services: Services, request: Request, run: str, path: str) -> Stored:
    """Store the body as the run's `path`; `{sha256}` in it stands for the digest.

    Nothing is stored if the digest differs from the header DIGEST. Refused: 408, 413.
    """
    check_run_id(run)
    check_artifact_path(path.replace("{sha256}", "0" * 64))
    home = services.artifacts
    with _file_errors(f"cannot store {path!r} of run {run}"):
        await services.ask(lambda: safe_paths.check(home.root, run, path))
        with _part(home) as part:
            digest = await _spool(services.intake.file(request), part)
            wanted = request.headers.get(DIGEST)
            if wanted is not None and wanted.lower() != digest:
                raise InvalidValue(DIGEST, f"{wanted[:80]!r}, but the bytes that came have {digest}")
            return await services.ask(lambda: _stored(home, run, path, part, digest))


def _stored(home: LocalArtifacts, run: str, path: str, part: Path, digest: str) -> Stored:
    with part.open("rb") as file:
        os.fsync(file.fileno())
    return Stored(safe_paths.adopt(home.root, run, path.replace("{sha256}", digest), part), digest)


@contextmanager
def _part(home: LocalArtifacts) -> Iterator[Path]:
    """A new temporary file for an upload, on the disk of its final place."""
    handle, name = tempfile.mkstemp(prefix="tracker-put-", dir=safe_paths.incoming(home.root))
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


async def _spool(body: AsyncIterator[bytes], part: Path) -> str:
    """Write the body to `part`; return its SHA-256."""
    digest = hashlib.sha256()

    def write(parts: list[bytes]) -> None:
        for one in parts:
            digest.update(one)
            opened.write(one)
        if opened.tell() // _SYNC > (opened.tell() - sum(map(len, parts))) // _SYNC:
            opened.flush()
            os.fsync(opened.fileno())

    waiting: list[bytes] = []
    size = 0
    with part.open("wb") as opened:
        async for chunk in body:
            waiting.append(chunk)
            size += len(chunk)
            if size >= _CHUNK:
                await asyncio.to_thread(write, waiting)
                waiting, size = [], 0
        await asyncio.to_thread(write, waiting)
    return digest.hexdigest()


async def give(services: Services, request: Request, run: str, path: str) -> Response:
    """The run's file at `path`: whole, the part that `Range` names, or 304 if the client has it. Refused: 416."""
    check_run_id(run)
    check_safe_path(path)
    with _file_errors(f"cannot read {path!r} of run {run}", missing=f"run {run!r} has no artifact {path!r}"):
        file, tag = await services.ask(lambda: _opened(services.artifacts, run, path))
    try:
        return _answer(request, file, tag, path.rpartition("/")[2])
    except BaseException:
        file.close()
        raise


def _opened(home: LocalArtifacts, run: str, path: str) -> tuple[BinaryIO, str]:
    """The file, and an ETag that is unique to these bytes under its name."""
    file = safe_paths.open_file(home.root, run, path)
    status = os.fstat(file.fileno())
    # A stored file is never modified: other bytes are another file.
    return file, f'"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"'


def _answer(request: Request, file: BinaryIO, tag: str, name: str) -> Response:
    size = os.fstat(file.fileno()).st_size
    kind, coding = mimetypes.guess_type(name)
    if kind is None or coding is not None:
        kind = "application/octet-stream"
    shown = "inline" if kind in _SHOWN else "attachment"
    headers = {
        **_HARMLESS,
        "ETag": tag,
        "Cache-Control": "private, no-cache",
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"{shown}; filename*=UTF-8''{quote(name, safe='')}",
    }
    known = request.headers.get("if-none-match")
    if known is not None and (known.strip() == "*" or tag in re.findall(r'"[^"]*"', known)):
        file.close()
        return Response(status_code=304, headers=headers)
    status, first, count = 200, 0, size
    wanted = request.headers.get("range")
    if request.method == "GET" and wanted is not None and request.headers.get("if-range", tag) == tag:
        found = _range(wanted, size)
        if found is not None:
            status, (first, count) = 206, found
            headers["Content-Range"] = f"bytes {first}-{first + count - 1}/{size}"
    headers["Content-Length"] = str(count)
    if request.method == "HEAD":
        file.close()
        return Response(status_code=status, headers=headers, media_type=kind)
    file.seek(first)
    return _Slice(file, count, status, headers, kind)


def _range(wanted: str, size: int) -> tuple[int, int] | None:
    """First byte and count; None for ranges that are ignored (several ranges, other units). Refused: 416."""
    found = _RANGE.match(wanted.strip())
    if found is None or not (found["first"] or found["last"]):
        return None
    if found["first"]:
        first = int(found["first"])
        last = min(int(found["last"] or size - 1), size - 1)
        if found["last"] and int(found["last"]) < first:
            return None
    else:
        first, last = max(size - int(found["last"]), 0), size - 1
    if first > last:
        raise Refused(
            416, wanted[:80], field="Range", limit=f"{size} bytes", headers={"Content-Range": f"bytes */{size}"}
        )
    return first, last - first + 1


class _Slice(StreamingResponse):
    """Response of `count` bytes of `file` from its position; it closes the file, also after an error."""

    def __init__(self, file: BinaryIO, count: int, status: int, headers: dict[str, str], kind: str) -> None:
        super().__init__(self._pieces(count), status, headers, media_type=kind)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()

    async def _pieces(self, count: int) -> AsyncIterator[bytes]:
        while count and (piece := await asyncio.to_thread(self._file.read, min(count, _CHUNK))):
            count -= len(piece)
            yield piece


@contextmanager
def _file_errors(doing: str, *, missing: str = "") -> Iterator[None]:
    """Translate errors of files into those that a client can act on: no such file, no space, a bad name."""
    try:
        yield
    except (OSError, UnicodeEncodeError, ArtifactError) as error:
        cause = error.__cause__ if isinstance(error, ArtifactError) else error
        said = str(error) if isinstance(error, ArtifactError) else f"{doing}: {getattr(error, 'strerror', '') or error}"
        if missing and isinstance(cause, (FileNotFoundError, IsADirectoryError, NotADirectoryError)):
            raise FileNotThere(missing) from error
        if isinstance(cause, OSError) and cause.errno in _NO_ROOM:
            raise StoreUnavailable(said) from error
        if is_name_at_fault(cause):
            raise InvalidValue("path", said) from error
        raise ArtifactError(said) from error
