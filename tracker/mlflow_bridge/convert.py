"""Converts between the bridge's structs and MLflow's own classes. Imports MLflow."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mlflow import entities
from mlflow.entities import LoggedModelInput, LoggedModelOutput, LoggedModelStatus, RunStatus, ViewType
from mlflow.entities.dataset_summary import _DatasetSummary
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE, ErrorCode
from msgspec import UNSET, UnsetType

from tracker.domain.errors import StoreError
from tracker.mlflow_bridge import bridge_entities
from tracker.mlflow_bridge.bridge_entities import BridgeError, Metric, Text

_MODEL_STATUSES: dict[bridge_entities.ModelStatus, LoggedModelStatus] = {
    "LOGGED_MODEL_PENDING": LoggedModelStatus.PENDING,
    "LOGGED_MODEL_READY": LoggedModelStatus.READY,
    "LOGGED_MODEL_UPLOAD_FAILED": LoggedModelStatus.FAILED,
}


@contextmanager
def mlflow_exceptions() -> Iterator[None]:
    """Context manager that turns the bridge's errors into MlflowException with the same code and message."""
    try:
        yield
    except BridgeError as error:
        raise MlflowException(error.message, error_code=ErrorCode.Value(error.code)) from error
    except StoreError as error:
        raise MlflowException(str(error), error_code=TEMPORARILY_UNAVAILABLE) from error


def _given(value: str | UnsetType) -> str | None:
    return None if value is UNSET or isinstance(value, UnsetType) else value


# -- ours to theirs --------------------------------------------------------------------------------------------------


def experiment(one: bridge_entities.ExperimentEntity) -> Any:
    """mlflow.entities.Experiment."""
    return entities.Experiment(
        experiment_id=one.experiment_id,
        name=one.name,
        artifact_location=one.artifact_location,
        lifecycle_stage=one.lifecycle_stage,
        tags=[entities.ExperimentTag(tag.key, tag.value) for tag in one.tags or ()],
        creation_time=one.creation_time,
        last_update_time=one.last_update_time,
    )


def run_info(one: bridge_entities.RunInfo) -> Any:
    """mlflow.entities.RunInfo."""
    return entities.RunInfo(
        run_id=one.run_id,
        experiment_id=one.experiment_id,
        user_id=one.user_id,
        status=one.status,
        start_time=one.start_time,
        end_time=None if one.end_time is UNSET else one.end_time,
        lifecycle_stage=one.lifecycle_stage,
        artifact_uri=one.artifact_uri,
        run_name=one.run_name,
    )


def run(one: bridge_entities.RunEntity, *, finite: bool = False) -> Any:
    """mlflow.entities.Run; with `finite` an infinite metric is the largest number, as in MLflow's own store."""
    outputs = () if isinstance(one.outputs, UnsetType) else one.outputs.model_outputs
    return entities.Run(
        run_info(one.info),
        entities.RunData(
            metrics=[_finite(metric(point)) if finite else metric(point) for point in one.data.metrics],
            params=[entities.Param(param.key, param.value) for param in one.data.params],
            tags=[entities.RunTag(tag.key, tag.value) for tag in one.data.tags],
        ),
        entities.RunInputs(
            dataset_inputs=[_dataset_input(use) for use in one.inputs.dataset_inputs],
            model_inputs=[LoggedModelInput(model_id=use.model_id) for use in one.inputs.model_inputs],
        ),
        entities.RunOutputs([LoggedModelOutput(model_id=made.model_id, step=made.step) for made in outputs]),
    )


def metric(one: Metric) -> Any:
    """mlflow.entities.Metric; with the run's id if ours has one."""
    return entities.Metric(
        key=one.key,
        value=float(one.value),
        timestamp=one.timestamp,
        step=one.step,
        model_id=_given(one.model_id),
        dataset_name=_given(one.dataset_name),
        dataset_digest=_given(one.dataset_digest),
        run_id=_given(one.run_id),
    )


def _finite(one: Any) -> Any:
    if math.isinf(one.value):
        one._value = math.copysign(sys.float_info.max, one.value)
    return one


def _dataset_input(one: bridge_entities.DatasetInput) -> Any:
    data = one.dataset
    return entities.DatasetInput(
        dataset=entities.Dataset(
            name=data.name,
            digest=data.digest,
            source_type=data.source_type,
            source=data.source,
            schema=_given(data.schema),
            profile=_given(data.profile),
        ),
        tags=[entities.InputTag(tag.key, tag.value) for tag in one.tags],
    )


def dataset_summary(one: bridge_entities.DatasetSummary) -> Any:
    """The result type of MLflow's `_search_datasets`."""
    return _DatasetSummary(
        experiment_id=one.experiment_id, name=one.name, digest=one.digest, context=_given(one.context)
    )


def model(one: bridge_entities.LoggedModelEntity) -> Any:
    """mlflow.entities.LoggedModel."""
    return entities.LoggedModel(
        experiment_id=one.experiment_id,
        model_id=one.model_id,
        name=one.name,
        artifact_location=one.artifact_uri,
        creation_timestamp=one.creation_timestamp_ms,
        last_updated_timestamp=one.last_updated_timestamp_ms,
        model_type=_given(one.model_type),
        source_run_id=_given(one.source_run_id),
        status=_MODEL_STATUSES[one.status],
        status_message=_given(one.status_message),
        tags={tag.key: tag.value for tag in one.tags},
        params={param.key: param.value for param in one.params},
        metrics=[metric(point) for point in one.metrics] or None,
    )


# -- theirs to ours --------------------------------------------------------------------------------------------------


def texts(pairs: Iterable[Any] | None) -> list[Text]:
    """Tags or parameters; values that are no text are converted, as over REST."""
    return [Text(pair.key, pair.value if isinstance(pair.value, str) else str(pair.value)) for pair in pairs or ()]


def metrics(points: Iterable[Any]) -> list[Metric]:
    """Points as a client made them; the bridge validates them."""
    return [
        Metric(
            key=point.key,
            value=_number(point.value),
            timestamp=point.timestamp,
            step=0 if point.step is None else point.step,
            model_id=_or_unset(point.model_id),
            dataset_name=_or_unset(point.dataset_name),
            dataset_digest=_or_unset(point.dataset_digest),
        )
        for point in points
    ]


def _number(value: Any) -> Any:
    """NumPy's and others' numbers as floats; other values unchanged, for the bridge to refuse."""
    return float(value) if hasattr(value, "__float__") and not isinstance(value, (bool, str)) else value


def _or_unset(value: str | None) -> str | UnsetType:
    return UNSET if value is None else value


def dataset_inputs(uses: Iterable[Any] | None) -> list[bridge_entities.DatasetInput]:
    """Data sets and their contexts of use."""
    found = []
    for use in uses or ():
        if use.dataset is None:
            raise MlflowException.invalid_parameter_value("Dataset cannot be None")
        data = use.dataset
        found.append(
            bridge_entities.DatasetInput(
                dataset=bridge_entities.DatasetEntity(
                    name=data.name,
                    digest=data.digest,
                    source_type=data.source_type,
                    source=data.source,
                    schema=_or_unset(data.schema),
                    profile=_or_unset(data.profile),
                ),
                tags=[Text(tag.key, tag.value) for tag in use.tags or ()],
            )
        )
    return found


def view_type(number: int | None) -> str:
    """The name of MLflow's view type."""
    return "ACTIVE_ONLY" if number is None else str(ViewType.to_string(number)).upper()


def status_name(number: Any) -> str | None:
    """The name of a run's status, which MLflow passes as a number."""
    return None if number is None else number if isinstance(number, str) else str(RunStatus.to_string(number))


def model_status(status: Any) -> bridge_entities.ModelStatus:
    """The bridge's name of a logged model's status."""
    wanted = status if isinstance(status, LoggedModelStatus) else LoggedModelStatus(str(status))
    for ours, theirs in _MODEL_STATUSES.items():
        if theirs == wanted:
            return ours
    raise MlflowException.invalid_parameter_value(f"Invalid model status: {status!r}")


def page(found: tuple[Sequence[Any], str | None], shown: Callable[[Any], Any]) -> tuple[list[Any], str | None]:
    """A page of the bridge as a page of MLflow's classes."""
    things, token = found
    return [shown(one) for one in things], token
