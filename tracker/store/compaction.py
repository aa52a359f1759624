"""Seals what writers left as rows: of runs that nobody writes any more, and of stores from before there were blocks.

Each step is one short transaction that holds the run's lock, so that it may be stopped at any moment, and servers and
trainings may write meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from sqlalchemy import Engine

from tracker.store.database.driver_cursor import DriverCursor, driver_errors
from tracker.store.database.typed_rows import from_json
from tracker.store.engine import driver_transaction, reading
from tracker.store.points import histogram_codec
from tracker.store.points.sealing import merge_overlaps
from tracker.store.points.series_rows import NO_BLOCKS, count_unsealed
from tracker.store.points.summaries import Summary
from tracker.store.write.claimed_run import claim, write_rows
from tracker.store.write.series_cache import SeriesLoader
from tracker.store.write.transaction import WriteState

IDLE_S = 300.0
"""Seconds after which a run that is not written is expected to get no more points soon."""
_POINTS = 200_000
"""After how many points a transaction begins no other series."""
_HISTOGRAMS = 1000
"""How many histograms one transaction packs."""


@dataclass(frozen=True, slots=True)
class CompactionStep:
    """How far a compaction is: `done` of `runs` runs; how many points it sealed, and histograms it packed, so far."""

    done: int
    runs: int
    points: int
    histograms: int


@dataclass(frozen=True, slots=True)
class Compaction:
    """Compaction of one store; `turn` is held by each of its transactions, `before_change` is called before the first.

    Nothing depends on it: points that stay rows take more room. Raises StoreUnavailable.
    """

    engine: Engine
    state: WriteState
    turn: AbstractContextManager[object]
    before_change: Callable[[], None]

    def seal_idle(self, idle_s: float = IDLE_S) -> None:
        """Seal the rows of long series that this process wrote, but not in the last `idle_s` seconds."""
        for uid in self.state.cache.idle(idle_s, self.state.sealing.is_due_at_end):
            self._change(uid, self._seal)

    def seal_ended(self, uid: str) -> None:
        """Seal the rows of the long series of a run that has ended, if this process wrote it."""
        if self.state.cache.has(uid, self.state.sealing.is_due_at_end):
            self._change(uid, self._seal)

    def compact(self) -> Iterator[CompactionStep]:
        """Seal the rows of all long series, merge blocks that overlap, and pack histograms; yield after each run."""
        self.before_change()
        runs = self._runs()
        yield CompactionStep(0, len(runs), 0, 0)
        points = histograms = 0
        for done, uid in enumerate(runs, 1):
            while count := self._change(uid, self._seal):
                points += count
            while count := self._change(uid, self._merge):
                points += count
            while count := self._change(uid, _pack_histograms):
                histograms += count
            yield CompactionStep(done, len(runs), points, histograms)

    def _runs(self) -> list[str]:
        """The runs that have rows to seal, blocks that overlap, or histograms to pack."""
        sealing = self.state.sealing
        with reading(self.engine) as connection, driver_errors(connection, _RUNS):
            return [uid for (uid,) in DriverCursor(connection).rows(_RUNS, (sealing.kept if sealing.block else 2**62,))]

    def _change(self, uid: str, change: Callable[[DriverCursor, int, Iterable[Summary]], int]) -> int:
        """Call `change` for the run in a transaction; return how many points or histograms it says that it changed."""
        loader = SeriesLoader(self.state.cache)
        with self.turn, driver_transaction(self.engine) as raw:
            run = claim(raw, [uid]).get(uid)
            if run is None:
                return 0
            count = change(raw, run.id, run.load_series(raw, loader).values())
            run.is_changed = count > 0
            write_rows(raw, [run], loader)
        loader.keep()
        return count

    def _seal(self, raw: DriverCursor, _: int, series: Iterable[Summary]) -> int:
        count = 0
        for one in series:
            if count < _POINTS and self.state.sealing.is_due_at_end(one):
                # Stores from before there were blocks do not say how many superseded points they have.
                one.rows = before = count_unsealed(raw.connection, one.id)
                self.state.sealing.seal(raw, one, at_end=True)
                count += max(before - one.rows, 0)
        return count

    def _merge(self, raw: DriverCursor, _: int, series: Iterable[Summary]) -> int:
        count = 0
        for one in series:
            if self.state.sealing.block and count < _POINTS and one.sealed_step != NO_BLOCKS:
                count += merge_overlaps(raw, one, self.state.sealing.block)
        return count


def _pack_histograms(raw: DriverCursor, run: int, _: Iterable[Summary]) -> int:
    """Pack some histograms that are JSON; those that cannot be packed stay."""
    packed = []
    for key, step, fit, edges, counts in raw.rows(_SELECT_HISTOGRAMS, (run,)):
        data = histogram_codec.encode(
            from_json(edges, list[float], "histograms.edges"), from_json(counts, list[int], "histograms.counts")
        )
        if data is not None:
            packed.append((data, run, key, step, fit))
    raw.many(_UPDATE_HISTOGRAM, packed)
    return len(packed)


_RUNS = """
    SELECT uid FROM runs WHERE id IN (
        SELECT run_id FROM series WHERE count - sealed_count > ?
        UNION SELECT run_id FROM histograms WHERE data IS NULL
        UNION SELECT run_id FROM series WHERE id IN (
            SELECT series_id FROM (
                SELECT series_id, first_step, first_take,
                    lag(last_step) OVER places AS step_before, lag(last_take) OVER places AS take_before
                FROM metric_blocks
                WINDOW places AS (PARTITION BY series_id, fit ORDER BY first_step, first_take)
            ) AS blocks
            WHERE (step_before, take_before) > (first_step, first_take)
        )
    ) ORDER BY id
"""
_SELECT_HISTOGRAMS = (
    f"SELECT key, step, fit, edges, counts FROM histograms WHERE run_id = ? AND data IS NULL LIMIT {_HISTOGRAMS}"
)
_UPDATE_HISTOGRAM = (
    "UPDATE histograms SET data = ?, edges = '', counts = '' WHERE run_id = ? AND key = ? AND step = ? AND fit = ?"
)
