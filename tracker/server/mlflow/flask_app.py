"""MLflow's own application, made to work on our stores and files. Importing this imports nothing of MLflow's."""

from __future__ import annotations

import math
import os
import sys
import warnings
from types import ModuleType
from typing import Any

from starlette.types import ASGIApp

from tracker.domain.ports import ArtifactHome
from tracker.mlflow_bridge.bridge import Bridge
from tracker.mlflow_bridge.locations import Locations
from tracker.server.mlflow import misread

_SETTINGS = {
    # MLflow takes it for a server's sign, without which it asks other servers on a client's word.
    "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
    "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ENABLE_AI_GATEWAY": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_WORKSPACES": "false",
    # Host and Origin are checked before every route already, with the names that this server was given.
    "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true",
}
"""What MLflow reads when it is imported."""


def load(home: ArtifactHome, bridge: Bridge, locations: Locations, url: str) -> ASGIApp:
    """MLflow's application over `bridge`, the files in `home`, and the model registry beside the store at `url`."""
    os.environ.update(_SETTINGS, _MLFLOW_SERVER_ARTIFACT_DESTINATION=locations.root)
    _without_auth()
    import mlflow
    from mlflow.server import app as flask_app
    from mlflow.server import handlers

    from tracker.mlflow_bridge.plugin import install, make_registry_store
    from tracker.server.mlflow.repository import HomeRepository

    handlers._tracking_store = install(bridge, url)
    handlers._model_registry_store = make_registry_store(f"tracker+{url}")
    handlers._artifact_repo = HomeRepository(home, locations)
    _read_allowed_versions_only(handlers._model_registry_store, locations)
    # MLflow's own code asks itself as a client now and then.
    mlflow.set_tracking_uri(f"tracker+{url}")
    mlflow.set_registry_uri(f"tracker+{url}")
    _finite_graphql()
    misread.install(flask_app)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "starlette.middleware.wsgi is deprecated")
        from mlflow.server.fastapi_app import app

    return app  # type: ignore[no-any-return]


def _without_auth() -> None:
    """MLflow looks for its login at every search; where that is not installed, failing to import it costs 2 ms."""
    stub = ModuleType("mlflow.server.auth")
    stub.auth_config = None  # type: ignore[attr-defined]
    sys.modules.setdefault("mlflow.server.auth", stub)


def _read_allowed_versions_only(registry: Any, locations: Locations) -> None:
    """Files of a model version are read, with this server's credentials, where `locations` allow it only.

    A version may have been registered without this server, by somebody who reads it with credentials of his own.
    """
    from flask import has_request_context, request

    from tracker.mlflow_bridge.convert import mlflow_exceptions

    place_of = registry.get_model_version_download_uri

    def allowed_place_of(name: str, version: Any) -> str:
        place: str = place_of(name, version)
        # MLflow's own code asks it outside of requests too.
        if has_request_context() and request.path.endswith("/model-versions/get-artifact"):
            with mlflow_exceptions():
                locations.check_source(place)
        return place

    registry.get_model_version_download_uri = allowed_place_of


def _finite_graphql() -> None:
    """Infinity as the largest float where GraphQL has no word for it: MLflow's own store keeps it so."""
    from graphql import GraphQLFloat

    write = GraphQLFloat.serialize

    def finite(value: Any) -> Any:
        return write(
            math.copysign(sys.float_info.max, value) if isinstance(value, float) and math.isinf(value) else value
        )

    GraphQLFloat.serialize = finite  # type: ignore[method-assign]
