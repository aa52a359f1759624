"""Write buffer for points logged through MLflow's API: packed under load, unpacked before reads.

A point of another series costs SQLite a page of points and a row of the series, both written whole at the commit. While
calls come in quick succession, a group of them is committed as one packed row of the table `tails`. `settle` unpacks
many such rows into points and series at once. Readers of points and summaries `drain` it first, so they see no
difference. The rows of a process that was killed are unpacked by the next process that reads or writes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress

import msgspec
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, IntegrityError

from tracker.domain.calls import batch_of_call
from tracker.domain.errors import InvalidRecord, RunNotFound, StoreUnavailable
from tracker.domain.frames import Ack, Batch, Item, PointsLogged
from tracker.domain.limits import KEY_LENGTH
from tracker.store.database.driver_cursor import DriverCursor, driver_errors
from tracker.store.engine import driver_transaction
from tracker.store.write.claimed_run import claim
from tracker.store.write.series_cache import SeriesLoader
from tracker.store.write.transaction import WriteState, apply, apply_each, check

log = logging.getLogger("tracker.store")

HURRY_S = 0.02
"""Groups that follow each other within this time are load."""
_LOOK_S = 0.2
"""Shortest time between two calls of `before_append` under load."""
_LOCK = 7_210_486
_ROWS = 5000
_BYTES = 8 * 1024 * 1024
"""How many rows, and about how many bytes of them, are moved in one transaction."""
# Rows of the table `tails` hold MessagePack of the calls of one group.
_Packed = tuple[str, Sequence[str], Sequence[int], Sequence[int], Sequence[float]]
_decode = msgspec.msgpack.Decoder(list[tuple[str, list[str], list[int], list[int], list[float]]]).decode


class WriteBuffer:
    """The packed points of one store. Safe for threads; `turn` is held while it writes.

    `before_append` is called before it packs, at most every `_LOOK_S`.
    """

    def __init__(
        self,
        engine: Engine,
        state: WriteState,
        *,
        turn: AbstractContextManager[object],
        before_append: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._before_append = before_append
        self._state = state
        self._turn = turn
        self._last_group = 0.0
        self._packed = False
        self._looked = 0.0

    def append(
        self, group: Sequence[Batch], otherwise: Callable[[Sequence[Batch]], list[Ack | Exception]]
    ) -> list[Ack | Exception]:
        """Commit `group` packed, if calls come in quick succession and it has points only; else call `otherwise`.

        Returns what `append` would return or raise for each of `group`.
        """
        try:
            # Packed points are older: if this were stored before them, all of them would come late to their series.
            hurried = self._packed or time.monotonic() - self._last_group < HURRY_S
            if hurried and group and all(map(_has_only_points, group)):
                if time.monotonic() - self._looked > _LOOK_S:
                    self._looked = time.monotonic()
                    self._before_append()
                with self._turn:
                    results = _pack(self._engine, group)
                if results is not None:
                    self._packed = True
                    return results
            return otherwise(group)
        finally:
            self._last_group = time.monotonic()

    def settle(self) -> None:
        """Move the points that `append` packed, if any, to their series."""
        if self._packed:
            self._packed = False
            self._settle()
            self._last_group = time.monotonic()

    def drain(self, connection: Connection) -> None:
        """Move all packed points, of any process, to their series; the connection must have no transaction yet.

        If the database cannot be written, readers do not see the packed points.
        """
        raw = DriverCursor(connection)
        with driver_errors(connection, _FIRST):
            if not raw.rows(_FIRST):
                return
            raw.rollback()
        with suppress(StoreUnavailable):
            self._settle()

    def _settle(self) -> None:
        with self._turn:
            while _settle_some(self._engine, self._state):
                pass


def _has_only_points(batch: Batch) -> bool:
    return not batch.writer and len(batch.items) == 1 and type(batch.items[0][1]) is PointsLogged


def _pack(engine: Engine, group: Sequence[Batch]) -> list[Ack | Exception] | None:
    """Commit the points of `group`, to be moved later; return the answers that `append` would give.

    None, without changes, if a database might refuse a key later.
    """
    with driver_transaction(engine) as raw:
        runs = claim(raw, {batch.run_id for batch in group}, calls_only=True, lock=False)
        results: list[Ack | Exception] = []
        packed: list[_Packed] = []
        for batch in group:
            run = runs.get(batch.run_id)
            error = check(raw, batch, run)
            if run is None or error is not None:
                results.append(error or RunNotFound(batch.run_id))
                continue
            points = batch.items[0][1]
            assert type(points) is PointsLogged
            packed.append((batch.run_id, points.keys, points.steps, points.ms, points.values))
            results.append(Ack(last=0, stop=run.now("stop_requested_ms") is not None))
        if not all(_fits(keys) for _, keys, *_ in packed):
            return None
        if packed:
            raw.run(_INSERT, (msgspec.msgpack.encode(packed),))
    return results


def _settle_some(engine: Engine, state: WriteState) -> bool:
    """Move some of the packed points; return whether there were any."""
    loader = SeriesLoader(state.cache)
    with driver_transaction(engine) as raw:
        if raw.postgres:
            raw.run(f"SELECT pg_advisory_xact_lock({_LOCK})")
        rows = _next_rows(raw)
        calls = [packed for _, data in rows for packed in _decode(data)]
        if not calls:
            return False
        raw.run("SAVEPOINT settle")
        try:
            with driver_errors(raw.connection, "points"):
                apply(raw, _merged(calls), loader, state, even_deleted=True)
        except (DataError, IntegrityError, OverflowError, UnicodeError, InvalidRecord):
            raw.run("ROLLBACK TO SAVEPOINT settle")
            loader = SeriesLoader(state.cache)
            group = [batch_of_call(*packed) for packed in calls]
            for batch, result in zip(group, apply_each(raw, group, loader, state, even_deleted=True), strict=True):
                if isinstance(result, Exception):
                    log.error("%d points of run %s cannot be stored: %s", batch.points, batch.run_id, result)
        raw.many(_DELETE, [(row[0],) for row in rows])
    loader.keep()
    return True


def _merged(calls: Iterable[_Packed]) -> list[Batch]:
    """One batch for each run."""
    by_run: dict[str, list[tuple[int, Item]]] = {}
    for run_id, keys, steps, ms, values in calls:
        by_run.setdefault(run_id, []).append((0, PointsLogged(keys, steps, ms, values)))
    return [Batch(run_id, "", 0, 0, items) for run_id, items in by_run.items()]


def _next_rows(raw: DriverCursor) -> list[tuple[int, bytes]]:
    last = size = 0
    for last, length in raw.rows(_SIZES):  # noqa: B007
        size += length
        if size >= _BYTES:
            break
    return raw.rows(_SELECT, (last,)) if size else []


def _fits(keys: Sequence[str]) -> bool:
    """Whether every database accepts the keys: what is committed here must not be refused later."""
    text = "".join(keys)
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in text and (len(text) <= KEY_LENGTH or max(map(len, keys)) <= KEY_LENGTH)


_INSERT = "INSERT INTO tails (data) VALUES (?)"
_FIRST = "SELECT 1 FROM tails LIMIT 1"
_SIZES = f"SELECT id, length(data) FROM tails ORDER BY id LIMIT {_ROWS}"
_SELECT = "SELECT id, data FROM tails WHERE id <= ? ORDER BY id"
_DELETE = "DELETE FROM tails WHERE id = ?"
