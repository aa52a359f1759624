"""Conditions and sort keys of searches for logged models (mlflow/utils/search_logged_model_utils.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tracker.domain.catalogue import LoggedModel, ModelMetric
from tracker.mlflow_bridge.in_memory_filters import NUMBER_OPS, Condition
from tracker.mlflow_bridge.mlflow_limits import refuse
from tracker.mlflow_bridge.record_entities import MODEL_STATUSES

Test = Callable[[LoggedModel], bool]
Key = Callable[[LoggedModel], Any]

_TEXT_OPS = ("=", "!=", "LIKE", "ILIKE", "IN", "NOT IN")
_ENTITIES = ["attributes", "metrics", "params", "tags"]
_TIMES: dict[str, Key] = {
    **dict.fromkeys(("creation_time", "creation_timestamp", "creation_timestamp_ms"), lambda one: one.created_ms),
    **dict.fromkeys(("last_updated_timestamp", "last_updated_timestamp_ms"), lambda one: one.updated_ms),
}
_TEXTS: dict[str, Key] = {
    "model_id": lambda one: one.id,
    "experiment_id": lambda one: str(one.experiment_id),
    "name": lambda one: one.name,
    "artifact_location": lambda one: one.artifact_uri,
    "status": lambda one: MODEL_STATUSES[one.status].removeprefix("LOGGED_MODEL_"),
    "status_message": lambda one: one.status_message,
    "model_type": lambda one: one.kind,
    "source_run_id": lambda one: one.run_id,
    "lifecycle_stage": lambda one: "active" if one.deleted_ms is None else "deleted",
}


def dataset_test(datasets: Sequence[Mapping[str, Any]]) -> Callable[[ModelMetric], bool]:
    """A test whether a metric was measured on one of the data sets; always true if none is given."""
    if not datasets:
        return lambda metric: True
    wanted = [(one.get("dataset_name"), one.get("dataset_digest") or None) for one in datasets]
    if not all(name for name, _ in wanted):
        refuse("`dataset_name` in the `datasets` clause must be specified.")
    return lambda metric: any(
        metric.dataset_name == name and digest in (None, metric.dataset_digest) for name, digest in wanted
    )


def test_of(one: Condition, on_datasets: Callable[[ModelMetric], bool]) -> Test:
    """A test whether a model meets the condition. A metric meets it if any step does, on one of the data sets."""
    if one.entity not in ("", *_ENTITIES):
        refuse(f"Invalid entity type: {one.entity!r}. Expected one of {_ENTITIES}.")
    number = one.entity == "metrics" or (one.entity in ("", "attributes") and one.key in _TIMES)
    if one.op not in (ops := NUMBER_OPS if number else _TEXT_OPS):
        refuse(
            f"Invalid comparison operator for {one.entity or 'attributes'}.{one.key}: {one.op!r}. "
            f"Expected one of {ops}."
        )
    if number:
        one.number()
    elif not isinstance(one.value, (str, tuple)):
        one = Condition(one.entity, one.key, one.op, str(one.value))
    match one.entity:
        case "metrics":
            return lambda model: any(
                metric.key == one.key and on_datasets(metric) and one.holds(metric.value) for metric in model.metrics
            )
        case "params":
            return lambda model: one.key in model.params and one.holds(model.params[one.key])
        case "tags":
            return lambda model: one.key in model.tags and one.holds(model.tags[one.key])
    field = _TIMES.get(one.key) or _TEXTS.get(one.key)
    if field is None:
        refuse(f"Invalid attribute: {one.key!r}. Expected one of {sorted((*_TIMES, *_TEXTS))}.")
    return lambda model: (found := field(model)) is not None and one.holds(found)


def sort_keys(order_by: Sequence[Mapping[str, Any]]) -> list[tuple[Key, bool]]:
    """Sort keys, each with whether it ascends; ties go newest first, then by id."""
    keys: list[tuple[Key, bool]] = []
    for term in order_by:
        name = term.get("field_name") or ""
        ascending = term.get("ascending")
        keys.append((_key(name, term), True if ascending is None else bool(ascending)))
    return [*keys, (_TIMES["creation_time"], False), (_TEXTS["model_id"], True)]


def _key(name: str, term: Mapping[str, Any]) -> Key:
    if "." not in name:
        field = _TIMES.get(name) or _TEXTS.get(name)
        if field is None:
            refuse(f"Invalid order by field name: {name}")
        return field
    entity, key = name.split(".", 1)
    if entity != "metrics":
        refuse(f"Invalid order by field name: {name}. Only metrics are supported.")
    dataset, digest = term.get("dataset_name") or None, term.get("dataset_digest") or None

    def latest(model: LoggedModel) -> float | None:
        found = [
            one
            for one in model.metrics
            if one.key == key.strip("`")
            and dataset in (None, one.dataset_name)
            and digest in (None, one.dataset_digest)
        ]
        return max(found, key=lambda one: (one.ms, one.step)).value if found else None

    return latest
