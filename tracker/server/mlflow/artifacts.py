"""MLflow's artifact routes: files of runs and logged models in the server's artifact home."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tracker.domain.errors import NotFound
from tracker.domain.limits import is_artifact_path
from tracker.domain.records import Entry
from tracker.mlflow_bridge import record_entities
from tracker.mlflow_bridge.bridge import Bridge
from tracker.mlflow_bridge.bridge_entities import BridgeError
from tracker.mlflow_bridge.bridge_errors import as_bridge_errors
from tracker.mlflow_bridge.locations import PROXY, Locations
from tracker.server import files
from tracker.server.mlflow import mlflow_errors
from tracker.server.mlflow.decode import invalid, missing, pairs
from tracker.server.mlflow.paths import checked
from tracker.server.operations import Services

_API = r"/(?:ajax-)?api/2\.0"
_PROXIED = re.compile(rf"{_API}/mlflow-artifacts/artifacts(?:/(?P<path>.*))?\Z", re.DOTALL)
_ABSENT = re.compile(
    rf"{_API}/(?:mlflow-artifacts/(?P<what>mpu|presigned)/.*|mlflow/artifacts/presigned-.*)\Z", re.DOTALL
)
_MODEL = re.compile(rf"{_API}/mlflow/logged-models/(?P<model>[^/]+)/artifacts/(?P<what>directories|files)\Z")
_RUN_LIST = re.compile(rf"{_API}/mlflow/artifacts/list\Z")
_UPLOAD = re.compile(rf"{_API}/mlflow/upload-artifact\Z")
_MULTIPART = {"mpu": "Multipart upload", "presigned": "Multipart download"}
_LARGEST_UPLOAD = 10 * 1024 * 1024


class ForeignFiles(Exception):
    """The files are not in the server's artifact home: MLflow's application may be able to read them."""


class File(msgspec.Struct, omit_defaults=True):
    """A file or folder; empty files and folders have no size, as in MLflow."""

    path: str
    is_dir: bool = msgspec.field(default_factory=bool)
    file_size: int | None = None


@dataclass(frozen=True, slots=True)
class Artifacts:
    """Answers MLflow's routes about files. `mount` answers for runs whose files are not in the server's artifact
    home."""

    services: Services
    bridge: Bridge
    locations: Locations
    mount: ASGIApp

    def endpoint(self, scope: Scope) -> ASGIApp | None:
        """The endpoint of the request, None if it is not about files."""
        method, path = scope["method"], scope["path"]
        if found := _PROXIED.match(path):
            return self._proxied(method, found["path"])
        if found := _ABSENT.match(path):
            what = (
                f"{_MULTIPART.get(found['what'], 'Presigned URL')} is not supported for the current artifact repository"
            )
            return self._ends(lambda request: _raised(BridgeError("NOT_IMPLEMENTED", what)))
        if method in ("GET", "HEAD"):
            if path == "/get-artifact":
                return self._ends(self._of_run)
            if _RUN_LIST.match(path):
                return self._ends(self._list_run)
            if found := _MODEL.match(path):
                model, of_model = found["model"], found["what"]
                what_then = self._list_model if of_model == "directories" else self._of_model
                return self._ends(lambda request: what_then(request, model))
        if method == "POST" and _UPLOAD.match(path):
            return self._ends(self._upload)
        return None

    def _ends(self, handle: Callable[[Request], Awaitable[Response]]) -> ASGIApp:
        async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                response = await handle(Request(scope, receive))
            except ForeignFiles:
                await self.mount(scope, receive, send)
            except Exception as error:
                await mlflow_errors.error_answer(error).send(send)
            else:
                await response(scope, receive, send)

        return endpoint

    # -- by the path below mlflow-artifacts:/ ---------------------------------------------------------------------

    def _proxied(self, method: str, path: str | None) -> ASGIApp | None:
        if path is None:
            return self._ends(self._list) if method in ("GET", "HEAD") else None
        handle = {"GET": self._get, "HEAD": self._get, "PUT": self._put, "DELETE": self._delete}.get(method)
        return None if handle is None else self._ends(lambda request: handle(request, path))

    async def _list(self, request: Request) -> Response:
        owner, path = self._owner(_query(request).get("path", ""))
        # For MLflow's client: one name of an earlier version that it cannot read, and it would list nothing.
        return await self._listed(owner, path, "", listed=lambda entry: is_artifact_path(entry.path))

    async def _get(self, request: Request, path: str) -> Response:
        return await self._give(request, *self._file(path))

    async def _put(self, request: Request, path: str) -> Response:
        if path.endswith("/"):
            raise invalid("Artifact path must include a filename (cannot end with '/').")
        await files.take(self.services, request, *self._file(path))
        return Response(media_type="application/json")

    async def _delete(self, request: Request, path: str) -> Response:
        owner, inner = self._owner(path)
        await self.services.ask(lambda: self.services.artifacts.delete(owner, inner))
        return _json({})

    def _owner(self, path: str) -> tuple[str, str]:
        """The owner and the path within its files, of a path below `mlflow-artifacts:/`."""
        return self.locations.owner_of(checked(path))

    def _file(self, path: str) -> tuple[str, str]:
        owner, inner = self._owner(path)
        if not inner:
            raise invalid(f"Artifact path refers to a directory, not a file: '{path[:200]}'")
        return owner, inner

    # -- by run or logged model -----------------------------------------------------------------------------------

    async def _list_run(self, request: Request) -> Response:
        given = _query(request)
        path = checked(given.get("path", ""))
        uri = await self._place_of_run(given)
        owner, inner = self._owner_at(uri, path)
        return await self._listed(owner, inner, path, root_uri=uri)

    async def _of_run(self, request: Request) -> Response:
        given = _query(request)
        path = _named(given, "path")
        return await self._given(request, await self._place_of_run(given), path)

    async def _list_model(self, request: Request, model_id: str) -> Response:
        path = checked(_query(request).get("artifact_directory_path", ""))
        uri = await self._place_of_model(model_id)
        owner, inner = self._owner_at(uri, path)
        return await self._listed(owner, inner, path, root_uri=uri)

    async def _of_model(self, request: Request, model_id: str) -> Response:
        path = _named(_query(request), "artifact_file_path")
        return await self._given(request, await self._place_of_model(model_id), path)

    async def _upload(self, request: Request) -> Response:
        given = _query(request)
        if not given.get("run_uuid"):
            raise invalid("Request must specify run_uuid.")
        if not given.get("path"):
            raise invalid("Request must specify path.")
        path = _named(given, "path")
        owner, inner = self._owner_at(await self._place_of_run({"run_id": given["run_uuid"]}), path)
        await files.take(self.services, Request(request.scope, _bounded(request.receive)), owner, inner)
        return Response(media_type="application/json")

    async def _place_of_run(self, given: dict[str, str]) -> str:
        """The URI of the run's files as shown to clients, also for deleted runs."""
        run_id = given.get("run_id") or given.get("run_uuid")
        if not run_id:
            raise missing("run_id")

        def place() -> str:
            with as_bridge_errors():
                return record_entities.run_info(self.bridge.catalogue.runs.detail(run_id), self.locations).artifact_uri

        return await self.services.ask(place)

    async def _place_of_model(self, model_id: str) -> str:
        return (await self.services.ask(lambda: self.bridge.get_model(model_id))).artifact_uri

    def _owner_at(self, uri: str, path: str) -> tuple[str, str]:
        parts = urlsplit(uri)
        if parts.scheme != PROXY:
            raise ForeignFiles
        return self.locations.owner_of(f"{parts.path}/{path}")

    async def _given(self, request: Request, uri: str, path: str) -> Response:
        return await self._give(request, *self._owner_at(uri, path))

    async def _give(self, request: Request, owner: str, path: str) -> Response:
        try:
            return await files.give(self.services, request, owner, path)
        except NotFound:
            if await self.services.ask(lambda: self.services.artifacts.entries(owner, path)):
                raise invalid(f"Artifact path refers to a directory, not a file: '{path}'") from None
            raise

    async def _listed(
        self, owner: str, inner: str, path: str, *, listed: Callable[[Entry], bool] | None = None, **more: str
    ) -> Response:
        """The files in a folder that `listed` accepts, each named as `path` and its name."""
        found = await self.services.ask(lambda: self.services.artifacts.entries(owner, inner))
        prefix = f"{path}/" if path else ""
        files = [
            File(prefix + entry.path.rpartition("/")[2], entry.is_dir, entry.size or None)
            for entry in sorted((one for one in found if listed is None or listed(one)), key=lambda entry: entry.path)
        ]
        return _json({"files": files, **more} if files else more)


async def _raised(error: Exception) -> Response:
    raise error


def _json(answer: Any) -> Response:
    return Response(
        msgspec.json.encode(answer), headers={"X-Content-Type-Options": "nosniff"}, media_type="application/json"
    )


def _query(request: Request) -> dict[str, str]:
    """The query's parameters; of a repeated one the first counts."""
    return dict(reversed(pairs(request.scope["query_string"])))


def _named(given: dict[str, str], name: str) -> str:
    """The path of a file in a parameter."""
    path = checked(given.get(name, ""))
    if not path:
        raise missing(name)
    return path


def _bounded(receive: Receive) -> Receive:
    """A wrapped `receive` that refuses a body that is empty, or larger than the UI's uploads may be."""
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > _LARGEST_UPLOAD:
            raise invalid("Artifact size is too large. Max size is 10MB.")
        if not size and message["type"] == "http.request" and not message.get("more_body"):
            raise invalid("Request must specify data.")
        return message

    return counted
