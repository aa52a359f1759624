"""Requests of the hot routes, one struct each, with the fields in the order in which MLflow checks them.

Names are those of MLflow's protobuf messages. A field without a default is required, and required text is not empty. A
client writes exactly these fields; other bodies are decoded by the lenient path of `decode`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from msgspec import UNSET, Meta, Struct, UnsetType

from tracker.mlflow_bridge.bridge_entities import Metric, ModelStatus, Number, Status, Text

Filled = Annotated[str, Meta(min_length=1)]
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
View = Literal["ACTIVE_ONLY", "DELETED_ONLY", "ALL"]

NUMBERED: Mapping[str, tuple[str, ...]] = {
    word: words for words in (get_args(Status), get_args(View), get_args(ModelStatus)) for word in words
}
"""An enumeration's words in the order of its numbers, which count from 1."""


class Pair(Text, frozen=True, forbid_unknown_fields=True):
    """A tag or a parameter; without a value it is empty."""

    key: Filled
    value: str = ""


class Point(Metric, frozen=True, forbid_unknown_fields=True):
    """One point of a metric."""

    key: Filled
    value: Number
    timestamp: Int64
    step: Int64 = 0


class Body(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all requests, without fields."""


class LogMetric(Body, frozen=True):
    run_id: Filled
    key: Filled
    value: Number
    timestamp: Int64
    step: Int64 = 0
    model_id: str | UnsetType = UNSET
    dataset_name: str | UnsetType = UNSET
    dataset_digest: str | UnsetType = UNSET
    run_uuid: str = ""


class LogParam(Body, frozen=True):
    run_id: Filled
    key: Filled
    value: str = ""
    run_uuid: str = ""


class SetTag(Body, frozen=True):
    run_id: Filled
    key: Filled
    value: str = ""
    run_uuid: str = ""


class DeleteTag(Body, frozen=True):
    run_id: Filled
    key: Filled


class LogBatch(Body, frozen=True):
    run_id: Filled
    metrics: list[Point] = []
    params: list[Pair] = []
    tags: list[Pair] = []


class CreateRun(Body, frozen=True):
    experiment_id: str = ""
    start_time: Int64 = 0
    run_name: str = ""
    user_id: str = ""
    tags: list[Pair] = []


class UpdateRun(Body, frozen=True):
    run_id: Filled
    end_time: Int64 | UnsetType = UNSET
    status: Status | UnsetType = UNSET
    run_name: str | UnsetType = UNSET
    run_uuid: str = ""


class RunRequest(Body, frozen=True):
    """Deletes, restores or gets a run."""

    run_id: Filled
    run_uuid: str = ""


class SearchRuns(Body, frozen=True):
    experiment_ids: list[str] = []
    filter: str = ""
    max_results: Annotated[int, Meta(ge=-(2**31), le=50_000)] = 1000
    order_by: list[str] = []
    run_view_type: View = "ACTIVE_ONLY"
    page_token: str = ""


class InputData(Body, frozen=True):
    """A data set."""

    name: str = ""
    digest: str = ""
    source_type: str = ""
    source: str = ""
    schema: str | UnsetType = UNSET
    profile: str | UnsetType = UNSET


class InputUse(Body, frozen=True):
    """A data set, and the context in which a run used it."""

    dataset: InputData = InputData()
    tags: list[Pair] = []


class ModelUse(Body, frozen=True):
    """A logged model that a run used or made."""

    model_id: str = ""
    step: Int64 = 0


class LogInputs(Body, frozen=True):
    run_id: Filled
    datasets: list[InputUse] = []
    models: list[ModelUse] = []


class LogOutputs(Body, frozen=True):
    run_id: Filled
    models: list[ModelUse]


class GetHistory(Body, frozen=True):
    run_id: Filled
    metric_key: Filled
    page_token: str = ""
    max_results: Int32 | UnsetType = UNSET
    run_uuid: str = ""


class GetHistoryBulk(Body, frozen=True):
    run_id: list[str] = []
    metric_key: str | UnsetType = UNSET
    max_results: Int64 = 25_000


class GetHistoryInterval(Body, frozen=True):
    run_ids: list[str]
    metric_key: Filled
    start_step: Int32 | UnsetType = UNSET
    end_step: Int32 | UnsetType = UNSET
    max_results: Int32 = 2500


class CreateExperiment(Body, frozen=True):
    name: Filled
    artifact_location: str = ""
    tags: list[Pair] = []


class ExperimentRequest(Body, frozen=True):
    """Gets, deletes or restores an experiment."""

    experiment_id: Filled


class NamedExperiment(Body, frozen=True):
    experiment_name: Filled


class UpdateExperiment(Body, frozen=True):
    experiment_id: Filled
    new_name: Filled


class SetExperimentTag(Body, frozen=True):
    experiment_id: Filled
    key: Filled
    value: str = ""


class DeleteExperimentTag(Body, frozen=True):
    experiment_id: Filled
    key: Filled


class SearchExperiments(Body, frozen=True):
    view_type: View = "ACTIVE_ONLY"
    max_results: Int64 = 0
    order_by: list[str] = []
    filter: str = ""
    page_token: str = ""


class CreateModel(Body, frozen=True):
    experiment_id: Filled
    name: str = ""
    model_type: str = ""
    source_run_id: str = ""
    params: list[Pair] = []
    tags: list[Pair] = []


class OneModel(Body, frozen=True):
    """Deletes a logged model."""

    model_id: Filled


class GetModel(Body, frozen=True):
    model_id: Filled
    allow_deleted: str = "false"


class FinalizeModel(Body, frozen=True):
    model_id: Filled
    status: ModelStatus


class SetModelTags(Body, frozen=True):
    model_id: Filled
    tags: list[Pair] = []


class DeleteModelTag(Body, frozen=True):
    model_id: Filled
    tag_key: Filled


class LogModelParams(Body, frozen=True):
    model_id: Filled
    params: list[Pair] = []


class OfDataset(Body, frozen=True):
    """The data set that a search is about."""

    dataset_name: str = ""
    dataset_digest: str = ""


class ModelOrder(Body, frozen=True):
    """A term of an order of logged models."""

    field_name: str = ""
    ascending: bool = True
    dataset_name: str = ""
    dataset_digest: str = ""


class SearchModels(Body, frozen=True):
    experiment_ids: list[str]
    filter: str = ""
    datasets: list[OfDataset] = []
    max_results: Int32 = 50
    order_by: list[ModelOrder] = []
    page_token: str = ""


class SearchDatasets(Body, frozen=True):
    experiment_ids: list[str] = []
