"""Runs as MLflow's clients create, change, log to and search them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tracker.domain.calls import batch_of_call
from tracker.domain.catalogue import ModelMetric
from tracker.domain.errors import KeyNotFound
from tracker.domain.frames import Batch
from tracker.domain.identity import new_run_id, new_run_name
from tracker.mlflow_bridge import derived_keys, record_entities
from tracker.mlflow_bridge.base import BridgeBase, lifecycle_of
from tracker.mlflow_bridge.bridge_entities import BridgeError, Metric, RunEntity, RunInfo, Text
from tracker.mlflow_bridge.bridge_errors import as_bridge_errors
from tracker.mlflow_bridge.mlflow_limits import (
    check_batch,
    check_lengths,
    check_max_results,
    check_param,
    check_run_id,
    check_run_name,
    check_tag,
    check_times,
    columns_of,
    experiment_key,
    refuse,
)
from tracker.mlflow_bridge.run_description import description_of


class Runs(BridgeBase):
    """The part of the bridge about runs."""

    def create_run(
        self,
        experiment_id: str | None,
        user_id: str | None = None,
        start_time: int | None = None,
        tags: Iterable[Text] = (),
        run_name: str | None = None,
    ) -> RunEntity:
        """Create a run, RUNNING; its name is `run_name`, else that of the tag `mlflow.runName`, else a generated
        one."""
        check_lengths(user_id=user_id)
        check_times(start_time=start_time)
        experiment = self._active_experiment(experiment_id)
        given = list(tags)
        for index, tag in enumerate(given):
            check_tag(tag, f"tags[{index}].")
        kept = record_entities.texts(given)
        tagged = kept.pop(derived_keys.RUN_NAME, None)
        if run_name and tagged and run_name != tagged:
            refuse(
                "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values "
                f"(run_name='{run_name}', mlflow.runName='{tagged}')."
            )
        if user_id:
            kept.setdefault(derived_keys.USER, user_id)
        run_id = new_run_id()
        with as_bridge_errors():
            detail = self.catalogue.runs.create(
                run_id,
                experiment.id,
                name=check_run_name(run_name or tagged or new_run_name(run_id)),
                started_ms=start_time or self._clock(),
                artifact_uri=self.locations.of_run(experiment, run_id),
                tags={key: value for key, value in kept.items() if key not in derived_keys.DERIVED_TAGS},
            )
        return record_entities.run(detail, self.locations)

    def get_run(self, run_id: str) -> RunEntity:
        """The run, deleted or not, with a generated description if the user wrote none."""
        with as_bridge_errors():
            detail = self.catalogue.runs.detail(run_id)
            note = None if derived_keys.NOTE in detail.tags else description_of(self.store, detail)
        return record_entities.run(detail, self.locations, note=note)

    def update_run(
        self, run_id: str, status: str | None = None, end_time: int | None = None, run_name: str | None = None
    ) -> RunInfo:
        """Change the given attributes; BridgeError for a deleted run."""
        check_times(end_time=end_time)
        with as_bridge_errors():
            self.catalogue.runs.change(
                run_id,
                status=None if status is None else derived_keys.our_status(status),
                ended_ms=end_time or None,
                name=check_run_name(run_name) if run_name else None,
            )
            return record_entities.run_info(self.catalogue.runs.detail(run_id), self.locations)

    def delete_run(self, run_id: str) -> None:
        """Hide the run until it is restored."""
        with as_bridge_errors():
            self.store.delete_run(run_id)

    def restore_run(self, run_id: str) -> None:
        """Show a deleted run again."""
        with as_bridge_errors():
            self.store.restore_run(run_id)

    def deleted_runs(self, older_than_ms: int = 0) -> list[str]:
        """Ids of runs that were deleted at least `older_than_ms` ago."""
        with as_bridge_errors():
            return list(self.catalogue.runs.deleted_before(self._clock() - older_than_ms + 1))

    def hard_delete_run(self, run_id: str) -> None:
        """Permanently remove the run's rows."""
        with as_bridge_errors():
            self.catalogue.runs.remove(run_id)

    def search_runs(
        self,
        experiment_ids: Sequence[str],
        filter: str | None = None,
        run_view_type: str = "ACTIVE_ONLY",
        max_results: int | None = 1000,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> tuple[list[RunEntity], str | None]:
        """A page of runs, and the token of the next one or None. Generated descriptions are not in it."""
        limit = check_max_results(max_results)
        ids = [experiment_key(one) for one in experiment_ids]
        with as_bridge_errors():
            details, token = self.catalogue.runs.search(
                ids,
                filter or "",
                lifecycle=lifecycle_of(run_view_type),
                order_by=order_by or (),
                limit=limit,
                page_token=page_token or None,
                alias=self.locations.alias,
            )
        return [record_entities.run(detail, self.locations) for detail in details], token

    # -- logging -------------------------------------------------------------------------------------------------

    def prepare_log(
        self, run_id: str, metrics: Sequence[Metric] = (), params: Sequence[Text] = (), tags: Sequence[Text] = ()
    ) -> Batch:
        """The validated content of a logging call, for the store; BridgeError. Reads nothing from the store.

        `beside` has the other parts of the call. Derived keys (`tracker.best_epoch`, …) cannot be set: a call that sets
        nothing else is refused, in a larger one they are skipped, so that a run's tags can be copied whole.
        """
        check_run_id(run_id)
        check_batch(metrics, params, tags)
        lone = len(metrics) + len(params) + len(tags) == 1
        if lone:
            _refuse_derived(metrics, tags)
        elif any(metric.key in derived_keys.DERIVED_METRICS for metric in metrics):
            metrics = [metric for metric in metrics if metric.key not in derived_keys.DERIVED_METRICS]
        keys, steps, times, values = columns_of(metrics)
        for index, param in enumerate(params):
            check_param(param, "" if lone else f"params[{index}].")
        for index, tag in enumerate(tags):
            check_tag(tag, "" if lone else f"tags[{index}].")
        given = record_entities.texts(tags)
        return batch_of_call(
            run_id,
            keys,
            steps,
            times,
            values,
            params=record_entities.texts(params),
            tags={key: value for key, value in given.items() if key not in derived_keys.NOT_STORED},
            name=check_run_name(name) if (name := given.get(derived_keys.RUN_NAME)) else None,
            stop_ms=self._clock() if any(derived_keys.asks_to_stop(tag) for tag in tags) else None,
        )

    def prepare_model_metrics(self, run_id: str, metrics: Sequence[Metric] = ()) -> Callable[[], None] | None:
        """A function for the part of a call that `prepare_log` leaves out: metrics of logged models; None for most
        calls.

        To be called when the rest is stored; it may block.
        """
        of_models = [metric for metric in metrics if isinstance(metric.model_id, str) and metric.model_id]
        return (lambda: self._log_model_metrics(run_id, of_models)) if of_models else None

    def log(
        self, run_id: str, metrics: Sequence[Metric] = (), params: Sequence[Text] = (), tags: Sequence[Text] = ()
    ) -> None:
        """Store metrics, parameters and tags of a run, all or none."""
        batch = self.prepare_log(run_id, metrics, params, tags)
        with as_bridge_errors(lone=len(params) == 1 and not metrics and not tags):
            self._log(batch)
        if (more := self.prepare_model_metrics(run_id, metrics)) is not None:
            more()

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        """Set one tag."""
        self.log(run_id, tags=[Text(key, value)])

    def delete_tag(self, run_id: str, key: str) -> None:
        """Remove a tag; a note that the user wrote gives way to ours."""
        if key in derived_keys.NOT_STORED:
            refuse(f"The tag {key!r} says what Tracker knows of the run; it cannot be deleted")
        with as_bridge_errors():
            try:
                self.catalogue.runs.delete_tag(run_id, key)
            except KeyNotFound as error:
                message = f"No tag with name: {key} in run with id {run_id}"
                raise BridgeError("RESOURCE_DOES_NOT_EXIST", message) from error

    def _log_model_metrics(self, run_id: str, metrics: Sequence[Metric]) -> None:
        by_model: dict[str, list[ModelMetric]] = {}
        for metric in metrics:
            by_model.setdefault(str(metric.model_id), []).append(
                ModelMetric(
                    key=metric.key,
                    value=float(metric.value),
                    step=int(metric.step),
                    ms=int(metric.timestamp),
                    run_id=run_id,
                    dataset_name=metric.dataset_name if isinstance(metric.dataset_name, str) else None,
                    dataset_digest=metric.dataset_digest if isinstance(metric.dataset_digest, str) else None,
                )
            )
        with as_bridge_errors():
            for model_id, points in by_model.items():
                self.catalogue.models.add_metrics(model_id, points)


def _refuse_derived(metrics: Sequence[Metric], tags: Sequence[Text]) -> None:
    for kind, keys, derived in (
        ("tag", [tag.key for tag in tags], derived_keys.DERIVED_TAGS),
        ("metric", [metric.key for metric in metrics], derived_keys.DERIVED_METRICS),
    ):
        if keys and keys[0] in derived:
            refuse(f"The {kind} {keys[0]!r} is derived by Tracker from what the run recorded; it cannot be set")
