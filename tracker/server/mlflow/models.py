"""The routes about logged models and data sets, without which `log_model` does not work."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from tracker.mlflow_bridge.bridge import Bridge
from tracker.mlflow_bridge.bridge_entities import LoggedModelEntity
from tracker.server.mlflow import requests
from tracker.server.mlflow.decode import invalid
from tracker.server.mlflow.routing import NOTHING, Route, get, post
from tracker.server.mlflow.runs import page

encode = msgspec.json.encode

_MOST_EXPERIMENTS = 20
_DATA = ("params", "metrics")


def shown(model: LoggedModelEntity) -> bytes:
    """A logged model in the format of the API; empty lists are left out."""
    info: dict[str, Any] = {"model_type": "", "source_run_id": ""}
    data: dict[str, Any] = {}
    for name in model.__struct_fields__:
        value = getattr(model, name)
        if value is not UNSET and value != () and value != []:
            (data if name in _DATA else info)[name] = value
    return encode({"info": info, "data": data})


def create(bridge: Bridge, given: requests.CreateModel) -> bytes:
    """Create a model, pending until its files are uploaded."""
    model = bridge.create_model(
        given.experiment_id,
        given.name or None,
        given.source_run_id or None,
        given.tags,
        given.params,
        given.model_type or None,
    )
    return b'{"model":%s}' % shown(model)


def one(bridge: Bridge, given: requests.GetModel) -> bytes:
    """A model."""
    return b'{"model":%s}' % shown(bridge.get_model(given.model_id, deleted=given.allow_deleted.lower() == "true"))


def finalize(bridge: Bridge, given: requests.FinalizeModel) -> bytes:
    """Set the final status: the files are stored, or could not be uploaded."""
    return b'{"model":%s}' % shown(bridge.finalize_model(given.model_id, given.status))


def delete(bridge: Bridge, given: requests.OneModel) -> bytes:
    """Hide a model."""
    bridge.delete_model(given.model_id)
    return NOTHING


def set_tags(bridge: Bridge, given: requests.SetModelTags) -> bytes:
    """Set tags; other tags stay."""
    bridge.set_model_tags(given.model_id, given.tags)
    return NOTHING


def delete_tag(bridge: Bridge, given: requests.DeleteModelTag) -> bytes:
    """Remove a tag."""
    bridge.delete_model_tag(given.model_id, given.tag_key)
    return NOTHING


def log_params(bridge: Bridge, given: requests.LogModelParams) -> bytes:
    """Set parameters; other parameters stay."""
    bridge.log_model_params(given.model_id, given.params)
    return NOTHING


def search(bridge: Bridge, given: requests.SearchModels) -> bytes:
    """A page of models."""
    found, token = bridge.search_models(
        given.experiment_ids,
        given.filter or None,
        [_given(dataset) for dataset in given.datasets],
        given.max_results or None,
        [_given(term) for term in given.order_by],
        given.page_token or None,
    )
    return page(b"models", [shown(model) for model in found], token)


def _given(one: msgspec.Struct) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(one).items() if value != ""}


def datasets(bridge: Bridge, given: requests.SearchDatasets) -> bytes:
    """The data sets that runs of the experiments used."""
    if not given.experiment_ids:
        raise invalid("SearchDatasets request must specify at least one experiment_id.")
    if len(given.experiment_ids) > _MOST_EXPERIMENTS:
        raise invalid(
            f"SearchDatasets request cannot specify more than {_MOST_EXPERIMENTS} experiment_ids. "
            f"Received {len(given.experiment_ids)} experiment_ids."
        )
    return page(b"dataset_summaries", [encode(one) for one in bridge.search_datasets(given.experiment_ids)], None)


_MODEL = "logged-models/{model_id}"
ROUTES = (
    post("experiments/search-datasets", requests.SearchDatasets, datasets),
    post("logged-models", requests.CreateModel, create),
    post("logged-models/search", requests.SearchModels, search),
    get(_MODEL, requests.GetModel, one),
    Route("PATCH", _MODEL, requests.FinalizeModel, finalize),
    Route("DELETE", _MODEL, requests.OneModel, delete),
    Route("PATCH", f"{_MODEL}/tags", requests.SetModelTags, set_tags),
    Route("DELETE", f"{_MODEL}/tags/{{tag_key}}", requests.DeleteModelTag, delete_tag),
    post(f"{_MODEL}/params", requests.LogModelParams, log_params),
)
