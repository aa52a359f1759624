"""The routes about experiments."""

from __future__ import annotations

import msgspec

from tracker.mlflow_bridge.bridge import Bridge
from tracker.mlflow_bridge.bridge_entities import BridgeError, ExperimentEntity
from tracker.server.mlflow import requests
from tracker.server.mlflow.routing import NOTHING, get, post
from tracker.server.mlflow.runs import page

encode = msgspec.json.encode


class ExperimentAnswer(msgspec.Struct):
    """An answer about an experiment."""

    experiment: ExperimentEntity


class OneId(msgspec.Struct):
    """An answer about a new experiment."""

    experiment_id: str


def create(bridge: Bridge, given: requests.CreateExperiment) -> bytes:
    """A new experiment; a location for its files is taken only below what the server allows."""
    return encode(OneId(bridge.create_experiment(given.name, given.artifact_location or None, given.tags)))


def one(bridge: Bridge, given: requests.ExperimentRequest) -> bytes:
    """An experiment, deleted or not."""
    return encode(ExperimentAnswer(bridge.get_experiment(given.experiment_id)))


def named(bridge: Bridge, given: requests.NamedExperiment) -> bytes:
    """An experiment by its name."""
    found = bridge.get_experiment_by_name(given.experiment_name)
    if found is None:
        raise BridgeError("RESOURCE_DOES_NOT_EXIST", f"Could not find experiment with name '{given.experiment_name}'")
    return encode(ExperimentAnswer(found))


def search(bridge: Bridge, given: requests.SearchExperiments) -> bytes:
    """A page of experiments."""
    found, token = bridge.search_experiments(
        given.view_type, given.max_results, given.filter, given.order_by, given.page_token or None
    )
    return page(b"experiments", [encode(experiment) for experiment in found], token)


def update(bridge: Bridge, given: requests.UpdateExperiment) -> bytes:
    """Rename an experiment."""
    bridge.rename_experiment(given.experiment_id, given.new_name)
    return NOTHING


def delete(bridge: Bridge, given: requests.ExperimentRequest) -> bytes:
    """Hide an experiment and its runs."""
    bridge.delete_experiment(given.experiment_id)
    return NOTHING


def restore(bridge: Bridge, given: requests.ExperimentRequest) -> bytes:
    """Show an experiment and its runs again."""
    bridge.restore_experiment(given.experiment_id)
    return NOTHING


def set_tag(bridge: Bridge, given: requests.SetExperimentTag) -> bytes:
    """Set a tag."""
    bridge.set_experiment_tag(given.experiment_id, given.key, given.value)
    return NOTHING


def delete_tag(bridge: Bridge, given: requests.DeleteExperimentTag) -> bytes:
    """Remove a tag."""
    bridge.delete_experiment_tag(given.experiment_id, given.key)
    return NOTHING


ROUTES = (
    post("experiments/create", requests.CreateExperiment, create),
    get("experiments/get", requests.ExperimentRequest, one),
    get("experiments/get-by-name", requests.NamedExperiment, named),
    get("experiments/search", requests.SearchExperiments, search),
    post("experiments/search", requests.SearchExperiments, search),
    post("experiments/update", requests.UpdateExperiment, update),
    post("experiments/delete", requests.ExperimentRequest, delete),
    post("experiments/restore", requests.ExperimentRequest, restore),
    post("experiments/set-experiment-tag", requests.SetExperimentTag, set_tag),
    post("experiments/delete-experiment-tag", requests.DeleteExperimentTag, delete_tag),
)
