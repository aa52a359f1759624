"""Typed structs of MLflow's entities as its REST API 2.0 encodes them, without importing MLflow.

Names are those of MLflow's protobuf messages in snake case. A field that is UNSET is left out, as in protobuf; NaN and
the infinities are the strings "NaN", "Infinity" and "-Infinity".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType, field

Status = Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]
Number = float | Literal["NaN", "Infinity", "-Infinity"]


class Text(Struct, frozen=True):
    """A tag or a parameter."""

    key: str
    value: str


class Metric(Struct, frozen=True, omit_defaults=False):
    """One point of a metric; `timestamp` in ms. `run_id` only in responses about several runs."""

    key: str
    value: Number
    timestamp: int
    step: int = 0
    run_id: str | UnsetType = UNSET
    model_id: str | UnsetType = UNSET
    dataset_name: str | UnsetType = UNSET
    dataset_digest: str | UnsetType = UNSET


class RunInfo(Struct, frozen=True):
    """A run's attributes, without what it logged."""

    run_uuid: str
    experiment_id: str
    run_name: str
    user_id: str
    status: Status
    start_time: int
    artifact_uri: str
    lifecycle_stage: Literal["active", "deleted"]
    run_id: str
    end_time: int | UnsetType = UNSET


class RunData(Struct, frozen=True, omit_defaults=True):
    """A run's parameters, tags and last metrics."""

    metrics: Sequence[Metric] = []
    params: Sequence[Text] = []
    tags: Sequence[Text] = []


class DatasetEntity(Struct, frozen=True):
    """A data set of a run."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | UnsetType = UNSET
    profile: str | UnsetType = UNSET


class DatasetInput(Struct, frozen=True, omit_defaults=True):
    """A data set, and the context in which a run used it."""

    dataset: DatasetEntity
    tags: Sequence[Text] = []


class ModelInput(Struct, frozen=True):
    """A logged model that a run used."""

    model_id: str


class ModelOutput(Struct, frozen=True):
    """A logged model that a run made."""

    model_id: str
    step: int = 0


class RunInputs(Struct, frozen=True, omit_defaults=True):
    """A run's inputs."""

    dataset_inputs: Sequence[DatasetInput] = []
    model_inputs: Sequence[ModelInput] = []


class RunOutputs(Struct, frozen=True, omit_defaults=True):
    """A run's outputs."""

    model_outputs: Sequence[ModelOutput] = []


class RunEntity(Struct, frozen=True):
    """A run."""

    info: RunInfo
    data: RunData
    inputs: RunInputs = field(default_factory=RunInputs)
    outputs: RunOutputs | UnsetType = UNSET


ModelStatus = Literal["LOGGED_MODEL_PENDING", "LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED"]


class LoggedModelEntity(Struct, frozen=True):
    """A logged model, flat: in the API's JSON its parameters and metrics are under `data`, the rest under `info`."""

    model_id: str
    experiment_id: str
    name: str
    creation_timestamp_ms: int
    last_updated_timestamp_ms: int
    artifact_uri: str
    status: ModelStatus
    model_type: str | UnsetType = UNSET
    source_run_id: str | UnsetType = UNSET
    status_message: str | UnsetType = UNSET
    tags: Sequence[Text] = []
    params: Sequence[Text] = []
    metrics: Sequence[Metric] = []


class DatasetSummary(Struct, frozen=True):
    """A data set of an experiment; `context` is the purpose for which its runs used it."""

    experiment_id: str
    name: str
    digest: str
    context: str | UnsetType = UNSET


class ExperimentEntity(Struct, frozen=True):
    """An experiment."""

    experiment_id: str
    name: str
    artifact_location: str
    lifecycle_stage: Literal["active", "deleted"]
    last_update_time: int
    creation_time: int
    tags: Sequence[Text] | UnsetType = UNSET


class BridgeError(Exception):
    """An error for MLflow's clients: `code` is one of MLflow's error codes, such as RESOURCE_DOES_NOT_EXIST."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def document(self) -> dict[str, Any]:
        """The body of a response that reports it."""
        return {"error_code": self.code, "message": self.message}
