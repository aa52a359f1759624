"""MLflow's REST stores, for a TRACKER_STORE that is a tracking server."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from mlflow.store.model_registry.rest_store import RestStore as RegistryRestStore
from mlflow.store.tracking.rest_store import RestStore
from mlflow.utils.rest_utils import MlflowHostCreds

from tracker.compose import identity

_PROXY = "mlflow-artifacts:/"
_SERVED = "/api/2.0/mlflow-artifacts/artifacts/"
_TOKEN = "MLFLOW_TRACKING_TOKEN"


class TrackingRestStore(RestStore):  # type: ignore[misc]
    """MLflow's client of the server at `url`.

    MLflow looks for the files of `mlflow-artifacts:/…` on the server of the tracking URI, which is `tracker://` here;
    so their URIs are replaced by addresses on the server.
    """

    def __init__(self, url: str) -> None:
        super().__init__(_credentials(url))
        self._address = identity(url)

    def _call_endpoint(self, api: Any, json_body: Any = None, *args: Any, **kwargs: Any) -> Any:
        answer = super()._call_endpoint(api, json_body, *args, **kwargs)
        for message in _with_places(answer):
            for field in ("artifact_uri", "artifact_location"):
                place = getattr(message, field, "")
                if isinstance(place, str) and place.startswith(_PROXY):
                    setattr(message, field, _addressed(place, self._address))
        return answer


class RegistryOverRest(RegistryRestStore):  # type: ignore[misc]
    """MLflow's client of the registry of the server at `url`; URIs of files are replaced here too."""

    def __init__(self, url: str) -> None:
        super().__init__(_credentials(url))
        self._address = identity(url)

    def get_model_version_download_uri(self, name: str, version: Any) -> str:
        return _addressed(super().get_model_version_download_uri(name, version), self._address)


def registry_rest_store(url: str) -> Any:
    """MLflow's client of the registry of the server at `url`."""
    return RegistryOverRest(url)


def _addressed(place: str, address: str) -> str:
    return f"{address}{_SERVED}{place.removeprefix(_PROXY)}" if place.startswith(_PROXY) else place


def _credentials(url: str) -> Callable[[], Any]:
    """The credentials: the token in the URL, else those of MLflow's own variables."""
    from mlflow.utils.credentials import get_default_host_creds

    address = identity(url)
    token = unquote(urlsplit(url).password or "")
    if not token:
        return lambda: get_default_host_creds(address)
    # Another part of MLflow fetches files, and reads the environment only.
    os.environ.setdefault(_TOKEN, token)
    return lambda: MlflowHostCreds(host=address, token=token)


def _with_places(message: Any) -> list[Any]:
    """The parts of a response that have a location of files."""
    fields = message.DESCRIPTOR.fields_by_name
    found = [
        getattr(message, name) for name in ("run", "experiment", "model") if name in fields and message.HasField(name)
    ]
    found += [one for name in ("runs", "experiments", "models") if name in fields for one in getattr(message, name)]
    if "run_info" in fields:
        found.append(message.run_info)
    return [one.info if "info" in one.DESCRIPTOR.fields_by_name else one for one in found]
