"""The run store over SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, Engine, and_, select, update
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from tracker.domain.errors import InvalidValue, StoreUnavailable
from tracker.domain.frames import Ack, Batch
from tracker.domain.identity import now_ms
from tracker.domain.limits import check_step
from tracker.domain.progress import Progress
from tracker.domain.records import Checkpoint, Epoch, Event, Experiment, Fit, Histogram, History, Run, RunPage, Series
from tracker.domain.words import LEASE_MS
from tracker.store import read, schema
from tracker.store.append import apply
from tracker.store.engine import file_identity, make_engine, reading, shown, translated, writing
from tracker.store.tables import LEASED, events, fits, runs
from tracker.store.texts import as_text

T = TypeVar("T")


class SqlRunStore:
    """RunStore (see `tracker.domain.ports`) over an engine; safe for threads, each call has its own connection."""

    def __init__(self, engine: Engine, *, clock: Callable[[], int] = now_ms) -> None:
        self._engine = engine
        self._clock = clock
        self.url = shown(engine)
        self._file = file_identity(engine)

    @classmethod
    def open(cls, url: str) -> Self:
        """The store at `url`, created if it is not there; see `schema.ensure` for what is refused."""
        engine = make_engine(url)
        try:
            schema.ensure(engine)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine)

    def close(self) -> None:
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the one way in ------------------------------------------------------------------------------------------

    def append(self, batch: Batch) -> Ack:
        (result,) = self.append_many([batch])
        if isinstance(result, Exception):
            raise result
        return result

    def append_many(self, batches: Sequence[Batch]) -> list[Ack | Exception]:
        """Apply `batches` in one transaction; return once it is committed, with what `append` would return or raise.

        A batch that fails changes nothing and fails alone. Raises StoreUnavailable if none was applied.
        """
        self._follow_file()
        results: list[Ack | Exception] = [Ack(last=0)] * len(batches)
        with writing(self._engine) as connection:
            # Every process takes the runs' locks in the same order, so that none waits for another in a circle.
            for index in sorted(range(len(batches)), key=lambda index: batches[index].run_id):
                results[index] = self._apply_alone(connection, batches[index])
        return results

    def _apply_alone(self, connection: Connection, batch: Batch) -> Ack | Exception:
        connection.exec_driver_sql("SAVEPOINT batch")
        try:
            with translated(self._engine):
                ack = apply(connection, batch)
        except Exception as error:
            try:
                connection.exec_driver_sql("ROLLBACK TO SAVEPOINT batch")
            except SQLAlchemyError:
                raise error from None  # the whole transaction is gone
            return _refusal(batch, error)
        connection.exec_driver_sql("RELEASE SAVEPOINT batch")
        return ack

    def request_stop(self, run_id: str) -> None:
        def change(connection: Connection, run: int) -> None:
            ms = self._clock()
            connection.execute(update(runs).where(runs.c.id == run).values(stop_requested_ms=ms))
            connection.execute(
                events.insert(),
                {"run_id": run, "ms": ms, "kind": "stop_requested", "fit": 0, "detail": as_text({})},
            )

        self._change(run_id, change)

    def delete_run(self, run_id: str) -> None:
        self._change(run_id, lambda c, run: c.execute(_set_deleted(run, self._clock())))

    def restore_run(self, run_id: str) -> None:
        self._change(run_id, lambda c, run: c.execute(_set_deleted(run, None)))

    # -- reads ---------------------------------------------------------------------------------------------------

    def experiments(self) -> Sequence[Experiment]:
        with reading(self._engine) as connection:
            return read.all_experiments(connection)

    def search_runs(
        self,
        filter: str = "",
        *,
        experiments: Iterable[str] | None = None,
        order_by: Iterable[str] = (),
        limit: int = 100,
        page_token: str | None = None,
    ) -> RunPage:
        from tracker.store.search import search

        self.sweep()
        with reading(self._engine) as connection:
            rows, token = search(
                connection, filter, experiments=experiments, order_by=order_by, limit=limit, page_token=page_token
            )
        return RunPage(runs=[read.run_record(row) for row in rows], next_page_token=token)

    def get_run(self, run_id: str) -> Run:
        self.sweep()
        with reading(self._engine) as connection:
            return read.get_run(connection, run_id)

    def find_runs(self, text: str, *, limit: int = 10, deleted: bool = False) -> Sequence[Run]:
        self.sweep()
        with reading(self._engine) as connection:
            return read.find_runs(connection, text, limit, deleted)

    def progress(self, run_id: str) -> Progress:
        return self._of_run(run_id, read.progress)

    def params(self, run_id: str) -> Mapping[str, Any]:
        return self._of_run(run_id, read.get_params)

    def tags(self, run_id: str) -> Mapping[str, str]:
        return self._of_run(run_id, read.get_tags)

    def metrics(self, run_id: str) -> Mapping[str, Series]:
        return self._of_run(run_id, read.metrics)

    def history(self, run_id: str, key: str, *, max_points: int | None = None, raw: bool = False) -> History:
        if max_points is not None and check_step("max_points", max_points) < 4:
            raise InvalidValue("max_points", f"{max_points}", limit="at least 4: first, last, minimum and maximum")
        return self._of_run(run_id, lambda c, run: read.history(c, run, run_id, key, max_points, raw))

    def fits(self, run_id: str) -> Sequence[Fit]:
        self.sweep()
        return self._of_run(run_id, read.get_fits)

    def epochs(self, run_id: str) -> Sequence[Epoch]:
        return self._of_run(run_id, read.get_epochs)

    def events(self, run_id: str) -> Sequence[Event]:
        return self._of_run(run_id, read.get_events)

    def checkpoints(self, run_id: str) -> Sequence[Checkpoint]:
        return self._of_run(run_id, read.get_checkpoints)

    def histograms(self, run_id: str, key: str | None = None) -> Sequence[Histogram]:
        return self._of_run(run_id, lambda c, run: read.get_histograms(c, run, key))

    # -- upkeep --------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Make runs whose lease ran out `lost`, as of their last sign of life.

        Reads of a run's status call it, so that nobody has to run a service for the truth. Where the database cannot
        be written the last known status stands.
        """
        lapsed = and_(LEASED, runs.c.alive_ms < self._clock() - LEASE_MS)
        with reading(self._engine) as connection:
            if connection.execute(select(runs.c.id).where(lapsed).limit(1)).scalar() is None:
                return
        try:
            with writing(self._engine) as connection:
                gone = connection.execute(select(runs.c.id, runs.c.alive_ms).where(lapsed).order_by(runs.c.id)).all()
                for run in gone:
                    connection.execute(
                        update(runs).where(runs.c.id == run.id).values(status="lost", ended_ms=run.alive_ms)
                    )
                    connection.execute(
                        update(fits)
                        .where(fits.c.run_id == run.id, fits.c.outcome.is_(None))
                        .values(outcome="lost", ended_ms=run.alive_ms)
                    )
        except StoreUnavailable:
            return

    def _follow_file(self) -> None:
        """Go on in the file that the URL names: what was opened may have been moved or deleted since.

        A connection to a deleted file goes on writing to it, and all would be lost with the process.
        """
        if file_identity(self._engine) != self._file:
            self._engine.dispose()
            schema.ensure(self._engine)
            self._file = file_identity(self._engine)

    def _of_run(self, run_id: str, of: Callable[[Connection, int], T]) -> T:
        with reading(self._engine) as connection:
            return of(connection, read.run_key(connection, run_id))

    def _change(self, run_id: str, change: Callable[[Connection, int], object]) -> None:
        with writing(self._engine) as connection:
            change(connection, read.run_key(connection, run_id))


def _set_deleted(run: int, ms: int | None) -> Any:
    return update(runs).where(runs.c.id == run).values(deleted_ms=ms)


def _refusal(batch: Batch, error: Exception) -> Exception:
    if not isinstance(error, (DataError, IntegrityError, OverflowError, UnicodeError)):
        return error
    refusal = InvalidValue(
        f"frames {batch.first} to {batch.last}", f"cannot be stored: {getattr(error, 'orig', error)}"
    )
    refusal.__cause__ = error
    return refusal
