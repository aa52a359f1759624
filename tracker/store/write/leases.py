"""Leases of runs: a run that gave no sign of life for LEASE_MS is marked as `lost`."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, Engine, and_, func, select, update

from tracker.domain.errors import StoreUnavailable
from tracker.domain.vocabulary import HEARTBEAT_MS, LEASE_MS
from tracker.store.database.driver_cursor import DriverCursor, driver_errors
from tracker.store.engine import reading, writing
from tracker.store.tables import LEASED, runs
from tracker.store.write.sessions import END_ALL_OPEN_FITS


class Leases:
    """Finds leases that have expired. Safe for threads."""

    def __init__(self, engine: Engine, clock: Callable[[], int]) -> None:
        self._engine = engine
        self._clock = clock
        self._swept_ms = self._calm_until_ms = -1

    def sweep(self) -> None:
        """Mark runs whose lease has expired; nothing is read again before the next lease can expire."""
        now = self._clock()
        # A clock that was set back must not delay the next check.
        if self._swept_ms <= now <= self._calm_until_ms:
            return
        self._swept_ms = now
        with reading(self._engine) as connection:
            oldest = connection.execute(select(func.min(runs.c.alive_ms)).where(LEASED)).scalar()
        if oldest is None or oldest >= now - LEASE_MS:
            # No lease can expire before the oldest one; but clocks of other machines may be behind.
            self._calm_until_ms = now + HEARTBEAT_MS if oldest is None else min(now + HEARTBEAT_MS, oldest + LEASE_MS)
            return
        try:
            with writing(self._engine) as connection:
                _end_lapsed(connection, now)
        except StoreUnavailable:
            return

    def forget(self) -> None:
        """Read at the next sweep: the file at the store's path is another one."""
        self._calm_until_ms = -1


def _end_lapsed(connection: Connection, now_ms: int) -> None:
    began = func.coalesce(runs.c.opened_ms, runs.c.started_ms).label("began_ms")
    lapsed = and_(LEASED, runs.c.alive_ms < now_ms - LEASE_MS)
    gone = connection.execute(select(runs.c.id, runs.c.alive_ms, began).where(lapsed).order_by(runs.c.id)).all()
    for run in gone:
        # It began by the client's clock; its signs of life have ours.
        ended_ms = max(run.alive_ms, run.began_ms)
        row = update(runs).where(runs.c.id == run.id)
        connection.execute(row.values(status="lost", ended_ms=ended_ms, version=runs.c.version + 1))
        with driver_errors(connection, END_ALL_OPEN_FITS):
            DriverCursor(connection).run(END_ALL_OPEN_FITS, ("lost", ended_ms, ended_ms, run.id))
