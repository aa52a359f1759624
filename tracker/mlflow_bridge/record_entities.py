"""Our records as MLflow's entities."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import UNSET

from tracker.domain.catalogue import DatasetUse, ExperimentDetail, LoggedModel, ModelStatus, RunDetail
from tracker.mlflow_bridge import bridge_entities
from tracker.mlflow_bridge.bridge_entities import Metric, Text
from tracker.mlflow_bridge.derived_keys import (
    DERIVED_METRICS,
    EXPERIMENT_KIND,
    NOT_STORED,
    NOTE,
    USER,
    derived_metrics,
    derived_tags,
    mlflow_status,
    shown_number,
)
from tracker.mlflow_bridge.locations import Locations

MODEL_STATUSES: dict[ModelStatus, bridge_entities.ModelStatus] = {
    "pending": "LOGGED_MODEL_PENDING", "ready": "LOGGED_MODEL_READY", "failed": "LOGGED_MODEL_UPLOAD_FAILED",
}  # fmt: skip


def experiment(one: ExperimentDetail, locations: Locations) -> bridge_entities.ExperimentEntity:
    """An experiment; the UI opens it as one of trainings unless it is tagged as another kind."""
    tags = [Text(key, value) for key, value in one.tags.items()]
    if EXPERIMENT_KIND.key not in one.tags:
        tags.append(EXPERIMENT_KIND)
    return bridge_entities.ExperimentEntity(
        experiment_id=str(one.id),
        name=one.name,
        artifact_location=locations.experiment_shown(one),
        lifecycle_stage="active" if one.deleted_ms is None else "deleted",
        last_update_time=one.updated_ms,
        creation_time=one.created_ms,
        tags=tags,
    )


def run_info(detail: RunDetail, locations: Locations) -> bridge_entities.RunInfo:
    """What a run is, without what it logged."""
    run = detail.run
    return bridge_entities.RunInfo(
        run_uuid=run.id,
        experiment_id=str(detail.experiment_id),
        run_name=run.name,
        user_id=detail.tags.get(USER, ""),
        status=mlflow_status(run.status),
        start_time=run.started_ms,
        artifact_uri=locations.run_shown(run.artifact_uri, detail.experiment_id, run.id),
        lifecycle_stage="active" if run.deleted_ms is None else "deleted",
        run_id=run.id,
        end_time=UNSET if run.ended_ms is None else run.ended_ms,
    )


def run(detail: RunDetail, locations: Locations, *, note: str | None = None) -> bridge_entities.RunEntity:
    """A run; `note` stands as its description where the user wrote none."""
    metrics = [
        Metric(key, shown_number(one.last.value), one.last.ms, one.last.step)
        for key, one in detail.metrics.items()
        if one.last is not None and key not in DERIVED_METRICS
    ]
    metrics.extend(derived_metrics(detail))
    tags = [Text(key, value) for key, value in detail.tags.items() if key not in NOT_STORED]
    tags.extend(derived_tags(detail.run))
    if note is not None and NOTE not in detail.tags:
        tags.append(Text(NOTE, note))
    return bridge_entities.RunEntity(
        info=run_info(detail, locations),
        data=bridge_entities.RunData(
            metrics=metrics, params=[Text(key, value) for key, value in detail.params.items()], tags=tags
        ),
        inputs=bridge_entities.RunInputs(
            dataset_inputs=[dataset_input(one) for one in detail.datasets],
            model_inputs=[bridge_entities.ModelInput(one.model_id) for one in detail.inputs],
        ),
        outputs=bridge_entities.RunOutputs(
            model_outputs=[bridge_entities.ModelOutput(one.model_id, one.step) for one in detail.outputs]
        )
        if detail.outputs
        else UNSET,
    )


def dataset_input(use: DatasetUse) -> bridge_entities.DatasetInput:
    """A data set as a run used it."""
    one = use.dataset
    return bridge_entities.DatasetInput(
        dataset=bridge_entities.DatasetEntity(
            name=one.name,
            digest=one.digest,
            source_type=one.source_type,
            source=one.source,
            schema=UNSET if one.schema is None else one.schema,
            profile=UNSET if one.profile is None else one.profile,
        ),
        tags=[Text(key, value) for key, value in use.tags.items()],
    )


def model(one: LoggedModel, locations: Locations) -> bridge_entities.LoggedModelEntity:
    """A logged model."""
    return bridge_entities.LoggedModelEntity(
        model_id=one.id,
        experiment_id=str(one.experiment_id),
        name=one.name,
        creation_timestamp_ms=one.created_ms,
        last_updated_timestamp_ms=one.updated_ms,
        artifact_uri=locations.model_shown(one.artifact_uri, one.experiment_id, one.id),
        status=MODEL_STATUSES[one.status],
        model_type=UNSET if one.kind is None else one.kind,
        source_run_id=UNSET if one.run_id is None else one.run_id,
        status_message=UNSET if one.status_message is None else one.status_message,
        tags=[Text(key, value) for key, value in one.tags.items()],
        params=[Text(key, value) for key, value in one.params.items()],
        metrics=[
            Metric(
                key=metric.key,
                value=shown_number(metric.value),
                timestamp=metric.ms,
                step=metric.step,
                run_id=metric.run_id,
                model_id=one.id,
                dataset_name=UNSET if metric.dataset_name is None else metric.dataset_name,
                dataset_digest=UNSET if metric.dataset_digest is None else metric.dataset_digest,
            )
            for metric in one.metrics
        ],
    )


def texts(pairs: Iterable[Text]) -> dict[str, str]:
    """Tags or parameters by key; of a key that comes again the last value stands."""
    return {pair.key: pair.value for pair in pairs}


def summaries(
    uses: Sequence[tuple[int, DatasetUse]], context: str = "mlflow.data.context"
) -> list[bridge_entities.DatasetSummary]:
    """Data sets of experiments, each once a context."""
    return [
        bridge_entities.DatasetSummary(
            experiment_id=str(experiment_id),
            name=use.dataset.name,
            digest=use.dataset.digest,
            context=use.tags.get(context, UNSET),
        )
        for experiment_id, use in uses
    ]
