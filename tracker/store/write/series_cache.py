"""Cache of series summaries between transactions, so that a store need not read what it wrote itself.

A run's series are valid while the run's `version` is unchanged: every change of a run raises it in the same
transaction, and a transaction that uses them holds the run's lock when it compares.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from tracker.store.database.driver_cursor import DriverCursor
from tracker.store.points.summaries import Summary, summaries_of


class _Known:
    """The series of one run, as of a version."""

    __slots__ = ("id", "kept_s", "series", "version")

    def __init__(self, id: int, version: int, series: dict[str, Summary]) -> None:
        self.id = id
        self.version = version
        self.series = series
        self.kept_s = 0.0
        """When it was put into the cache last, by the monotonic clock."""


class SeriesCache:
    """The series of the runs written last, at most `most_series` in all. Safe for threads."""

    def __init__(self, most_series: int) -> None:
        self._most_series = most_series
        self._runs: OrderedDict[str, _Known] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def take(self, uid: str) -> _Known | None:
        """Remove and return the run's entry, which the caller may change; None if there is none."""
        with self._lock:
            known = self._runs.pop(uid, None)
            if known is not None:
                self._size -= 1 + len(known.series)
            return known

    def keep(self, uid: str, known: _Known) -> None:
        known.kept_s = time.monotonic()
        with self._lock:
            before = self._runs.pop(uid, None)
            if before is not None:
                self._size -= 1 + len(before.series)
            self._runs[uid] = known
            self._size += 1 + len(known.series)
            while self._size > self._most_series and self._runs:
                _, oldest = self._runs.popitem(last=False)
                self._size -= 1 + len(oldest.series)

    def has(self, uid: str, wanted: Callable[[Summary], bool]) -> bool:
        """Whether a series of the run is `wanted`, as far as it is known here."""
        with self._lock:
            known = self._runs.get(uid)
            return known is not None and any(map(wanted, known.series.values()))

    def idle(self, idle_s: float, wanted: Callable[[Summary], bool]) -> list[str]:
        """The runs that were not written for `idle_s` seconds, and have a series that is `wanted`."""
        until = time.monotonic() - idle_s
        with self._lock:
            known = [(uid, one) for uid, one in self._runs.items() if one.kept_s <= until]
            return [uid for uid, one in known if any(map(wanted, one.series.values()))]

    def forget(self) -> None:
        """Empty the cache."""
        with self._lock:
            self._runs.clear()
            self._size = 0


class SeriesLoader:
    """Loads the series of the runs that one transaction has locked. Those of a failed transaction are dropped."""

    def __init__(self, cache: SeriesCache) -> None:
        self._cache = cache
        self._runs: dict[str, _Known] = {}

    def series(self, raw: DriverCursor, uid: str, run: int, version: int) -> dict[str, Summary]:
        """The run's series by key, to be changed in place. `version` is what its row says now."""
        known = self._runs.get(uid)
        if known is None:
            known = self._cache.take(uid)
            if known is None or known.id != run or known.version != version:
                known = _Known(run, version, summaries_of(raw, run))
            self._runs[uid] = known
        return known.series

    def raised(self, uid: str, run: int, version: int) -> None:
        """The run's version is `version` now, one more than it was."""
        known = self._runs.get(uid) or self._cache.take(uid)
        if known is not None and known.id == run and known.version == version - 1:
            known.version = version
            self._runs[uid] = known

    def drop(self, uid: str) -> None:
        """Drop the run's entry, because the changes to it were undone."""
        self._runs.pop(uid, None)

    def keep(self) -> None:
        """Put the entries into the cache after the commit, for the next transaction."""
        for uid, known in self._runs.items():
            self._cache.keep(uid, known)
