"""Artifact home behind a tracking server.

A run makes one when it starts, and uses it on the shipper's thread, where its dependencies are imported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar
from urllib.parse import quote, unquote, urlsplit

import msgspec

from tracker.domain.errors import ArtifactError, InvalidValue, NotFound, StoreError, StoreUnavailable
from tracker.domain.limits import check_run_id
from tracker.domain.store_url import shown
from tracker.remote.address import API, artifact_path, run_path

if TYPE_CHECKING:
    from tracker.remote.connection import Server

T = TypeVar("T")

_OURS = re.compile(rf".*{API}/runs/(?P<run>[^/]+)/artifacts/(?P<path>.+)\Z")


class _Stored(msgspec.Struct):
    uri: str
    sha256: str


class HttpArtifacts:
    """ArtifactHome (see `tracker.domain.ports`) over HTTP; StoreUnavailable while the server does not answer.

    `uri` and `put` return addresses on the server. `fetch` accepts these, and the file's address on the server's disk,
    which earlier versions of the server returned and which journals may have.
    """

    def __init__(self, url: str) -> None:
        """Sends no request yet."""
        self._url = url
        self._shown = shown(url)
        self._home = ""

    @cached_property
    def _server(self) -> Server:
        from tracker.remote.connection import Server

        return Server(self._url)

    def uri(self, run_id: str) -> str:
        return self._shown + run_path(check_run_id(run_id), "artifacts")

    def put(self, run_id: str, path: str, source: Path, *, final: bool = False) -> tuple[str, str]:
        from tracker.remote.download import local

        target = artifact_path(run_id, path, new=True)
        doing = f"cannot store {path!r}: {source}"
        with local(doing):
            size, digest = _measure(source)

        def opened() -> BinaryIO:
            with local(doing):
                return source.open("rb")

        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(size),
            "X-Tracker-SHA256": digest,
        }
        try:
            with self._server.stream("PUT", target, body=opened, headers=headers) as response:
                stored = self._read(response.whole(), _Stored)
        except NotFound as error:
            raise StoreError(f"{self._shown} is not a tracking server of this version: {error}") from error
        if stored.sha256 != digest:
            raise ArtifactError(f"{path!r} did not arrive whole: its SHA-256 is {stored.sha256} there, {digest} here")
        self._learn(stored.uri, f"/{run_id}/{path.replace('{sha256}', digest)}")
        return stored.uri, digest

    def fetch(
        self,
        uri: str,
        target: Path,
        *,
        sha256: str | None = None,
        size: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> Path:
        from tracker.remote.download import download, local

        try:
            run_id, path = self._place(uri)
            where = artifact_path(run_id, path)
        except InvalidValue as error:
            raise ArtifactError(f"{uri!r} is not a file of a run: {error}") from error
        try:
            part, digest = download(self._server, where, target.parent, size=size, on_progress=on_progress)
        except NotFound as error:
            raise ArtifactError(f"{uri} is not there: {error}") from error
        if sha256 is not None and digest != sha256:
            part.unlink(missing_ok=True)
            raise ArtifactError(f"{uri} is damaged: its SHA-256 is {digest}, recorded was {sha256}")
        with local(f"cannot write {target}"):
            try:
                os.replace(part, target)
            except OSError:
                part.unlink(missing_ok=True)
                raise
        return target

    def list(self, run_id: str) -> Sequence[str]:
        from tracker.remote.answers import RECORDS

        answer = self._server.ask("GET", run_path(check_run_id(run_id), "artifacts"), most=RECORDS)
        return self._read(answer, list[str])

    def _read(self, answer: bytes, type: type[T]) -> T:
        from tracker.wire.record_codec import from_msgpack

        try:
            return from_msgpack(answer, type)
        except InvalidValue as error:
            raise StoreUnavailable(f"{self._shown} gave an answer that cannot be read: {error}") from error

    def _place(self, uri: str) -> tuple[str, str]:
        """The run and the path of `uri`: an address on the server, or one on the server's disk."""
        parts = urlsplit(uri)
        if parts.scheme in ("http", "https"):
            if found := _OURS.fullmatch(parts.path):
                return unquote(found["run"]), unquote(found["path"])
            raise ArtifactError(f"{uri!r} is not a file on {self._shown}")
        # An address on the server's disk: its home, the run's id, the path.
        if self._home and uri.startswith(f"{self._home}/"):
            run_id, _, path = uri.removeprefix(f"{self._home}/").partition("/")
            return unquote(run_id), unquote(path)
        for index, name in enumerate(names := uri.split("/")):
            if index > 2 and (root := self._root_of(unquote(name))) is not None:
                if root.startswith("file:"):  # it tells its folders
                    if root != "/".join(names[: index + 1]):
                        continue
                    self._learn(root, f"/{unquote(name)}")
                return unquote(name), unquote("/".join(names[index + 1 :]))
        raise ArtifactError(f"{uri!r} is not a file of a run on {self._shown}")

    def _root_of(self, run_id: str) -> str | None:
        from tracker.domain.records import Run
        from tracker.remote.answers import RECORDS

        try:
            answer = self._server.ask("GET", run_path(check_run_id(run_id)), most=RECORDS)
            return self._read(answer, Run).artifact_uri
        except (InvalidValue, NotFound):
            return None

    def _learn(self, uri: str, ending: str) -> None:
        if unquote(uri).endswith(ending):
            self._home = uri[: -len(quote(ending))]


def _measure(source: Path) -> tuple[int, str]:
    """Size and SHA-256: the server stores only a file that agrees with them."""
    import hashlib

    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest
