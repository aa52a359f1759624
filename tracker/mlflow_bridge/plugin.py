"""MLflow's stores at `tracker…` URIs: one object for each store in a process.

    tracker+sqlite:///path   tracker+postgresql://user@host/database   the store there
    tracker://                                                          the store that TRACKER_STORE names

If that is a tracking server, MLflow's own REST stores are its clients.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from tracker.compose import artifact_root, is_server, open_sql_store, store_url
from tracker.domain.errors import InvalidStoreUrl, StoreError, TrackerError
from tracker.settings import Settings

if TYPE_CHECKING:
    from tracker.mlflow_bridge.bridge import Bridge
    from tracker.mlflow_bridge.locations import Locations
    from tracker.mlflow_bridge.tracking_store import TrackingStore

_DESTINATION = "_MLFLOW_SERVER_ARTIFACT_DESTINATION"
_PROXY = "mlflow-artifacts:"

_lock = threading.RLock()
_tracking: dict[str, dict[str | None, Any]] = {}
_installed: dict[str, Any] = {}
_registries: dict[str, Any] = {}


def url_of(store_uri: str) -> str:
    """The store's own URL, from a `tracker…` URI; InvalidStoreUrl."""
    scheme, separator, rest = store_uri.partition(":")
    if scheme == "tracker":
        if rest.strip("/"):
            raise InvalidStoreUrl(
                store_uri, "nothing belongs behind tracker://, which is the store that TRACKER_STORE names"
            )
        settings = Settings.from_environment()
        return store_url(settings.store, settings.token)
    if not separator or not scheme.startswith("tracker+"):
        raise InvalidStoreUrl(store_uri, "expected tracker+sqlite:///path, tracker+postgresql://… or tracker://")
    return store_url(f"{scheme.removeprefix('tracker+')}:{rest}")


def make_tracking_store(store_uri: str, artifact_uri: str | None = None) -> Any:
    """MLflow's tracking store at `store_uri`, the same one for the same store.

    `artifact_uri` is where MLflow's own server puts the files of new runs; without it they are put with those of the
    store's other runs, or where the process's first store at this URI puts them.
    """
    with _lock, _said():
        url = url_of(store_uri)
        if url in _installed:
            return _installed[url]
        made = _tracking.setdefault(url, {})
        if artifact_uri is None and made:
            return next(iter(made.values()))
        if artifact_uri not in made:
            made[artifact_uri] = _rest_store(url) if is_server(url) else _sql_store(url, artifact_uri, made)
        return made[artifact_uri]


def make_registry_store(store_uri: str) -> Any:
    """MLflow's model registry next to the store at `store_uri`."""
    with _lock, _said():
        url = url_of(store_uri)
        if url not in _registries:
            _registries[url] = _rest_registry(url) if is_server(url) else _sql_registry(url)
        return _registries[url]


def install(bridge: Bridge, url: str) -> TrackingStore:
    """Make the tracking store over a server's `bridge` the one at every URI of the store at `url`, and return it."""
    from tracker.mlflow_bridge.tracking_store import TrackingStore

    store = TrackingStore(bridge)
    with _lock:
        _installed[store_url(url)] = store
    return store


def _sql_store(url: str, artifact_uri: str | None, made: dict[str | None, Any]) -> TrackingStore:
    from tracker.mlflow_bridge.bridge import Bridge
    from tracker.mlflow_bridge.tracking_store import TrackingStore

    sql = next(iter(made.values())).bridge.store if made else open_sql_store(url)
    # Only servers give a location for files.
    return TrackingStore(Bridge(sql, locations=_locations(url, artifact_uri)), finite=artifact_uri is not None)


def _locations(url: str, artifact_uri: str | None) -> Locations:
    from tracker.mlflow_bridge.locations import Locations, MlflowServerLocations

    root = artifact_root(Settings.from_environment().artifacts, url)
    if artifact_uri is None:
        return Locations(root, proxied=False, allowed=None)
    if artifact_uri.startswith(_PROXY):
        return MlflowServerLocations(root, os.environ.get(_DESTINATION) or "./mlartifacts", proxied=True)
    return MlflowServerLocations(root, artifact_uri, proxied=False)


def _sql_registry(url: str) -> Any:
    from tracker.mlflow_bridge.registry import RegistryStore

    # Looked up on use: a server may install its bridge after the registry was opened.
    return RegistryStore(url, lambda: make_tracking_store(f"tracker+{url}").bridge)


def _rest_store(url: str) -> Any:
    from tracker.mlflow_bridge.rest_stores import TrackingRestStore

    return TrackingRestStore(url)


def _rest_registry(url: str) -> Any:
    from tracker.mlflow_bridge.rest_stores import registry_rest_store

    return registry_rest_store(url)


class _said:
    """Translates Tracker's errors into MLflow's: a wrong URI is the caller's, an unavailable store may answer later."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, TrackerError):
            return
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE

        code = TEMPORARILY_UNAVAILABLE if isinstance(error, StoreError) else INVALID_PARAMETER_VALUE
        raise MlflowException(str(error), error_code=code) from error
