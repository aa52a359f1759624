"""Requests of clients and the UI about the server itself; the responses are constant while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import Any

import msgspec
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tracker.server.mlflow import mlflow_errors
from tracker.server.mlflow.lazy_app import installed

_INFO: Mapping[str, Any] = {
    "store_type": None,
    "workspaces_enabled": False,
    "trace_archival_enabled": False,
    "multipart_uploads_enabled": False,
    "multipart_downloads_enabled": False,
    "presigned_upload_run_id_supported": False,
    "presigned_upload_model_id_supported": False,
    "features_enabled": {"gateway": False},
}
"""The server's stores, and features that it does not have."""

_NO_TELEMETRY: Mapping[str, Any] = {
    "disable_ui_telemetry": True,
    "disable_ui_events": [],
    "ui_rollout_percentage": 0,
}


def _says(answer: Any) -> ASGIApp:
    body = msgspec.json.encode(answer)

    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
        await mlflow_errors.answer(send, body)

    return endpoint


async def _version(scope: Scope, receive: Receive, send: Send) -> None:
    version = _mlflow_version()
    if version is None:
        await mlflow_errors.refusal("NOT_IMPLEMENTED", "MLflow is not installed here").send(send)
    else:
        await PlainTextResponse(version)(scope, receive, send)


@cache
def _mlflow_version() -> str | None:
    return metadata.version("mlflow") if installed() else None


# The table of runs requests the list of gateways and shows a failure; every request for gateways gets none.
_GATEWAYS = "/ajax-api/2.0/mlflow/gateway-proxy"
_TELEMETRY = "/ajax-api/3.0/mlflow/ui-telemetry"
_ASKED: Mapping[str, ASGIApp] = {
    "/health": PlainTextResponse("OK"),
    "/version": _version,
    "/api/3.0/mlflow/server-info": _says(_INFO),
    "/ajax-api/3.0/mlflow/server-info": _says(_INFO),
    _TELEMETRY: _says(_NO_TELEMETRY),
    _GATEWAYS: _says({"endpoints": []}),
}
ABOUT: Mapping[tuple[str, str], ASGIApp] = {
    **{(method, path): endpoint for path, endpoint in _ASKED.items() for method in ("GET", "HEAD")},
    ("POST", _TELEMETRY): _says({"status": "disabled"}),
}
"""Endpoints by method and path."""
