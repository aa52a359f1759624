"""Functions for MLflow's entry points. MLflow is imported only when a store is requested."""

from __future__ import annotations

from typing import Any


def tracking_store(store_uri: str, artifact_uri: str | None = None) -> Any:
    """The tracking store at a `tracker…` URI; MLflow calls it once a URI."""
    from tracker.mlflow_bridge.plugin import make_tracking_store

    return make_tracking_store(store_uri, artifact_uri)


def registry_store(store_uri: str, **_: Any) -> Any:
    """The model registry next to the store at a `tracker…` URI."""
    from tracker.mlflow_bridge.plugin import make_registry_store

    return make_registry_store(store_uri)
