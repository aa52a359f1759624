"""The catalogue in SQLite and PostgreSQL: each call is one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError

from tracker.domain.catalogue import (
    DatasetUse,
    ExperimentDetail,
    Life,
    Logged,
    LoggedModel,
    ModelLink,
    ModelMetric,
    ModelStatus,
    RunDetail,
    Spelling,
)
from tracker.domain.errors import InvalidValue
from tracker.domain.records import Run
from tracker.domain.vocabulary import RunStatus
from tracker.store import removal
from tracker.store.catalogue import experiments as of_experiments
from tracker.store.catalogue import inputs as of_inputs
from tracker.store.catalogue import models as of_models
from tracker.store.catalogue import runs as of_runs
from tracker.store.engine import reading, writing
from tracker.store.read.run_cache import AsRead, Shown, shown_rows
from tracker.store.tables import runs

T = TypeVar("T")


class SqlCatalogue:
    """Catalogue (see `tracker.domain.catalogue`) over an engine; safe for threads, each call has its own connection.

    `log` stores unnumbered writes, `sweep` marks runs whose lease has expired as lost, `before_change` is called before
    each change that does not go through `log`.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        clock: Callable[[], int],
        log: Callable[[Logged], object],
        sweep: Callable[[], None],
        before_change: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._log = log
        self._sweep = sweep
        self._before_change = before_change

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        self._before_change()
        try:
            with writing(self._engine) as connection:
                yield connection
        except (DataError, OverflowError, UnicodeError) as error:
            raise InvalidValue("value", f"cannot be stored: {getattr(error, 'orig', error)}") from error

    # -- experiments ---------------------------------------------------------------------------------------------

    def create_experiment(
        self, name: str, *, artifact_location: str | None = None, tags: Mapping[str, str] | None = None
    ) -> int:
        with self._changing() as connection:
            return of_experiments.create(connection, name, artifact_location, tags or {}, self._clock())

    def experiment(self, id: int) -> ExperimentDetail:
        with reading(self._engine) as connection:
            return of_experiments.get(connection, id)

    def experiment_named(self, name: str) -> ExperimentDetail | None:
        with reading(self._engine) as connection:
            return of_experiments.named(connection, name)

    def list_experiments(self, life: Life = "active") -> Sequence[ExperimentDetail]:
        with reading(self._engine) as connection:
            return of_experiments.listed(connection, life)

    def rename_experiment(self, id: int, name: str) -> None:
        with self._changing() as connection:
            of_experiments.rename(connection, id, name, self._clock())

    def delete_experiment(self, id: int) -> None:
        with self._changing() as connection:
            of_experiments.set_deleted(connection, id, deleted=True, ms=self._clock())

    def restore_experiment(self, id: int) -> None:
        with self._changing() as connection:
            of_experiments.set_deleted(connection, id, deleted=False, ms=self._clock())

    def hard_delete_experiment(self, id: int) -> None:
        with self._changing() as connection:
            of_experiments.row(connection, id)
            removal.remove_all(connection, runs.c.experiment_id == id)
            of_experiments.remove(connection, id)

    def set_experiment_tag(self, id: int, key: str, value: str) -> None:
        with self._changing() as connection:
            of_experiments.set_tag(connection, id, key, value)

    def delete_experiment_tag(self, id: int, key: str) -> None:
        with self._changing() as connection:
            of_experiments.delete_tag(connection, id, key)

    # -- runs ----------------------------------------------------------------------------------------------------

    def create_run(
        self,
        run_id: str,
        experiment_id: int,
        *,
        name: str,
        started_ms: int,
        artifact_uri: str,
        tags: Mapping[str, str],
    ) -> RunDetail:
        with self._changing() as connection:
            return of_runs.create(
                connection,
                run_id,
                experiment_id,
                name=name,
                started_ms=started_ms,
                artifact_uri=artifact_uri,
                tags=tags,
                ms=self._clock(),
            )

    def change_run(
        self, run_id: str, *, status: RunStatus | None = None, ended_ms: int | None = None, name: str | None = None
    ) -> Run:
        with self._changing() as connection:
            return of_runs.change(connection, run_id, status=status, ended_ms=ended_ms, name=name)

    def delete_tag(self, run_id: str, key: str) -> None:
        with self._changing() as connection:
            of_runs.delete_tag(connection, run_id, key)

    def log(self, logged: Logged) -> None:
        self._log(logged)

    def run_detail(self, run_id: str) -> RunDetail:
        self._sweep()
        with reading(self._engine) as connection:
            return of_runs.detail(connection, run_id)

    def search_details(
        self,
        experiment_ids: Iterable[int],
        filter: str = "",
        *,
        life: Life = "active",
        order_by: Iterable[str] = (),
        limit: int = 1000,
        page_token: str | None = None,
        spelling: Spelling | None = None,
    ) -> tuple[Sequence[RunDetail], str | None]:
        return self.search_shown(
            experiment_ids,
            filter,
            life=life,
            order_by=order_by,
            limit=limit,
            page_token=page_token,
            spelling=spelling,
            shown=AsRead(),
        )

    def search_shown(
        self,
        experiment_ids: Iterable[int],
        filter: str = "",
        *,
        life: Life = "active",
        order_by: Iterable[str] = (),
        limit: int = 1000,
        page_token: str | None = None,
        spelling: Spelling | None = None,
        shown: Shown[T],
    ) -> tuple[list[T], str | None]:
        """`search_details` in the form that `shown` makes; only runs that it has not cached are read."""
        from tracker.store.search.search import search_like_mlflow

        self._sweep()
        with reading(self._engine) as connection:
            rows, token = search_like_mlflow(
                connection,
                experiment_ids,
                filter,
                life=life,
                order_by=order_by,
                limit=limit,
                page_token=page_token,
                spelling=spelling,
            )
            return shown_rows(connection, rows, shown), token

    def hard_delete_run(self, run_id: str) -> None:
        with self._changing() as connection:
            removal.remove(connection, run_id)

    def deleted_runs(self, before_ms: int) -> Sequence[str]:
        with reading(self._engine) as connection:
            return removal.deleted_before(connection, before_ms)

    # -- data sets and models ------------------------------------------------------------------------------------

    def add_inputs(self, run_id: str, *, datasets: Sequence[DatasetUse] = (), models: Sequence[ModelLink] = ()) -> None:
        with self._changing() as connection:
            of_inputs.add_datasets(connection, run_id, datasets)
            of_inputs.link_models(connection, run_id, "input", models)

    def add_outputs(self, run_id: str, models: Sequence[ModelLink]) -> None:
        with self._changing() as connection:
            of_inputs.link_models(connection, run_id, "output", models)

    def dataset_uses(self, experiment_ids: Iterable[int], *, limit: int = 1000) -> Sequence[tuple[int, DatasetUse]]:
        with reading(self._engine) as connection:
            return of_inputs.dataset_uses(connection, experiment_ids, limit)

    def create_model(
        self,
        model_id: str,
        experiment_id: int,
        *,
        name: str,
        artifact_uri: str,
        kind: str | None = None,
        run_id: str | None = None,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> LoggedModel:
        with self._changing() as connection:
            return of_models.create(
                connection,
                model_id,
                experiment_id,
                name=name,
                artifact_uri=artifact_uri,
                kind=kind,
                run_id=run_id,
                params=params or {},
                tags=tags or {},
                ms=self._clock(),
            )

    def model(self, model_id: str, *, deleted: bool = False) -> LoggedModel:
        with reading(self._engine) as connection:
            return of_models.get(connection, model_id, deleted=deleted)

    def models(self, experiment_ids: Iterable[int]) -> Sequence[LoggedModel]:
        with reading(self._engine) as connection:
            return of_models.listed(connection, experiment_ids)

    def change_model(
        self,
        model_id: str,
        *,
        status: ModelStatus | None = None,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> LoggedModel:
        with self._changing() as connection:
            return of_models.change(connection, model_id, status=status, params=params, tags=tags, ms=self._clock())

    def delete_model_tag(self, model_id: str, key: str) -> None:
        with self._changing() as connection:
            of_models.delete_tag(connection, model_id, key)

    def delete_model(self, model_id: str) -> None:
        with self._changing() as connection:
            of_models.hide(connection, model_id, self._clock())

    def hard_delete_model(self, model_id: str) -> None:
        with self._changing() as connection:
            of_models.remove(connection, model_id)

    def deleted_models(self, before_ms: int) -> Sequence[str]:
        with reading(self._engine) as connection:
            return of_models.deleted_before(connection, before_ms)

    def log_model_metrics(self, model_id: str, metrics: Sequence[ModelMetric]) -> None:
        with self._changing() as connection:
            of_models.add_metrics(connection, model_id, metrics)
