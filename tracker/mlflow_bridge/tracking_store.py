"""MLflow's tracking store over the bridge: for a client in this process, and for a server of MLflow's own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from mlflow.entities import ViewType
from mlflow.entities.metric import MetricWithRunId
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking.abstract_store import AbstractStore

from tracker.mlflow_bridge import convert
from tracker.mlflow_bridge.bridge import Bridge
from tracker.mlflow_bridge.bridge_entities import ModelInput, ModelOutput, Text
from tracker.mlflow_bridge.convert import mlflow_exceptions
from tracker.mlflow_bridge.unsupported import completed

_LOGGED_MODELS = "mlflow.log-model.history"


@completed
class TrackingStore(AbstractStore):  # type: ignore[misc]
    """Each method converts, asks the bridge and converts back; what the bridge does not keep is in `unsupported`.

    Raises MlflowException alone: with the bridge's code, or TEMPORARILY_UNAVAILABLE while the store does not answer.
    With `finite` runs have the largest number for infinity: MLflow's server shows a run by GraphQL, which has no other.
    """

    def __init__(self, bridge: Bridge, *, finite: bool = False) -> None:
        super().__init__()
        self.bridge = bridge
        self._finite = finite

    # -- experiments ---------------------------------------------------------------------------------------------

    def search_experiments(
        self,
        view_type: int = ViewType.ACTIVE_ONLY,
        max_results: int = 1000,
        filter_string: str | None = None,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> Any:
        with mlflow_exceptions():
            found = self.bridge.search_experiments(
                convert.view_type(view_type), max_results, filter_string, order_by, page_token
            )
        return PagedList(*convert.page(found, convert.experiment))

    def create_experiment(self, name: str, artifact_location: str | None = None, tags: Any = None) -> str:
        with mlflow_exceptions():
            return self.bridge.create_experiment(name, artifact_location, convert.texts(tags))

    def get_experiment(self, experiment_id: str) -> Any:
        with mlflow_exceptions():
            return convert.experiment(self.bridge.get_experiment(experiment_id))

    def get_experiment_by_name(self, experiment_name: str) -> Any:
        with mlflow_exceptions():
            found = self.bridge.get_experiment_by_name(experiment_name)
        return None if found is None else convert.experiment(found)

    def delete_experiment(self, experiment_id: str) -> None:
        with mlflow_exceptions():
            self.bridge.delete_experiment(experiment_id)

    def restore_experiment(self, experiment_id: str) -> None:
        with mlflow_exceptions():
            self.bridge.restore_experiment(experiment_id)

    def rename_experiment(self, experiment_id: str, new_name: str) -> None:
        with mlflow_exceptions():
            self.bridge.rename_experiment(experiment_id, new_name)

    def set_experiment_tag(self, experiment_id: str, tag: Any) -> None:
        (text,) = convert.texts([tag])
        with mlflow_exceptions():
            self.bridge.set_experiment_tag(experiment_id, text.key, text.value)

    def delete_experiment_tag(self, experiment_id: str, key: str) -> None:
        with mlflow_exceptions():
            self.bridge.delete_experiment_tag(experiment_id, key)

    def filter_active_experiment_ids(self, experiment_ids: Sequence[str]) -> list[str]:
        with mlflow_exceptions():
            active, _ = self.bridge.search_experiments("ACTIVE_ONLY", None)
        there = {one.experiment_id for one in active}
        return [str(one) for one in experiment_ids if str(one) in there]

    # -- runs ----------------------------------------------------------------------------------------------------

    def create_run(self, experiment_id: str, user_id: str, start_time: int, tags: Any, run_name: str) -> Any:
        with mlflow_exceptions():
            return convert.run(
                self.bridge.create_run(experiment_id, user_id, start_time, convert.texts(tags), run_name)
            )

    def get_run(self, run_id: str) -> Any:
        with mlflow_exceptions():
            return convert.run(self.bridge.get_run(run_id), finite=self._finite)

    def update_run_info(self, run_id: str, run_status: Any, end_time: int | None, run_name: str | None) -> Any:
        with mlflow_exceptions():
            return convert.run_info(self.bridge.update_run(run_id, convert.status_name(run_status), end_time, run_name))

    def delete_run(self, run_id: str) -> None:
        with mlflow_exceptions():
            self.bridge.delete_run(run_id)

    def restore_run(self, run_id: str) -> None:
        with mlflow_exceptions():
            self.bridge.restore_run(run_id)

    def _search_runs(
        self,
        experiment_ids: Sequence[str],
        filter_string: str | None,
        run_view_type: int,
        max_results: int | None,
        order_by: Sequence[str] | None,
        page_token: str | None,
    ) -> tuple[list[Any], str | None]:
        with mlflow_exceptions():
            found = self.bridge.search_runs(
                experiment_ids, filter_string, convert.view_type(run_view_type), max_results, order_by, page_token
            )
        return convert.page(found, partial(convert.run, finite=self._finite))

    # -- logging -------------------------------------------------------------------------------------------------

    def log_batch(self, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
        with mlflow_exceptions():
            self.bridge.log(run_id, convert.metrics(metrics), convert.texts(params), convert.texts(tags))

    def log_metric(self, run_id: str, metric: Any) -> None:
        self.log_batch(run_id, [metric], (), ())

    def log_param(self, run_id: str, param: Any) -> None:
        self.log_batch(run_id, (), [param], ())

    def set_tag(self, run_id: str, tag: Any) -> None:
        self.log_batch(run_id, (), (), [tag])

    def delete_tag(self, run_id: str, key: str) -> None:
        """Called by MLflow's handlers and client, though it is not in its interface."""
        with mlflow_exceptions():
            self.bridge.delete_tag(run_id, key)

    def record_logged_model(self, run_id: str, mlflow_model: Any) -> None:
        with mlflow_exceptions():
            stands = {tag.key: tag.value for tag in self.bridge.get_run(run_id).data.tags}.get(_LOGGED_MODELS)
            models = [*(json.loads(stands) if stands else ()), mlflow_model.get_tags_dict()]
            self.bridge.log(run_id, tags=[Text(_LOGGED_MODELS, json.dumps(models))])

    def log_inputs(self, run_id: str, datasets: Any = None, models: Any = None) -> None:
        if datasets is not None and not isinstance(datasets, list):
            raise TypeError(f"Argument 'datasets' should be a list, got '{type(datasets)}'")
        with mlflow_exceptions():
            used = [ModelInput(one.model_id) for one in models or ()]
            self.bridge.log_inputs(run_id, convert.dataset_inputs(datasets), used)

    def log_outputs(self, run_id: str, models: Any) -> None:
        with mlflow_exceptions():
            self.bridge.log_outputs(run_id, [ModelOutput(one.model_id, one.step) for one in models])

    # -- histories -----------------------------------------------------------------------------------------------

    def get_metric_history(
        self, run_id: str, metric_key: str, max_results: int | None = None, page_token: str | None = None
    ) -> Any:
        with mlflow_exceptions():
            found = self.bridge.metric_history(run_id, metric_key, max_results, page_token)
        return PagedList(*convert.page(found, convert.metric))

    def get_metric_history_bulk(self, run_ids: Sequence[str], metric_key: str, max_results: int) -> list[Any]:
        """Called by MLflow's handlers, though it is not in its interface."""
        with mlflow_exceptions():
            return [_of_run(one) for one in self.bridge.metric_history_bulk(run_ids, metric_key, max_results)]

    def get_metric_history_bulk_interval(
        self, run_ids: Sequence[str], metric_key: str, max_results: int, start_step: int | None, end_step: int | None
    ) -> list[Any]:
        with mlflow_exceptions():
            found = self.bridge.metric_history_interval(run_ids, metric_key, max_results, start_step, end_step)
        return [_of_run(one) for one in found]

    def get_metric_history_bulk_interval_from_steps(
        self, run_id: str, metric_key: str, steps: Sequence[int], max_results: int
    ) -> list[Any]:
        wanted = set(steps)
        if not wanted:
            return []
        with mlflow_exceptions():
            found = self.bridge.points_between(run_id, metric_key, min(wanted), max(wanted))
        chosen = [one for one in found.metrics(metric_key, run_id) if one.step in wanted]
        return [_of_run(one) for one in chosen[:max_results]]

    def get_max_step_for_metric(self, run_id: str, metric_key: str) -> int:
        """Called by MLflow's own stores alone; kept for plugins that follow them."""
        with mlflow_exceptions():
            last = self.bridge.samples(run_id, metric_key, 1)
        return int(last.steps[-1]) if len(last.steps) else 0

    # -- logged models -------------------------------------------------------------------------------------------

    def create_logged_model(
        self,
        experiment_id: str,
        name: str | None = None,
        source_run_id: str | None = None,
        tags: Any = None,
        params: Any = None,
        model_type: str | None = None,
    ) -> Any:
        with mlflow_exceptions():
            made = self.bridge.create_model(
                experiment_id, name, source_run_id, convert.texts(tags), convert.texts(params), model_type
            )
        return convert.model(made)

    def search_logged_models(
        self,
        experiment_ids: Sequence[str],
        filter_string: str | None = None,
        datasets: Any = None,
        max_results: int | None = None,
        order_by: Any = None,
        page_token: str | None = None,
    ) -> Any:
        with mlflow_exceptions():
            found = self.bridge.search_models(
                experiment_ids, filter_string, datasets or (), max_results, order_by or (), page_token
            )
        return PagedList(*convert.page(found, convert.model))

    def get_logged_model(self, model_id: str, allow_deleted: bool = False) -> Any:
        with mlflow_exceptions():
            return convert.model(self.bridge.get_model(model_id, deleted=allow_deleted))

    def finalize_logged_model(self, model_id: str, status: Any) -> Any:
        with mlflow_exceptions():
            return convert.model(self.bridge.finalize_model(model_id, convert.model_status(status)))

    def set_logged_model_tags(self, model_id: str, tags: Any) -> None:
        with mlflow_exceptions():
            self.bridge.set_model_tags(model_id, convert.texts(tags))

    def delete_logged_model_tag(self, model_id: str, key: str) -> None:
        with mlflow_exceptions():
            self.bridge.delete_model_tag(model_id, key)

    def log_logged_model_params(self, model_id: str, params: Any) -> None:
        """Called by MLflow's handlers and client, though it is not in its interface."""
        with mlflow_exceptions():
            self.bridge.log_model_params(model_id, convert.texts(params))

    def delete_logged_model(self, model_id: str) -> None:
        with mlflow_exceptions():
            self.bridge.delete_model(model_id)

    # -- data sets, and what `mlflow gc` asks for ----------------------------------------------------------------

    def _search_datasets(self, experiment_ids: Sequence[str]) -> list[Any]:
        with mlflow_exceptions():
            return [convert.dataset_summary(one) for one in self.bridge.search_datasets(experiment_ids)]

    def _get_deleted_runs(self, older_than: int = 0) -> list[str]:
        with mlflow_exceptions():
            return self.bridge.deleted_runs(older_than)

    def _get_deleted_logged_models(self, older_than: int = 0) -> list[str]:
        with mlflow_exceptions():
            return self.bridge.deleted_models(older_than)

    def _hard_delete_run(self, run_id: str) -> None:
        with mlflow_exceptions():
            self.bridge.hard_delete_run(run_id)

    def _hard_delete_logged_model(self, model_id: str) -> None:
        with mlflow_exceptions():
            self.bridge.hard_delete_model(model_id)

    def _hard_delete_experiment(self, experiment_id: str) -> None:
        with mlflow_exceptions():
            self.bridge.hard_delete_experiment(experiment_id)


def _of_run(one: Any) -> Any:
    return MetricWithRunId(metric=convert.metric(one), run_id=one.run_id)
