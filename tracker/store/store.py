"""The run store over SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sqlalchemy import Connection, Engine, select

from tracker.domain.catalogue import AddressAlias
from tracker.domain.errors import InvalidValue, NoStore, StoreUnavailable
from tracker.domain.frames import Ack, Batch, StopRequested
from tracker.domain.identity import now_ms
from tracker.domain.limits import BLOCK_POINTS, check_step, step_bound
from tracker.domain.ports import ArtifactHome
from tracker.domain.records import (
    Checkpoint,
    Epoch,
    Event,
    Experiment,
    Fit,
    Histogram,
    History,
    Removed,
    Run,
    RunPage,
    Series,
)
from tracker.domain.run_progress import Progress
from tracker.store import readiness, schema
from tracker.store.addresses import Addresses, of
from tracker.store.database.database_file import file_of
from tracker.store.database.driver_cursor import DriverCursor
from tracker.store.engine import make_engine, reading, shown, translated, writing
from tracker.store.points.sealing import Sealing
from tracker.store.read import records as read
from tracker.store.tables import database_folders
from tracker.store.write import checkpoints
from tracker.store.write.claimed_run import ClaimedRun, changing
from tracker.store.write.leases import Leases
from tracker.store.write.series_cache import SeriesCache
from tracker.store.write.transaction import WriteState, append_group
from tracker.store.write.write_buffer import WriteBuffer

if TYPE_CHECKING:
    from tracker.store.catalogue.catalogue import Catalogue
    from tracker.store.compaction import Compaction
    from tracker.store.points.spooled import SpooledHistory
    from tracker.store.relocation import Relocated
    from tracker.store.removal import SqlRemoval
    from tracker.store.tokens import SqlTokens

T = TypeVar("T")
_NO_TURN = nullcontext()


class SqlRunStore:
    """RunStore (see `tracker.domain.ports`) over an engine; safe for threads, each call has its own connection."""

    def __init__(
        self,
        engine: Engine,
        *,
        clock: Callable[[], int] = now_ms,
        recreate: bool = False,
        cached_series: int = 20_000,
        block_points: int = BLOCK_POINTS,
    ) -> None:
        """`cached_series`: of how many series it caches summaries; `block_points`: TRACKER_BLOCK_POINTS."""
        self._engine = engine
        self._recreate = recreate
        self._clock = clock
        self.url = shown(engine)
        self._file = None if (file := file_of(engine)) is None else file.identity
        self._state = WriteState(SeriesCache(cached_series), clock, Sealing(block_points))
        self._leases = Leases(engine, clock)
        # Without it SQLite would poll for the write lock, with pauses in between.
        self._turn = Lock() if engine.dialect.name == "sqlite" else nullcontext()
        self._buffer = WriteBuffer(engine, self._state, turn=self._turn, before_append=self._follow_file)

    @classmethod
    def open(cls, url: str, *, create: bool = True, recreate: bool = False, block_points: int = BLOCK_POINTS) -> Self:
        """Open the store at `url`; with `create` it is created if missing. See `schema.ensure` for errors.

        With `recreate`, a SQLite file that disappears later is created again: for callers that can send everything
        again. Otherwise every write raises StoreUnavailable until a store is at the path.
        """
        engine = make_engine(url)
        try:
            schema.ensure(engine, create=create)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, recreate=recreate, block_points=block_points)

    def close(self) -> None:
        self._engine.dispose()

    def ready(self) -> None:
        self._follow_file()
        readiness.check(self._engine)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- writes --------------------------------------------------------------------------------------------------

    def append(self, batch: Batch) -> Ack:
        return _or_raise(self.append_many([batch]))

    def append_many(self, batches: Sequence[Batch]) -> list[Ack | Exception]:
        """Apply `batches` in one transaction; return, after the commit, what `append` would return or raise for each.

        A batch that fails changes nothing and does not affect the others. Batches of clients without a
        journal are applied after those of journals. Raises StoreUnavailable if none was applied.
        """
        self._follow_file()
        with self._turn:
            return append_group(self._engine, batches, self._state)

    def append_soon(self, batches: Sequence[Batch]) -> list[Ack | Exception]:
        """`append_many` that may commit points to the write buffer under load. The caller must call `settle` soon.

        Readers see these points too.
        """
        return self._buffer.append(batches, self.append_many)

    def settle(self) -> None:
        """Move the points that `append_soon` left in the write buffer to their series."""
        self._buffer.settle()

    def _before_change(self) -> None:
        self._follow_file()
        with translated(self._engine), self._engine.connect() as connection:
            self._buffer.drain(connection)

    def request_stop(self, run_id: str) -> None:
        batch = Batch(run_id, "", 0, 0, [(0, StopRequested(self._clock()))])
        with self._turn:
            _or_raise(append_group(self._engine, [batch], self._state, even_deleted=True))

    def delete_run(self, run_id: str) -> None:
        with self._changing(run_id) as (_, run):
            run.changes["deleted_ms"] = self._clock()

    def restore_run(self, run_id: str) -> None:
        with self._changing(run_id) as (_, run):
            run.changes["deleted_ms"] = None

    def tag_checkpoint(self, run_id: str, checkpoint_id: int, tag: str | None) -> None:
        with self._changing(run_id) as (raw, run):
            checkpoints.set_tag(raw, run, checkpoint_id, tag)

    def remove_pruned(self, home: ArtifactHome, run_id: str | None = None) -> Removed:
        return checkpoints.remove_pruned(self._engine, home, run_id)

    @cached_property
    def catalogue(self) -> Catalogue:
        """Reads and writes of clients without a journal: MLflow's clients and its UI."""
        from tracker.store.catalogue.base import StoreAccess
        from tracker.store.catalogue.catalogue import Catalogue

        seal = self.compaction.seal_ended
        return Catalogue(
            StoreAccess(self._engine, self._clock, self._before_change, self.sweep, self._reading_points, seal)
        )

    @cached_property
    def tokens(self) -> SqlTokens:
        """Access tokens of a server of this store."""
        from tracker.store.tokens import SqlTokens

        return SqlTokens(self._engine, clock=self._clock)

    @cached_property
    def removal(self) -> SqlRemoval:
        """Permanent removal of deleted runs, experiments and logged models."""
        from tracker.store.removal import SqlRemoval

        return SqlRemoval(self._engine, clock=self._clock, before_change=self._before_change)

    @cached_property
    def compaction(self) -> Compaction:
        """Compression of points and histograms that no writer compressed."""
        from tracker.store.compaction import Compaction

        return Compaction(self._engine, self._state, self._turn, self._before_change)

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
        alias: AddressAlias | None = None,
    ) -> RunPage:
        from tracker.store.search.missing_keys import warnings_of
        from tracker.store.search.search import search

        self.sweep()
        experiments = experiments if experiments is None or isinstance(experiments, str) else list(experiments)
        order_by = [order_by] if isinstance(order_by, str) else list(order_by)
        with self._reading_points() as connection:
            rows, token = search(connection, filter, experiments, order_by, limit, page_token, alias)
            warnings = (
                warnings_of(connection, filter, order_by, experiments, found=bool(rows)) if page_token is None else []
            )
        return RunPage(runs=[read.run_record(row) for row in rows], next_page_token=token, warnings=warnings)

    def get_run(self, run_id: str) -> Run:
        self.sweep()
        with self._reading_points() as connection:
            return read.get_run(connection, run_id)

    def find_runs(self, text: str, *, limit: int = 10, deleted: bool = False) -> Sequence[Run]:
        from tracker.store.search.search import find_runs

        self.sweep()
        with self._reading_points() as connection:
            return [read.run_record(row) for row in find_runs(connection, text, limit, deleted)]

    def progress(self, run_id: str) -> Progress:
        return self._points_of_run(run_id, read.progress)

    def params(self, run_id: str) -> Mapping[str, Any]:
        return self._of_run(run_id, read.get_params)

    def tags(self, run_id: str) -> Mapping[str, str]:
        return self._of_run(run_id, read.get_tags)

    def metrics(self, run_id: str) -> Mapping[str, Series]:
        return self._points_of_run(run_id, read.metrics)

    def history(
        self,
        run_id: str,
        key: str,
        *,
        max_points: int | None = None,
        raw: bool = False,
        first_step: int | None = None,
        last_step: int | None = None,
    ) -> History:
        found = self.short_history(
            run_id, key, None, max_points=max_points, raw=raw, first_step=first_step, last_step=last_step
        )
        assert found is not None
        return found

    def short_history(
        self,
        run_id: str,
        key: str,
        most_rows: int | None,
        *,
        max_points: int | None = None,
        raw: bool = False,
        first_step: int | None = None,
        last_step: int | None = None,
    ) -> History | None:
        """`history`; None if more than `most_rows` rows would have to be read for it."""
        from tracker.store.points.history import history

        if max_points is not None and check_step("max_points", max_points) < 4:
            raise InvalidValue("max_points", f"{max_points}", limit="at least 4: first, last, minimum and maximum")
        with self._reading_points() as connection:
            return history(
                connection,
                run_id,
                key,
                max_points=max_points,
                raw=raw,
                first_step=step_bound("first_step", first_step),
                last_step=step_bound("last_step", last_step),
                most_rows=most_rows,
            )

    def spool_history(
        self,
        run_id: str,
        key: str,
        *,
        raw: bool = False,
        first_step: int | None = None,
        last_step: int | None = None,
        turn: AbstractContextManager[object] = _NO_TURN,
    ) -> SpooledHistory:
        """`history` in temporary files, read in bounded pieces under `turn`; the caller closes it."""
        from tracker.store.points.spooled import spool

        with self._reading_points() as connection:
            return spool(
                connection,
                run_id,
                key,
                raw=raw,
                first_step=step_bound("first_step", first_step),
                last_step=step_bound("last_step", last_step),
                turn=turn,
            )

    def fits(self, run_id: str) -> Sequence[Fit]:
        self.sweep()
        return self._of_run(run_id, read.get_fits)

    def epochs(self, run_id: str) -> Sequence[Epoch]:
        return self._points_of_run(run_id, read.get_epochs)

    def events(self, run_id: str) -> Sequence[Event]:
        return self._of_run(run_id, read.get_events)

    def checkpoints(self, run_id: str) -> Sequence[Checkpoint]:
        return self._of_run(run_id, checkpoints.get_checkpoints)

    def histograms(self, run_id: str, key: str | None = None) -> Sequence[Histogram]:
        return self._of_run(run_id, lambda c, run: read.get_histograms(c, run, key))

    @property
    def addresses(self) -> Addresses:
        """Translates file addresses between their form in rows and the absolute form that readers get."""
        return of(self._engine.dialect)

    def was_in(self, folder: str) -> bool:
        """Whether the database was in `folder`, a URI, when some run began."""
        at = database_folders.c.folder == folder
        with reading(self._engine) as connection:
            return connection.execute(select(at).where(at)).first() is not None

    def relocate(self, url: str, old: str, new: str, *, dry_run: bool = False) -> Relocated:
        """Rewrite the addresses of files at or below the URI `old` to `new`; `url` is the store's. See `relocation`."""
        from tracker.store.relocation import relocate

        return relocate(self._engine, url, old, new, dry_run=dry_run)

    # -- upkeep --------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Mark runs whose lease has expired as `lost`, ended at their last sign of life.

        Reads of a run's status call it, so no background service is needed. If the database cannot be written, the last
        known status is kept.
        """
        self._leases.sweep()

    def _follow_file(self) -> None:
        """Reconnect if the file at the URL's path is not the one that was opened, which may have been moved or deleted.

        A connection to a deleted file keeps writing to it, and all data would be lost when the process ends.
        """
        file = file_of(self._engine)
        if file is None or (file.identity == self._file and self._file is not None):
            return
        file.leave()
        self._state.cache.forget()
        self._leases.forget()
        try:
            schema.ensure(self._engine, create=self._recreate)
        except NoStore as error:
            raise StoreUnavailable(f"{self.url}: the file at its path is not a store") from error
        self._file = file.identity

    def _of_run(self, run_id: str, of: Callable[[Connection, int], T]) -> T:
        with reading(self._engine) as connection:
            return of(connection, read.run_key(connection, run_id))

    def _points_of_run(self, run_id: str, of: Callable[[Connection, int], T]) -> T:
        with self._reading_points() as connection:
            return of(connection, read.run_key(connection, run_id))

    def _reading_points(self) -> AbstractContextManager[Connection]:
        """A transaction that sees the points in the write buffer, for reads of points and of what follows from them."""
        return reading(self._engine, self._buffer.drain)

    @contextmanager
    def _changing(self, run_id: str) -> Iterator[tuple[DriverCursor, ClaimedRun]]:
        with writing(self._engine) as connection, changing(connection, run_id, even_deleted=True) as claimed:
            yield claimed


def _or_raise(results: Sequence[Ack | Exception]) -> Ack:
    (result,) = results
    if isinstance(result, Exception):
        raise result
    return result
