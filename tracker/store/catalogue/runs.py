"""Runs of the catalogue: those without a journal, and the details of all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from sqlalchemy import delete, or_, select

from tracker.domain.catalogue import AddressAlias, Lifecycle, RunDetail
from tracker.domain.errors import KeyNotFound, RunExists, RunNotFound, StoreUnavailable
from tracker.domain.limits import check_name, check_run_id
from tracker.domain.records import Run
from tracker.domain.vocabulary import RunStatus
from tracker.store.catalogue.base import CataloguePart
from tracker.store.catalogue.experiments import active
from tracker.store.read.records import run_record, run_rows
from tracker.store.read.run_cache import EncodedRuns, Unencoded, encoded_rows
from tracker.store.read.run_details import details_of
from tracker.store.tables import experiments, runs
from tracker.store.tables import tags as tag_rows
from tracker.store.write import sessions
from tracker.store.write.claimed_run import changing, create_run
from tracker.store.write.deletion import delete_runs

T = TypeVar("T")


class RunCatalogue(CataloguePart):
    """Runs of clients without a journal, and the details of all runs."""

    def create(
        self, run_id: str, experiment_id: int, *, name: str, started_ms: int, artifact_uri: str, tags: Mapping[str, str]
    ) -> RunDetail:
        """Create a run without a lease: it is running until its status is changed. RunExists."""
        ms = self._clock()
        with self._changing() as connection:
            experiment = active(connection, experiment_id)
            made = create_run(
                connection,
                check_run_id(run_id),
                experiment_id,
                name=check_name(name),
                started_ms=started_ms,
                alive_ms=ms,
                writer="",
                artifact_uri=artifact_uri,
                version=ms,
            )
            if not made:
                raise RunExists(run_id)
            if tags:
                run_key = connection.execute(select(runs.c.id).where(runs.c.uid == run_id)).scalar()
                rows = [{"run_id": run_key, "key": key, "value": value} for key, value in tags.items()]
                connection.execute(tag_rows.insert(), rows)
            run = Run(
                id=run_id,
                name=name,
                experiment=experiment.name,
                status="running",
                started_ms=started_ms,
                ended_ms=None,
                best_epoch=None,
                artifact_uri=artifact_uri,
                alive_ms=ms,
            )
            return RunDetail(
                run=run,
                experiment_id=experiment_id,
                params={},
                tags=dict(tags),
                metrics={},
                datasets=[],
                inputs=[],
                outputs=[],
            )

    def change(
        self, run_id: str, *, status: RunStatus | None = None, ended_ms: int | None = None, name: str | None = None
    ) -> Run:
        """Set what is not None. A status given here is final: a journal's later end does not change it."""
        with self._changing() as connection:
            with changing(connection, run_id) as (_, run):
                was = run.now("status")
                if status == "running" and was != "running":
                    run.changes.update(sessions.begin(run.now, self._clock()))
                if ended_ms is not None:
                    run.changes["ended_ms"] = ended_ms
                if name is not None:
                    run.changes["name"] = check_name(name)
                if status is not None:
                    run.changes["status"] = status
                if status == "running":
                    run.changes["ended_ms"] = None
                # A valid lease of a running run stays. Otherwise it is removed, so that it cannot change the status
                # later.
                if status is not None and (status, was) != ("running", "running"):
                    run.changes["writer"] = ""
            changed = run_record(connection.execute(run_rows.where(runs.c.id == run.id)).one())
        if status is not None and status != "running":
            with suppress(StoreUnavailable):  # the change is done; a server seals later, too
                self._seal_ended(run_id)
        return changed

    def delete_tag(self, run_id: str, key: str) -> None:
        """Remove the tag; KeyNotFound if there is none."""
        with self._changing_run(run_id) as (raw, run):
            its = tag_rows.c.run_id == run.id, tag_rows.c.key == key
            if not raw.connection.execute(delete(tag_rows).where(*its)).rowcount:
                raise KeyNotFound(f"run {run_id!r}", key)

    def detail(self, run_id: str) -> RunDetail:
        """The details of one run, deleted or not; RunNotFound."""
        self._sweep()
        with self._reading_points() as connection:
            row = connection.execute(run_rows.where(runs.c.uid == run_id)).one_or_none()
            if row is None:
                raise RunNotFound(run_id)
            return details_of(connection, [row])[0]

    def search(
        self,
        experiment_ids: Iterable[int],
        filter: str = "",
        *,
        lifecycle: Lifecycle = "active",
        order_by: Iterable[str] = (),
        limit: int = 1000,
        page_token: str | None = None,
        alias: AddressAlias | None = None,
    ) -> tuple[Sequence[RunDetail], str | None]:
        """A page of runs of these experiments (unknown ids are ignored), and the token of the next page or None.

        Filter and order mean what MLflow's search means by them; ties go newest start first, then by run id. Conditions
        on `artifact_uri`, not the order, apply to the address that `alias` shows.
        """
        return self.search_encoded(
            experiment_ids,
            filter,
            lifecycle=lifecycle,
            order_by=order_by,
            limit=limit,
            page_token=page_token,
            alias=alias,
            encoded=Unencoded(),
        )

    def search_encoded(
        self,
        experiment_ids: Iterable[int],
        filter: str = "",
        *,
        lifecycle: Lifecycle = "active",
        order_by: Iterable[str] = (),
        limit: int = 1000,
        page_token: str | None = None,
        alias: AddressAlias | None = None,
        encoded: EncodedRuns[T],
    ) -> tuple[list[T], str | None]:
        """`search` with the runs as `encoded` makes them; only runs that it has not cached are read."""
        from tracker.store.search.search import search_like_mlflow

        self._sweep()
        with self._reading_points() as connection:
            rows, token = search_like_mlflow(
                connection,
                experiment_ids,
                filter,
                lifecycle=lifecycle,
                order_by=order_by,
                limit=limit,
                page_token=page_token,
                alias=alias,
            )
            return encoded_rows(connection, rows, encoded), token

    def remove(self, run_id: str) -> None:
        """Remove the run's rows for good; its files stay."""
        with self._changing() as connection:
            run = connection.execute(select(runs.c.id).where(runs.c.uid == run_id)).scalar()
            if run is None:
                raise RunNotFound(run_id)
            delete_runs(connection, runs.c.id == run)

    def deleted_before(self, ms: int) -> Sequence[str]:
        """Ids of the runs that were deleted before `ms`, or whose experiment was, the oldest first."""
        gone = or_(runs.c.deleted_ms < ms, experiments.c.deleted_ms < ms)
        statement = select(runs.c.uid).join(experiments).where(gone)
        with self._reading() as connection:
            return connection.execute(statement.order_by(runs.c.id)).scalars().all()
