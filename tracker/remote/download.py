"""Download of a file from a tracking server to disk; an interrupted download is continued where it ended."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from tracker.domain.errors import ArtifactError, StoreError, StoreUnavailable
from tracker.remote.answers import Answer
from tracker.remote.connection import Server

PATIENCE_S = 30.0
"""Seconds without progress of a download (the server restarts or is unavailable) before that is an outage."""
PROGRESS = 1024 * 1024
"""Bytes that count as progress, as does the end of the file."""
_LONGEST_PAUSE_S = 2.0
_PLACE = re.compile(r"bytes (?P<first>\d+)-")


def download(
    server: Server,
    where: str,
    folder: Path,
    *,
    size: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[Path, str]:
    """Write the server's file at `where` to a new file in `folder`; return it and the SHA-256 of its bytes.

    `on_progress` is called with the number of bytes so far. `size` is the maximum; if it is not known the server has to
    announce the size before the first byte, and the disk must have room for it.

    Raises StoreUnavailable, at once if nothing arrived; NotFound; ArtifactError for errors in the folder, and for more
    bytes than the maximum.
    """
    with local(f"cannot write in {folder}"):
        handle, name = tempfile.mkstemp(prefix=".part-", dir=folder)
    try:
        with os.fdopen(handle, "wb", buffering=0) as file:
            digest = _Download(server, where, file, size, on_progress).whole()
            with local(f"cannot write {name}"):
                os.fsync(file.fileno())
                os.chmod(name, 0o644)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name), digest


class _Download:
    def __init__(
        self, server: Server, where: str, file: FileIO, size: int | None, on_progress: Callable[[int], None] | None
    ) -> None:
        self._server = server
        self._where = where
        self._file = file
        self._size = size
        self._on_progress = on_progress
        self._begin(None)

    def _begin(self, tag: str | None) -> None:
        """Start at the first byte of the version with the ETag `tag`."""
        self._tag = tag
        self._digest = hashlib.sha256()
        self._have = 0

    def whole(self) -> str:
        """Download the whole file, however often it is interrupted; return its SHA-256."""
        deadline, pause, mark = time.monotonic() + PATIENCE_S, 0.1, PROGRESS
        while True:
            try:
                self._more()
                return self._digest.hexdigest()
            except StoreUnavailable:
                if self._have >= mark:
                    deadline, pause, mark = time.monotonic() + PATIENCE_S, 0.1, self._have + PROGRESS
                if self._tag is None or time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _more(self) -> None:
        headers = {"Accept": "*/*"}
        if self._have and self._tag is not None:
            headers |= {"Range": f"bytes={self._have}-", "If-Range": self._tag}
        with self._server.stream("GET", self._where, headers=headers, most=sys.maxsize) as response:
            if not self._continues(response):
                self._begin(_tag(response))
                with local(f"cannot write {self._file.name}"):
                    self._file.seek(0)
                    self._file.truncate()
            most = self._most(response)
            for chunk in response.pieces():
                if self._have + len(chunk) > most:
                    raise self._damaged(most)
                self._digest.update(chunk)
                with local(f"cannot write {self._file.name}"):
                    _write_all(self._file, chunk)
                self._have += len(chunk)
                if self._on_progress is not None:
                    self._on_progress(self._have)

    def _most(self, response: Answer) -> int:
        """The maximum number of bytes in all. Raises if more are announced, or there is no maximum."""
        if self._size is not None:
            if self._have + (response.length or 0) > self._size:
                raise self._damaged(self._size)
            return self._size
        if response.length is None:
            raise StoreError(f"{self._server.url} does not say how large {self._where} is")
        with local(f"cannot write {self._file.name}"):
            free = shutil.disk_usage(self._file.fileno()).free
        if response.length > free:
            raise ArtifactError(
                f"{self._where} has {response.length} bytes more, and the disk of {self._file.name} {free} free"
            )
        return self._have + response.length

    def _damaged(self, size: int) -> ArtifactError:
        return ArtifactError(f"{self._where} is damaged: it has more than the {size} bytes that were recorded")

    def _continues(self, response: Answer) -> bool:
        """Whether the response continues the bytes that were received before."""
        place = _PLACE.match(response.getheader("Content-Range", ""))
        return response.status == 206 and place is not None and int(place["first"]) == self._have


def _tag(response: Answer) -> str | None:
    """The response's strong ETag, None if it has none or the server does not support ranges."""
    tag = response.getheader("ETag", "")
    return tag if tag.startswith('"') and response.getheader("Accept-Ranges") == "bytes" else None


def _write_all(file: FileIO, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]


@contextmanager
def local(doing: str) -> Iterator[None]:
    """Context manager that turns errors of local files into ArtifactError."""
    try:
        yield
    except OSError as error:
        raise ArtifactError(f"{doing}: {error.strerror or error}") from error
