"""Experiments as MLflow's clients create, change and search them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tracker.domain.catalogue import ExperimentDetail
from tracker.mlflow_bridge import record_entities
from tracker.mlflow_bridge.base import BridgeBase, lifecycle_of
from tracker.mlflow_bridge.bridge_entities import BridgeError, ExperimentEntity, Text
from tracker.mlflow_bridge.bridge_errors import as_bridge_errors
from tracker.mlflow_bridge.in_memory_filters import NUMBER_OPS, Condition, conditions, order_term, ordered
from tracker.mlflow_bridge.mlflow_limits import (
    check_experiment_name,
    check_experiment_tag,
    check_max_results,
    experiment_key,
    refuse,
)
from tracker.mlflow_bridge.pages import offset_of, token_at

_FIELDS: dict[str, Callable[[ExperimentDetail], Any]] = {
    "name": lambda one: one.name,
    "experiment_id": lambda one: one.id,
    "creation_time": lambda one: one.created_ms,
    "last_update_time": lambda one: one.updated_ms,
}
_TIMES = ("creation_time", "last_update_time")
_TEXT_OPS = ("=", "!=", "LIKE", "ILIKE")
_NULL_OPS = ("IS NULL", "IS NOT NULL")
_ORDER = ("creation_time DESC", "experiment_id ASC")


class Experiments(BridgeBase):
    """The part of the bridge about experiments."""

    def create_experiment(self, name: str, artifact_location: str | None = None, tags: Iterable[Text] = ()) -> str:
        """Create an experiment and return its id."""
        check_experiment_name(name)
        given = list(tags)
        for tag in given:
            check_experiment_tag(tag.key, tag.value)
        location = self.locations.check(artifact_location)
        with as_bridge_errors():
            return str(
                self.catalogue.experiments.create(name, artifact_location=location, tags=record_entities.texts(given))
            )

    def get_experiment(self, experiment_id: str) -> ExperimentEntity:
        """The experiment, deleted or not."""
        return record_entities.experiment(self._experiment(experiment_id), self.locations)

    def get_experiment_by_name(self, name: str) -> ExperimentEntity | None:
        """The experiment of that name, deleted or not."""
        with as_bridge_errors():
            found = self.catalogue.experiments.named(name)
        return None if found is None else record_entities.experiment(found, self.locations)

    def rename_experiment(self, experiment_id: str, name: str) -> None:
        """Rename the experiment."""
        check_experiment_name(name)
        found = self._experiment(experiment_id)
        if found.deleted_ms is not None:
            # MLflow answers INVALID_STATE here, which its client takes for a failing server and retries for minutes.
            refuse("Cannot rename a non-active experiment.")
        with as_bridge_errors():
            self.catalogue.experiments.rename(found.id, name)

    def delete_experiment(self, experiment_id: str) -> None:
        """Hide it and its runs until it is restored."""
        found = self._experiment(experiment_id, "active")
        with as_bridge_errors():
            self.catalogue.experiments.delete(found.id)

    def restore_experiment(self, experiment_id: str) -> None:
        """Show it and its runs again."""
        found = self._experiment(experiment_id, "deleted")
        with as_bridge_errors():
            self.catalogue.experiments.restore(found.id)

    def hard_delete_experiment(self, experiment_id: str) -> None:
        """Permanently remove a deleted experiment and all its content; the files stay."""
        found = self._experiment(experiment_id, "deleted")
        with as_bridge_errors():
            self.catalogue.experiments.remove(found.id)

    def set_experiment_tag(self, experiment_id: str, key: str, value: str) -> None:
        """Set one tag."""
        check_experiment_tag(key, value)
        found = self._active_experiment(experiment_id)
        with as_bridge_errors():
            self.catalogue.experiments.set_tag(found.id, key, value)

    def delete_experiment_tag(self, experiment_id: str, key: str) -> None:
        """Remove an existing tag."""
        found = self._active_experiment(experiment_id)
        if key not in found.tags:
            raise BridgeError(
                "RESOURCE_DOES_NOT_EXIST", f"No tag with name: {key} in experiment with id {experiment_id}"
            )
        with as_bridge_errors():
            self.catalogue.experiments.delete_tag(found.id, key)

    def search_experiments(
        self,
        view_type: str = "ACTIVE_ONLY",
        max_results: int | None = 1000,
        filter_string: str | None = None,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> tuple[list[ExperimentEntity], str | None]:
        """A page of experiments, and the token of the next one or None."""
        limit = check_max_results(max_results)
        tests = [_test(one) for one in conditions(filter_string or "")]
        keys = _keys(order_by or _ORDER)
        start = offset_of(page_token)
        with as_bridge_errors():
            found = self.catalogue.experiments.listed(lifecycle_of(view_type))
        chosen = ordered((one for one in found if all(test(one) for test in tests)), keys)
        page = [record_entities.experiment(one, self.locations) for one in chosen[start : start + limit]]
        return page, token_at(start + limit) if len(chosen) > start + limit else None


def _test(one: Condition) -> Callable[[ExperimentDetail], bool]:
    """A test whether an experiment meets the condition. One without the tag meets only IS NULL."""
    if one.entity in ("tag", "tags"):
        if one.op in _NULL_OPS:
            return lambda found: (one.key in found.tags) != (one.op == "IS NULL")
        if one.op not in _TEXT_OPS:
            refuse(f"Invalid comparator for tag: {one.op}")
        one.text()
        return lambda found: one.key in found.tags and one.holds(found.tags[one.key])
    if one.entity not in ("", "attribute"):
        refuse(f"Invalid entity type '{one.entity}'. Valid entity types are ('attribute', 'tag', 'tags')")
    field = _field(one.key)
    if one.op in _NULL_OPS:
        refuse(f"IS NULL / IS NOT NULL is only supported for tags, not for attribute '{one.key}'")
    if one.key == "experiment_id":
        if one.op not in ("=", "!=", "IN", "NOT IN"):
            refuse(f"Invalid comparator for experiment_id: {one.op}")
        values = {experiment_key(str(value)) for value in (one.value if isinstance(one.value, tuple) else (one.value,))}
        return lambda found: (found.id in values) == (one.op in ("=", "IN"))
    if one.key in _TIMES:
        if one.op not in NUMBER_OPS:
            refuse(f"Invalid comparator for numeric attribute: {one.op}")
        if not isinstance(one.value, int):
            refuse(f"Invalid value for numeric attribute '{one.key}': {one.value!r}")
    else:
        if one.op not in _TEXT_OPS:
            refuse(f"Invalid comparator for string attribute: {one.op}")
        one.text()
    return lambda found: one.holds(field(found))


def _keys(order_by: Sequence[str]) -> list[tuple[Callable[[ExperimentDetail], Any], bool]]:
    terms = [order_term(term) for term in order_by]
    names = [name.removeprefix("attribute.") for name, _ in terms]
    keys = [(_field(name), ascending) for name, (_, ascending) in zip(names, terms, strict=True)]
    if "experiment_id" not in names:
        keys.append((_FIELDS["experiment_id"], False))
    return keys


def _field(name: str) -> Callable[[ExperimentDetail], Any]:
    try:
        return _FIELDS[name]
    except KeyError:
        refuse(f"Invalid attribute key '{name}' specified. Valid keys are '{set(_FIELDS)}'")
