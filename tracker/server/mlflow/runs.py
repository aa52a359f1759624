"""The routes about runs: logging by MLflow's clients, and the UI's frequent requests."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET

from tracker.mlflow_bridge.bridge import Bridge
from tracker.mlflow_bridge.bridge_entities import (
    DatasetEntity,
    DatasetInput,
    Metric,
    ModelInput,
    ModelOutput,
    RunEntity,
    RunInfo,
    Text,
)
from tracker.server.mlflow import requests
from tracker.server.mlflow.routing import NOTHING, Prepared, get, log, post
from tracker.server.operations import SHORT_PAGE

encode = msgspec.json.encode


class RunAnswer(msgspec.Struct):
    """An answer about a run."""

    run: RunEntity


class OneInfo(msgspec.Struct):
    """An answer about a run, without what it logged."""

    run_info: RunInfo


def create(bridge: Bridge, given: requests.CreateRun) -> bytes:
    """Create a run with the status RUNNING."""
    return encode(
        RunAnswer(
            bridge.create_run(given.experiment_id, given.user_id, given.start_time, given.tags, given.run_name or None)
        )
    )


def one(bridge: Bridge, given: requests.RunRequest) -> bytes:
    """A run with its latest metrics, parameters, tags, inputs and outputs."""
    return encode(RunAnswer(bridge.get_run(given.run_id)))


def update(bridge: Bridge, given: requests.UpdateRun) -> bytes:
    """Change status, end or name."""
    info = bridge.update_run(
        given.run_id,
        None if given.status is UNSET else given.status,
        None if given.end_time is UNSET else given.end_time,
        None if given.run_name is UNSET else given.run_name,
    )
    return encode(OneInfo(info))


def delete(bridge: Bridge, given: requests.RunRequest) -> bytes:
    """Hide a run."""
    bridge.delete_run(given.run_id)
    return NOTHING


def restore(bridge: Bridge, given: requests.RunRequest) -> bytes:
    """Show a run again."""
    bridge.restore_run(given.run_id)
    return NOTHING


def delete_tag(bridge: Bridge, given: requests.DeleteTag) -> bytes:
    """Remove a tag."""
    bridge.delete_tag(given.run_id, given.key)
    return NOTHING


def search(bridge: Bridge, given: requests.SearchRuns) -> bytes:
    """A page of runs."""
    fragments, token = bridge.search_fragments(
        given.experiment_ids,
        given.filter,
        given.run_view_type,
        given.max_results,
        given.order_by,
        given.page_token or None,
    )
    return page(b"runs", fragments, token)


def page(name: bytes, fragments: Sequence[bytes], token: str | None) -> bytes:
    """A JSON object with a list of encoded items, left out if empty, and the next page's token."""
    parts = []
    if fragments:
        parts.append(b'"%s":[%s]' % (name, b",".join(fragments)))
    if token:
        parts.append(b'"next_page_token":%s' % encode(token))
    return b"{%s}" % b",".join(parts)


def log_metric(bridge: Bridge, given: requests.LogMetric) -> Prepared:
    """One point."""
    point = Metric(
        given.key,
        given.value,
        given.timestamp,
        given.step,
        UNSET,
        given.model_id,
        given.dataset_name,
        given.dataset_digest,
    )
    return bridge.prepare_log(given.run_id, (point,)), bridge.prepare_model_metrics(given.run_id, (point,))


def log_parameter(bridge: Bridge, given: requests.LogParam) -> Prepared:
    """One parameter."""
    return bridge.prepare_log(given.run_id, params=(Text(given.key, given.value),)), None


def set_tag(bridge: Bridge, given: requests.SetTag) -> Prepared:
    """One tag."""
    return bridge.prepare_log(given.run_id, tags=(Text(given.key, given.value),)), None


def log_batch(bridge: Bridge, given: requests.LogBatch) -> Prepared:
    """Points, parameters and tags: all of them or none."""
    batch = bridge.prepare_log(given.run_id, given.metrics, given.params, given.tags)
    return batch, bridge.prepare_model_metrics(given.run_id, given.metrics)


def log_inputs(bridge: Bridge, given: requests.LogInputs) -> bytes:
    """Data sets and models that a run used."""
    datasets = [
        DatasetInput(
            DatasetEntity(**{name: getattr(use.dataset, name) for name in DatasetEntity.__struct_fields__}), use.tags
        )
        for use in given.datasets
    ]
    bridge.log_inputs(given.run_id, datasets, [ModelInput(model.model_id) for model in given.models])
    return NOTHING


def log_outputs(bridge: Bridge, given: requests.LogOutputs) -> bytes:
    """Models that a run made."""
    bridge.log_outputs(given.run_id, [ModelOutput(model.model_id, model.step) for model in given.models])
    return NOTHING


ROUTES = (
    post("runs/create", requests.CreateRun, create),
    get("runs/get", requests.RunRequest, one),
    post("runs/update", requests.UpdateRun, update),
    post("runs/delete", requests.RunRequest, delete),
    post("runs/restore", requests.RunRequest, restore),
    post("runs/delete-tag", requests.DeleteTag, delete_tag),
    post("runs/search", requests.SearchRuns, search, is_long=lambda given: given.max_results > SHORT_PAGE),
    log("runs/log-metric", requests.LogMetric, log_metric),
    log("runs/log-parameter", requests.LogParam, log_parameter, lone=True),
    log("runs/set-tag", requests.SetTag, set_tag),
    log("runs/log-batch", requests.LogBatch, log_batch),
    post("runs/log-inputs", requests.LogInputs, log_inputs),
    post("runs/outputs", requests.LogOutputs, log_outputs),
)
