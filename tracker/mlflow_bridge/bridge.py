"""MLflow's semantics over Tracker's store, without importing MLflow."""

from __future__ import annotations

from tracker.mlflow_bridge.artifact_sources import ArtifactSources
from tracker.mlflow_bridge.encoded_runs import Fragments
from tracker.mlflow_bridge.experiments import Experiments
from tracker.mlflow_bridge.histories import Histories
from tracker.mlflow_bridge.models import Models
from tracker.mlflow_bridge.runs import Runs


class Bridge(Experiments, Runs, Fragments, Histories, Models, ArtifactSources):
    """A store as MLflow's clients and its UI see it. Thread-safe.

    Every method raises BridgeError with MLflow's code and message, or StoreUnavailable while the store does not answer.
    Its parts are experiments, runs, fragments (pages of encoded runs), histories (points of metrics), models (logged
    models, inputs and outputs), and artifact sources (of files that the model registry names).
    """
