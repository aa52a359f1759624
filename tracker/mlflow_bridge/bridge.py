"""MLflow's semantics over our store, without MLflow."""

from __future__ import annotations

from tracker.mlflow_bridge.artifact_sources import ArtifactSources
from tracker.mlflow_bridge.encoded_runs import Fragments
from tracker.mlflow_bridge.experiments import Experiments
from tracker.mlflow_bridge.histories import Histories
from tracker.mlflow_bridge.models import Models
from tracker.mlflow_bridge.runs import Runs


class Bridge(Experiments, Runs, Fragments, Histories, Models, ArtifactSources):
    """A store as MLflow's clients and its UI see it. Usable from many threads at once.

    Every method raises BridgeError in MLflow's words, or StoreUnavailable while the store does not answer. Its parts
    are experiments, runs, fragments (pages of runs, encoded), histories (points of metrics), models (logged models,
    inputs and outputs), and whereabouts (of files that the model registry names).
    """
