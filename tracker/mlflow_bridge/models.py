"""Logged models, and runs' inputs and outputs (data sets and models)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tracker.domain.catalogue import Dataset, DatasetUse, LoggedModel, ModelLink, ModelStatus
from tracker.domain.identity import new_run_name
from tracker.mlflow_bridge import bridge_entities, record_entities
from tracker.mlflow_bridge.base import BridgeBase
from tracker.mlflow_bridge.bridge_entities import (
    BridgeError,
    DatasetInput,
    DatasetSummary,
    ModelInput,
    ModelOutput,
    Text,
)
from tracker.mlflow_bridge.bridge_errors import as_bridge_errors
from tracker.mlflow_bridge.in_memory_filters import conditions, ordered
from tracker.mlflow_bridge.mlflow_limits import (
    MOST_RESULTS,
    check_dataset,
    check_lengths,
    check_max_results,
    check_model_name,
    check_param,
    check_tag,
    experiment_key,
    refuse,
)
from tracker.mlflow_bridge.model_search import dataset_test, sort_keys, test_of
from tracker.mlflow_bridge.pages import offset_of, token_at

_STATUSES: dict[str, ModelStatus] = {theirs: ours for ours, theirs in record_entities.MODEL_STATUSES.items()}
_MOST_SUMMARIES = 1000
_PAGE = 100


class Models(BridgeBase):
    """The part of the bridge about logged models, inputs and outputs."""

    def log_inputs(self, run_id: str, datasets: Sequence[DatasetInput] = (), models: Sequence[ModelInput] = ()) -> None:
        """Record the run's inputs; of equal data sets in one call the first counts."""
        uses: dict[tuple[str, str], DatasetUse] = {}
        for one in datasets:
            check_dataset(one)
            uses.setdefault((one.dataset.name, one.dataset.digest), _use(one))
        for model in models:
            check_lengths(model_id=model.model_id)
        with as_bridge_errors():
            self.catalogue.inputs.add(
                run_id, datasets=list(uses.values()), models=[ModelLink(model_id=one.model_id) for one in models]
            )

    def log_outputs(self, run_id: str, models: Sequence[ModelOutput]) -> None:
        """Record the models that the run made."""
        for model in models:
            check_lengths(model_id=model.model_id)
        with as_bridge_errors():
            self.catalogue.inputs.add_outputs(
                run_id, [ModelLink(model_id=one.model_id, step=one.step) for one in models]
            )

    def search_datasets(self, experiment_ids: Sequence[str]) -> list[DatasetSummary]:
        """The data sets of the experiments' runs, each once a context."""
        ids = [experiment_key(one) for one in experiment_ids]
        with as_bridge_errors():
            return record_entities.summaries(self.catalogue.inputs.uses(ids, limit=_MOST_SUMMARIES))

    # -- logged models -------------------------------------------------------------------------------------------

    def create_model(
        self,
        experiment_id: str,
        name: str | None = None,
        source_run_id: str | None = None,
        tags: Iterable[Text] = (),
        params: Iterable[Text] = (),
        model_type: str | None = None,
    ) -> bridge_entities.LoggedModelEntity:
        """Create a model, PENDING until it is finalized."""
        check_model_name(name)
        check_lengths(model_name=name, model_type=model_type)
        experiment = self._active_experiment(experiment_id)
        model_id = f"m-{uuid.uuid4().hex}"
        with as_bridge_errors():
            made = self.catalogue.models.create(
                model_id,
                experiment.id,
                name=name or new_run_name(model_id),
                artifact_uri=self.locations.of_model(experiment, model_id),
                kind=model_type or None,
                run_id=source_run_id or None,
                params=_checked_params(params),
                tags=_checked_tags(tags),
            )
        return record_entities.model(made, self.locations)

    def get_model(self, model_id: str, *, deleted: bool = False) -> bridge_entities.LoggedModelEntity:
        """The model; a deleted one only with `deleted`."""
        with as_bridge_errors():
            return record_entities.model(self._model(model_id, deleted=deleted), self.locations)

    def finalize_model(self, model_id: str, status: bridge_entities.ModelStatus) -> bridge_entities.LoggedModelEntity:
        """Set the final status: the files are stored, or could not be uploaded."""
        if status not in _STATUSES:
            refuse(f"Invalid model status: {status!r}. Expected one of {list(_STATUSES)}")
        return self._change(model_id, status=_STATUSES[status])

    def set_model_tags(self, model_id: str, tags: Iterable[Text]) -> bridge_entities.LoggedModelEntity:
        """Set tags; other tags stay."""
        return self._change(model_id, tags=_checked_tags(tags))

    def log_model_params(self, model_id: str, params: Iterable[Text]) -> bridge_entities.LoggedModelEntity:
        """Set parameters; other parameters stay."""
        return self._change(model_id, params=_checked_params(params))

    def delete_model_tag(self, model_id: str, key: str) -> None:
        """Remove an existing tag."""
        with as_bridge_errors():
            if key not in self._model(model_id).tags:
                raise BridgeError(
                    "RESOURCE_DOES_NOT_EXIST", f"No tag with key {key!r} found for model with ID {model_id!r}."
                )
            self.catalogue.models.delete_tag(model_id, key)

    def delete_model(self, model_id: str) -> None:
        """Hide the model."""
        with as_bridge_errors():
            self._model(model_id, deleted=True)
            self.catalogue.models.delete(model_id)

    def deleted_models(self, older_than_ms: int = 0) -> list[str]:
        """Ids of models that were deleted at least `older_than_ms` ago."""
        with as_bridge_errors():
            return list(self.catalogue.models.deleted_before(self._clock() - older_than_ms + 1))

    def hard_delete_model(self, model_id: str) -> None:
        """Permanently remove the model's rows; its files stay."""
        with as_bridge_errors():
            self.catalogue.models.remove(model_id)

    def search_models(
        self,
        experiment_ids: Sequence[str],
        filter_string: str | None = None,
        datasets: Sequence[Mapping[str, Any]] = (),
        max_results: int | None = None,
        order_by: Sequence[Mapping[str, Any]] = (),
        page_token: str | None = None,
    ) -> tuple[list[bridge_entities.LoggedModelEntity], str | None]:
        """A page of models, and the token of the next one or None.

        `datasets` (mappings with `dataset_name` and optional `dataset_digest`) restrict conditions on metrics; an order
        term is a mapping with `field_name` and optional `ascending`, `dataset_name`, `dataset_digest`.
        """
        limit = check_max_results(max_results or _PAGE, most=MOST_RESULTS)
        on_datasets = dataset_test(datasets)
        parsed = conditions(filter_string or "")
        tests = [test_of(one, on_datasets) for one in parsed]
        if datasets and not any(one.entity == "metrics" for one in parsed):
            tests.append(lambda model: any(map(on_datasets, model.metrics)))
        keys = sort_keys(order_by)
        start = offset_of(page_token)
        ids = [experiment_key(one) for one in experiment_ids]
        with as_bridge_errors():
            found = self.catalogue.models.listed(ids)
        chosen = ordered((one for one in found if all(test(one) for test in tests)), keys)
        page = [record_entities.model(one, self.locations) for one in chosen[start : start + limit]]
        return page, token_at(start + limit) if len(chosen) > start + limit else None

    def _model(self, model_id: str, *, deleted: bool = False) -> LoggedModel:
        return self.catalogue.models.get(model_id, deleted=deleted)

    def _change(self, model_id: str, **changes: Any) -> bridge_entities.LoggedModelEntity:
        with as_bridge_errors():
            return record_entities.model(self.catalogue.models.change(model_id, **changes), self.locations)


def _use(one: DatasetInput) -> DatasetUse:
    data = one.dataset
    return DatasetUse(
        dataset=Dataset(
            name=data.name,
            digest=data.digest,
            source_type=data.source_type,
            source=data.source,
            schema=data.schema if isinstance(data.schema, str) else None,
            profile=data.profile if isinstance(data.profile, str) else None,
        ),
        tags=record_entities.texts(one.tags),
    )


def _checked_tags(tags: Iterable[Text]) -> dict[str, str]:
    return _checked(tags, check_tag, "tags")


def _checked_params(params: Iterable[Text]) -> dict[str, str]:
    return _checked(params, check_param, "params")


def _checked(pairs: Iterable[Text], check: Callable[[Text, str], None], name: str) -> dict[str, str]:
    given = list(pairs)
    for index, pair in enumerate(given):
        check(pair, f"{name}[{index}].")
    return record_entities.texts(given)
