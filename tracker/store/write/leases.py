"""Leases of runs: a run that gave no sign of life for LEASE_MS is marked as `lost`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine

from tracker.domain.errors import StoreUnavailable
from tracker.domain.vocabulary import HEARTBEAT_MS, LEASE_MS
from tracker.store.database.driver_cursor import DriverCursor, driver_errors
from tracker.store.engine import reading, writing
from tracker.store.tables import LEASED
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
        with reading(self._engine) as connection, driver_errors(connection, _OLDEST):
            [(oldest,)] = _by_lease(DriverCursor(connection), _OLDEST)
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
    with driver_errors(connection, _LAPSED):
        raw = DriverCursor(connection)
        for run, alive_ms, began_ms in sorted(_by_lease(raw, _LAPSED, now_ms - LEASE_MS)):
            # It began by the client's clock; its signs of life have ours.
            ended_ms = max(alive_ms, began_ms)
            raw.run(_END, (ended_ms, run))
            raw.run(END_ALL_OPEN_FITS, ("lost", ended_ms, ended_ms, run))


_OLDEST = f"SELECT min(alive_ms) FROM runs WHERE {LEASED.text}"
_LAPSED = f"SELECT id, alive_ms, coalesce(opened_ms, started_ms) FROM runs WHERE {LEASED.text} AND alive_ms < ?"
_END = "UPDATE runs SET status = 'lost', ended_ms = ?, version = version + 1 WHERE id = ?"


def _by_lease(raw: DriverCursor, statement: str, *values: int) -> list[tuple[Any, ...]]:
    """Rows of runs with a lease. Without statistics SQLite would look at all that run, which may be very many."""
    if not raw.postgres:
        statement = statement.replace(" FROM runs", " FROM runs INDEXED BY ix_runs_alive_ms")
    return raw.rows(statement, values)
