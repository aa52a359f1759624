"""Derived tags and metrics, never stored: facts about a run for which MLflow has no field.

The best epoch and its value are metrics too, so that MLflow's table can sort by them.
"""

from __future__ import annotations

from collections.abc import Iterator

from tracker.domain.catalogue import RunDetail
from tracker.domain.limits import number_text
from tracker.domain.records import Run, Series
from tracker.domain.vocabulary import RunStatus
from tracker.mlflow_bridge.bridge_entities import Metric, Number, Status, Text
from tracker.mlflow_bridge.mlflow_limits import refuse

RUN_NAME = "mlflow.runName"
USER = "mlflow.user"
NOTE = "mlflow.note.content"
STOP = "tracker.stop"
STATUS = "tracker.status"
BEST_METRIC = "tracker.best_metric"
BEST_EPOCH = "tracker.best_epoch"
BEST_VALUE = "tracker.best_value"

DERIVED_TAGS = frozenset({STATUS, BEST_METRIC, BEST_EPOCH, BEST_VALUE})
DERIVED_METRICS = frozenset({BEST_EPOCH, BEST_VALUE})
NOT_STORED = DERIVED_TAGS | {RUN_NAME}
"""Tags that are never stored as tags: they are derived, or an attribute of the run."""
EXPERIMENT_KIND = Text("mlflow.experimentKind", "custom_model_development")
"""The tag that makes MLflow's UI open an experiment as trainings, not as traces of language models."""

_STATUSES: dict[RunStatus, Status] = {"running": "RUNNING", "finished": "FINISHED", "failed": "FAILED"}
_OURS: dict[str, RunStatus] = {
    "RUNNING": "running", "SCHEDULED": "running", "FINISHED": "finished", "FAILED": "failed", "KILLED": "interrupted",
}  # fmt: skip


def mlflow_status(status: RunStatus) -> Status:
    """MLflow's status; the exact one is the tag `tracker.status`."""
    return _STATUSES.get(status, "KILLED")


def our_status(status: str) -> RunStatus:
    """Tracker's status for one of MLflow's; BridgeError for an unknown one.

    A run in the store has begun, so MLflow's SCHEDULED is stored, and from then on shown, as RUNNING.
    """
    try:
        return _OURS[status]
    except KeyError:
        refuse(f"Invalid run status: {status!r}. Expected one of {list(_OURS)}")


def shown_number(value: float) -> Number:
    """A float as JSON can express it."""
    return value if value - value == 0.0 else number_text(value)  # type: ignore[return-value]


def derived_tags(run: Run) -> Iterator[Text]:
    """Tags for facts for which MLflow has no field."""
    yield Text(RUN_NAME, run.name)
    yield Text(STATUS, run.status)
    if run.best_epoch is not None:
        yield Text(BEST_EPOCH, str(run.best_epoch))
        if run.best_metric is not None:
            yield Text(BEST_METRIC, run.best_metric)
        if run.best_value is not None:
            yield Text(BEST_VALUE, repr(run.best_value))


def derived_metrics(detail: RunDetail) -> Iterator[Metric]:
    """The best epoch and its value, at the step of that epoch."""
    run = detail.run
    if run.best_epoch is None:
        return
    ms = _best_ms(run, detail.metrics.get(run.best_metric or ""))
    yield Metric(BEST_EPOCH, float(run.best_epoch), ms, run.best_epoch)
    if run.best_value is not None:
        yield Metric(BEST_VALUE, shown_number(run.best_value), ms, run.best_epoch)


def _best_ms(run: Run, series: Series | None) -> int:
    best = series.best if series is not None else None
    return best.ms if best is not None else run.ended_ms or run.started_ms


def asks_to_stop(tag: Text) -> bool:
    """Whether a tag that is set is a request to stop the run."""
    return tag.key == STOP and tag.value.strip().lower() == "true"
