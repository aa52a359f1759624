"""Base class of the catalogue's parts: their transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError

from tracker.domain.errors import InvalidValue
from tracker.store.database.driver_cursor import DriverCursor
from tracker.store.engine import reading, writing
from tracker.store.write.claimed_run import ClaimedRun, changing


@dataclass(frozen=True, slots=True)
class StoreAccess:
    """What the catalogue needs of the store.

    `before_change` is called before each change, `sweep` marks runs whose lease has expired as lost, `reading_points`
    opens a transaction that sees all points, `seal_ended` seals the points of a run that has ended.
    """

    engine: Engine
    clock: Callable[[], int]
    before_change: Callable[[], None]
    sweep: Callable[[], None]
    reading_points: Callable[[], AbstractContextManager[Connection]]
    seal_ended: Callable[[str], None]


class CataloguePart:
    """A part of the catalogue; safe for threads, each call is one transaction of its own connection.

    Every method raises StoreUnavailable while the store does not answer. A missing object raises ExperimentNotFound,
    RunNotFound or ModelNotFound. Changes of a deleted run raise RunDeleted, of a deleted experiment ExperimentDeleted.
    """

    def __init__(self, access: StoreAccess) -> None:
        self._engine = access.engine
        self._clock = access.clock
        self._before_change = access.before_change
        self._sweep = access.sweep
        self._reading_points = access.reading_points
        self._seal_ended = access.seal_ended

    def _reading(self) -> AbstractContextManager[Connection]:
        return reading(self._engine)

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        self._before_change()
        try:
            with writing(self._engine) as connection:
                yield connection
        except (DataError, OverflowError, UnicodeError) as error:
            raise InvalidValue("value", f"cannot be stored: {getattr(error, 'orig', error)}") from error

    @contextmanager
    def _changing_run(self, run_id: str) -> Iterator[tuple[DriverCursor, ClaimedRun]]:
        with self._changing() as connection, changing(connection, run_id) as claimed:
            yield claimed
