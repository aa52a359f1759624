"""MLflow's own application, adapted to Tracker's stores and files. Importing this module does not import MLflow."""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

from starlette.types import ASGIApp

from tracker.artifacts.local import LocalArtifacts
from tracker.mlflow_bridge.bridge import Bridge
from tracker.mlflow_bridge.locations import Locations
from tracker.server.mlflow import malformed_requests

_SETTINGS = {
    # MLflow takes it as the sign of a server. Without it, it contacts other servers at a client's request.
    "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
    "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ENABLE_AI_GATEWAY": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_WORKSPACES": "false",
    # The gate has checked Host and Origin already, with this server's names.
    "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true",
}
"""Environment variables that MLflow reads when it is imported."""


def load(home: LocalArtifacts, bridge: Bridge, locations: Locations, url: str) -> ASGIApp:
    """MLflow's application over `bridge`, the files in `home`, and the model registry next to the store at `url`."""
    os.environ.update(_SETTINGS, _MLFLOW_SERVER_ARTIFACT_DESTINATION=locations.root)
    _without_auth()
    import mlflow
    from mlflow.server import app as flask_app
    from mlflow.server import handlers

    from tracker.mlflow_bridge.plugin import install, make_registry_store
    from tracker.server.mlflow.artifact_repository import HomeRepository

    handlers._tracking_store = install(bridge, url)
    handlers._model_registry_store = make_registry_store(f"tracker+{url}")
    handlers._artifact_repo = HomeRepository(home, locations)
    _read_allowed_places_only(handlers, locations)
    # MLflow's own code sometimes calls the server as a client.
    mlflow.set_tracking_uri(f"tracker+{url}")
    mlflow.set_registry_uri(f"tracker+{url}")
    _finite_graphql()
    malformed_requests.install(flask_app)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "starlette.middleware.wsgi is deprecated")
        from mlflow.server.fastapi_app import app

    return app  # type: ignore[no-any-return]


def _without_auth() -> None:
    """Install a stub of MLflow's auth module: MLflow imports it at every search, and a failed import costs 2 ms."""
    stub = ModuleType("mlflow.server.auth")
    stub.auth_config = None  # type: ignore[attr-defined]
    sys.modules.setdefault("mlflow.server.auth", stub)


def _read_allowed_places_only(handlers: Any, locations: Locations) -> None:
    """Read files, with this server's credentials, only from locations that `locations` allow.

    A run, model or version may have been recorded without this server, by somebody who reads it with other credentials,
    or by somebody who can write the database and wants to read this machine's files.
    """
    from tracker.mlflow_bridge.convert import mlflow_exceptions

    def checked(function: Callable[..., Any]) -> Callable[..., Any]:
        def allowed(uri: str, *args: Any, **kwargs: Any) -> Any:
            with mlflow_exceptions():
                locations.check_read(uri)
            return function(uri, *args, **kwargs)

        return allowed

    # Each route asks the first one before it reads.
    for name in (
        "_is_servable_proxied_run_artifact_root",
        "_get_artifact_repository_for_uri",
        "get_artifact_repository",
    ):
        setattr(handlers, name, checked(getattr(handlers, name)))


def _finite_graphql() -> None:
    """Replace infinity by the largest float in GraphQL, which cannot express it; MLflow's own store does the same."""
    from graphql import GraphQLFloat

    write = GraphQLFloat.serialize

    def finite(value: Any) -> Any:
        return write(
            math.copysign(sys.float_info.max, value) if isinstance(value, float) and math.isinf(value) else value
        )

    GraphQLFloat.serialize = finite  # type: ignore[method-assign]
