"""Group commit: many writes in one transaction, each of them whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from tracker.domain.catalogue import Logged
from tracker.domain.errors import InvalidValue, TrackerError
from tracker.domain.frames import Ack, Batch
from tracker.store.database.driver_cursor import Raw, driver_errors
from tracker.store.engine import translated, writing
from tracker.store.write.append import apply
from tracker.store.write.logged import apply_logged
from tracker.store.write.series_cache import Recall, SeriesCache

T = TypeVar("T")


def append_group(
    engine: Engine, group: Sequence[Batch | Logged], memory: SeriesCache, clock: Callable[[], int]
) -> list[Ack | Exception]:
    """`SqlRunStore.append_many`: returns what `append` would return or raise for each, once all is committed."""
    batches = [(index, one) for index, one in enumerate(group) if isinstance(one, Batch)]
    logged = [(index, one) for index, one in enumerate(group) if isinstance(one, Logged)]
    if not batches:
        found = _all_logged(engine, [one for _, one in logged], memory, clock)
        if found is not None:
            return found
    results: list[Ack | Exception] = [Ack(last=0)] * len(group)
    recall = Recall(memory)
    with writing(engine) as connection:
        if batches and logged:
            _lock(connection, sorted({one.run_id for one in group}))
        # Every process locks runs in the same order, so that none can deadlock.
        for index, batch in sorted(batches, key=lambda pair: pair[1].run_id):
            results[index] = _alone(engine, connection, batch, recall)
        if logged:
            of_logged = _apply_logged(engine, connection, [one for _, one in logged], recall, clock)
            for (index, _), result in zip(logged, of_logged, strict=True):
                results[index] = result
    recall.keep()
    return results


def _all_logged(
    engine: Engine, group: Sequence[Logged], memory: SeriesCache, clock: Callable[[], int]
) -> list[Ack | Exception] | None:
    """Apply `group` in a transaction of the driver's; None if the database refused a value."""
    recall = Recall(memory)
    with translated(engine), engine.connect() as connection:
        raw = Raw(connection)
        try:
            with driver_errors(connection, "what clients log"):
                raw.begin()
                results = apply_logged(connection, raw, group, recall, clock)
                raw.commit()
        except (DataError, IntegrityError, OverflowError, UnicodeError):
            raw.rollback()
            return None
    recall.keep()
    return results


def _lock(connection: Connection, uids: Sequence[str]) -> None:
    raw = Raw(connection)
    if raw.postgres:
        with driver_errors(connection, "runs"):
            raw.rows("SELECT id FROM runs WHERE uid = ANY(?) ORDER BY uid FOR UPDATE", (list(uids),))


def _alone(engine: Engine, connection: Connection, batch: Batch, recall: Recall) -> Ack | Exception:
    try:
        return _saved(engine, connection, lambda: apply(connection, batch, recall))
    except _Undone as undone:
        recall.drop(batch.run_id)
        return _refusal(f"frames {batch.first} to {batch.last}", undone.error)


def _apply_logged(
    engine: Engine, connection: Connection, group: Sequence[Logged], recall: Recall, clock: Callable[[], int]
) -> Sequence[Ack | Exception]:
    def all_of_it() -> list[Ack | Exception]:
        with driver_errors(connection, "what clients log"):
            return apply_logged(connection, Raw(connection), group, recall, clock)

    try:
        return _saved(engine, connection, all_of_it)
    except _Undone as undone:
        for one in group:
            recall.drop(one.run_id)
        if len(group) == 1:
            return [_refusal("what is logged", undone.error)]
    # The database refused a value in one of them: apply each alone.
    return [result for one in group for result in _apply_logged(engine, connection, [one], recall, clock)]


def apply_each(
    connection: Connection, raw: Raw, group: Sequence[Logged], recall: Recall, clock: Callable[[], int]
) -> Iterator[Ack | Exception]:
    """Store writes that were accepted before, one by one: one that cannot be stored fails alone."""
    for one in group:
        try:
            with driver_errors(connection, "what clients log"):
                raw.run("SAVEPOINT one")
                (result,) = apply_logged(connection, raw, [one], recall, clock, settling=True)
                raw.run("RELEASE SAVEPOINT one")
            yield result
        except (DataError, IntegrityError, OverflowError, UnicodeError) as error:
            with driver_errors(connection, "what clients log"):
                raw.run("ROLLBACK TO SAVEPOINT one")
            recall.drop(one.run_id)
            yield error


class _Undone(Exception):
    """A change was rolled back to its savepoint, and the transaction goes on."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def _saved(engine: Engine, connection: Connection, change: Callable[[], T]) -> T:
    """Run `change` in a savepoint; _Undone if it failed, its own error if the whole transaction is lost."""
    raw = Raw(connection)
    try:
        with translated(engine), driver_errors(connection, "SAVEPOINT batch"):
            raw.run("SAVEPOINT batch")
            result = change()
            raw.run("RELEASE SAVEPOINT batch")
    except Exception as error:
        try:
            with driver_errors(connection, "ROLLBACK TO SAVEPOINT batch"):
                raw.run("ROLLBACK TO SAVEPOINT batch")
        except SQLAlchemyError:
            raise error from None
        raise _Undone(error) from error
    return result


def _refusal(what: str, error: Exception) -> Exception:
    if isinstance(error, TrackerError):
        return error
    if not isinstance(error, (DataError, IntegrityError, OverflowError, UnicodeError)):
        return error
    refusal = InvalidValue(what, f"cannot be stored: {getattr(error, 'orig', error)}")
    refusal.__cause__ = error
    return refusal
