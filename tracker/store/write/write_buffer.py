"""Write buffer for points logged through MLflow's API: packed under load, unpacked before reads.

A point of another series costs SQLite a page of points and a row of the series, both written whole at the commit. While
calls come in quick succession, a group of them is committed as one packed row of the table `tails`. `settle` unpacks
many such rows into points and series at once. Readers settle first, so they see no difference. The rows of a process
that was killed are unpacked by the next process that reads or writes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress

import msgspec
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, IntegrityError

from tracker.domain.catalogue import Logged
from tracker.domain.deadlines import query_deadline
from tracker.domain.errors import RunDeleted, RunNotFound, StoreUnavailable
from tracker.domain.frames import Ack, Batch
from tracker.domain.limits import KEY_LENGTH
from tracker.store.database.driver_cursor import Raw, driver_errors
from tracker.store.engine import translated
from tracker.store.write.group_commit import apply_each
from tracker.store.write.logged import apply_logged, out_of_range
from tracker.store.write.series_cache import Recall, SeriesCache

log = logging.getLogger("tracker.store")

HURRY_S = 0.02
"""Groups that follow each other within this time are load."""
_LOOK_S = 0.2
"""Shortest time between two calls of `before_append` under load."""
_LOCK = 7_210_486
_ROWS = 5000
_BYTES = 8 * 1024 * 1024
"""How many rows, and about how many bytes of them, are moved in one transaction."""
# Rows of `tails` hold MessagePack of the calls of one group.
_Packed = tuple[str, Sequence[str], Sequence[int], Sequence[int], Sequence[float]]
_decode = msgspec.msgpack.Decoder(list[tuple[str, list[str], list[int], list[int], list[float]]]).decode


class WriteBuffer:
    """The packed points of one store. Safe for threads; `turn` is held while it writes.

    `before_append` is called before it packs, at most every `_LOOK_S`.
    """

    def __init__(
        self,
        engine: Engine,
        memory: SeriesCache,
        clock: Callable[[], int],
        *,
        turn: AbstractContextManager[object],
        before_append: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._before_append = before_append
        self._memory = memory
        self._clock = clock
        self._turn = turn
        self._last_group = 0.0
        self._packed = False
        self._looked = 0.0

    def append(
        self, group: Sequence[Batch | Logged], otherwise: Callable[[Sequence[Batch | Logged]], list[Ack | Exception]]
    ) -> list[Ack | Exception]:
        """Commit `group` packed, if calls come in quick succession and it has points only; else call `otherwise`.

        Returns what `append` would return or raise for each of `group`.
        """
        try:
            # Packed points are older: if this were stored before them, all of them would come late to their series.
            hurried = self._packed or time.monotonic() - self._last_group < HURRY_S
            logged = [one for one in group if type(one) is Logged and _only_points(one)] if hurried else []
            if logged and len(logged) == len(group):
                if time.monotonic() - self._looked > _LOOK_S:
                    self._looked = time.monotonic()
                    self._before_append()
                with self._turn:
                    results = _stage(self._engine, logged)
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

    def before_read(self, connection: Connection) -> None:
        """Move all packed points, of any process; the connection must have no transaction yet.

        If the database cannot be written, readers do not see the packed points.
        """
        raw = Raw(connection)
        with driver_errors(connection, _FIRST):
            if not raw.rows(_FIRST):
                return
            raw.rollback()
        with suppress(StoreUnavailable):
            self._settle()

    def _settle(self) -> None:
        # A reader's deadline must not stop the write of others' points.
        with query_deadline(None), self._turn:
            while _settle_some(self._engine, self._memory, self._clock):
                pass


def _only_points(one: Logged) -> bool:
    return bool(one.keys) and not (one.params or one.tags or one.stop) and one.name is None


def _stage(engine: Engine, group: Sequence[Logged]) -> list[Ack | Exception] | None:
    """Commit the points of `group`, to be moved later; return the answers that `apply_logged` would give.

    None, without changes, if a database might refuse a key later.
    """
    with translated(engine), engine.connect() as connection:
        raw = Raw(connection)
        with driver_errors(connection, _INSERT):
            raw.begin()
            lives = _lives(raw, group)
            results = [_answer(one, lives.get(one.run_id)) for one in group]
            taken = [one for one, result in zip(group, results, strict=True) if type(result) is Ack]
            if not taken or not _fits(taken):
                raw.rollback()
                return None if taken else results
            raw.run(_INSERT, (msgspec.msgpack.encode([_packed(one) for one in taken]),))
            raw.commit()
    return results


def _settle_some(engine: Engine, memory: SeriesCache, clock: Callable[[], int]) -> bool:
    """Move some of the packed points; return whether there were any."""
    recall = Recall(memory)
    with translated(engine), engine.connect() as connection:
        raw = Raw(connection)
        with driver_errors(connection, _SELECT):
            raw.begin()
            if raw.postgres:
                raw.run(f"SELECT pg_advisory_xact_lock({_LOCK})")
            rows = _next_rows(raw)
            group = [Logged(*packed) for _, data in rows for packed in _decode(data)]
            if not group:
                raw.rollback()
                return False
            raw.run("SAVEPOINT settle")
        try:
            with driver_errors(connection, "points"):
                apply_logged(connection, raw, group, recall, clock, settling=True)
        except (DataError, IntegrityError, OverflowError, UnicodeError):
            with driver_errors(connection, "points"):
                raw.run("ROLLBACK TO SAVEPOINT settle")
            recall = Recall(memory)
            for one, result in zip(group, apply_each(connection, raw, group, recall, clock), strict=True):
                if isinstance(result, Exception):
                    log.error("%d points of run %s cannot be stored: %s", len(one.keys), one.run_id, result)
        with driver_errors(connection, _DELETE):
            raw.many(_DELETE, [(row[0],) for row in rows])
            raw.commit()
    recall.keep()
    return True


def _next_rows(raw: Raw) -> list[tuple[int, bytes]]:
    last = size = 0
    for last, length in raw.rows(_SIZES):  # noqa: B007
        size += length
        if size >= _BYTES:
            break
    return raw.rows(_SELECT, (last,)) if size else []


def _lives(raw: Raw, group: Iterable[Logged]) -> dict[str, tuple[bool, bool]]:
    """For each run that exists: whether it is deleted, and whether it was asked to stop."""
    uids = {one.run_id for one in group}
    if raw.postgres:
        rows = raw.rows(f"{_SELECT_RUN} = ANY(?)", (list(uids),))
    else:
        rows = [row for uid in uids for row in raw.rows(f"{_SELECT_RUN} = ?", (uid,))]
    return {uid: (deleted is not None, stop is not None) for uid, deleted, stop in rows}


def _answer(one: Logged, life: tuple[bool, bool] | None) -> Ack | Exception:
    if life is None:
        return RunNotFound(one.run_id)
    deleted, stop = life
    if deleted:
        return RunDeleted(one.run_id)
    return out_of_range(one) or Ack(last=0, stop=stop)


def _fits(group: Iterable[Logged]) -> bool:
    """Whether every database accepts every key: what is committed here must not be refused later."""
    try:
        for one in group:
            text = "".join(one.keys)
            text.encode()
            if "\x00" in text or (len(text) > KEY_LENGTH and max(map(len, one.keys)) > KEY_LENGTH):
                return False
    except UnicodeEncodeError:
        return False
    return True


def _packed(one: Logged) -> _Packed:
    return one.run_id, one.keys, one.steps, one.ms, one.values


_SELECT_RUN = (
    "SELECT r.uid, coalesce(r.deleted_ms, e.deleted_ms), r.stop_requested_ms"
    " FROM runs AS r JOIN experiments AS e ON e.id = r.experiment_id WHERE r.uid"
)
_INSERT = "INSERT INTO tails (data) VALUES (?)"
_FIRST = "SELECT 1 FROM tails LIMIT 1"
_SIZES = f"SELECT id, length(data) FROM tails ORDER BY id LIMIT {_ROWS}"
_SELECT = "SELECT id, data FROM tails WHERE id <= ? ORDER BY id"
_DELETE = "DELETE FROM tails WHERE id = ?"
