"""Places the points of a transaction: into rows, and into the summaries of their series."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tracker.domain.frames import FitStarted, MetricDefined, PointBlock, PointsLogged
from tracker.domain.goals import GOAL_RANK
from tracker.store.database.driver_cursor import DriverCursor
from tracker.store.points.bulk import PointRows
from tracker.store.points.sealing import Sealing
from tracker.store.points.summaries import Summary, new_summary, save_summaries
from tracker.store.write import deduplication, numbered_points
from tracker.store.write.claimed_run import ClaimedRun
from tracker.store.write.series_cache import SeriesLoader


class Placing:
    """Collects points by series. `store` writes what was collected, `finish` also what follows from all of it."""

    def __init__(self, raw: DriverCursor, loader: SeriesLoader, sealing: Sealing) -> None:
        self._raw = raw
        self._loader = loader
        self._sealing = sealing
        self._rows = PointRows(sealing)
        self._numbered: list[tuple[Summary, ClaimedRun]] = []
        self._others: list[tuple[Summary, ClaimedRun]] = []
        self.changed: dict[Summary, None] = {}
        """The series whose summaries changed."""

    def take(self, run: ClaimedRun, blocks: Sequence[PointBlock]) -> None:
        """Collect points of a journal. A key keeps its first axis."""
        if not blocks:
            return
        known = run.load_series(self._raw, self._loader)
        for block in blocks:
            for column, key in enumerate(block.keys):
                one = known.get(key)
                if one is None:
                    one = known[key] = new_summary(run.id, key, block.axis)
                if one.blocks is None:
                    one.blocks = [(block, column)]
                    self._numbered.append((one, run))
                else:
                    one.blocks.append((block, column))

    def take_call(self, run: ClaimedRun, logged: PointsLogged) -> None:
        """Collect points of a client without a journal; those of all journals must be collected before."""
        known = run.load_series(self._raw, self._loader)
        for key, step, ms, value in zip(logged.keys, logged.steps, logged.ms, logged.values, strict=True):
            one = known.get(key) or self._new(run, known, key)
            if one.points is None:
                one.points = [(step, ms, value)]
                if one.columns is None:
                    self._others.append((one, run))
            else:
                one.points.append((step, ms, value))

    def take_calls(self, run: ClaimedRun, calls: Sequence[PointsLogged]) -> None:
        """`take_call` for many calls; those that log the same keys are joined, a key at a time."""
        alike: dict[tuple[str, ...], list[PointsLogged]] = {}
        for logged in calls:
            alike.setdefault(tuple(logged.keys), []).append(logged)
        known = run.load_series(self._raw, self._loader)
        for keys, same in alike.items():
            if len(same) == 1 or len(set(keys)) < len(keys):
                for logged in same:
                    self.take_call(run, logged)
                continue
            steps = zip(*(logged.steps for logged in same), strict=True)
            ms = zip(*(logged.ms for logged in same), strict=True)
            values = zip(*(logged.values for logged in same), strict=True)
            for key, *columns in zip(keys, steps, ms, values, strict=True):
                one = known.get(key) or self._new(run, known, key)
                if one.points is None and one.columns is None:
                    one.columns = (columns[0], columns[1], columns[2])
                    self._others.append((one, run))
                else:
                    one.points = [*(one.points or ()), *zip(*columns, strict=True)]

    def _new(self, run: ClaimedRun, known: dict[str, Summary], key: str) -> Summary:
        one = known[key] = new_summary(run.id, key, "time" if key.startswith("system/") else "step")
        return one

    def define(self, run: ClaimedRun, item: MetricDefined) -> None:
        """Set whether small or large is better, for later points too. A source of lower rank changes nothing."""
        known = run.load_series(self._raw, self._loader)
        one = known.get(item.key)
        if one is None:
            one = known[item.key] = new_summary(run.id, item.key, "epoch")
            self.changed[one] = None
        if one.goal_source is None or GOAL_RANK[item.source] >= GOAL_RANK[one.goal_source]:
            one.goal, one.goal_source, one.dirty, one.bounds_dirty = item.goal, item.source, True, True
            self.changed[one] = None

    def supersede(self, run: ClaimedRun, fit: FitStarted) -> None:
        """Supersede the points at or after the new fit's beginning; `store` must have been called, its row written."""
        known = run.load_series(self._raw, self._loader)
        self.changed.update(dict.fromkeys(numbered_points.supersede(self._raw, run, known.values(), fit)))

    def store(self) -> None:
        """Write the points of journals collected so far, and the summaries that they change."""
        if not self._numbered:
            return
        waiting, self._numbered = self._numbered, []
        placed = numbered_points.place(self._raw, waiting, self._rows)
        self._write(placed)
        for one, run in waiting:
            if one.stale:
                numbered_points.recompute(self._raw, one, run)

    def finish(self) -> None:
        """Write all points and summaries, and seal the older points of long series."""
        self.store()
        if self._others:
            self._write(deduplication.place(self._raw, self._others, self._rows))
        if self.changed:
            left = [one for one in self.changed if one.dirty or not one.id]
            if left:
                save_summaries(self._raw, left)
            for one in self.changed:
                if self._sealing.is_due(one):
                    self._sealing.seal(self._raw, one)

    def seal_ended(self, run: ClaimedRun) -> None:
        """Seal what is left of the long series of a run that has ended."""
        for one in run.load_series(self._raw, self._loader).values():
            if self._sealing.is_due_at_end(one):
                self._sealing.seal(self._raw, one, at_end=True)

    def _write(self, placed: Sequence[Summary]) -> None:
        save_summaries(self._raw, (one for one in placed if not one.id or not one.stale))
        self._rows.insert(self._raw)
        self.changed.update(dict.fromkeys(placed))

    def has_changed(self, run: ClaimedRun, keys: Iterable[str]) -> bool:
        """Whether a series of the run that is one of `keys` changed."""
        return run.series is not None and any(run.series.get(key) in self.changed for key in keys)

    def best(self, run: ClaimedRun, keys: Iterable[str]) -> tuple[str, int, float] | None:
        """Key, epoch and best value of the first of `keys` that has one."""
        known = run.load_series(self._raw, self._loader)
        for key in keys:
            one = known.get(key)
            if one is not None and one.axis == "epoch" and one.best is not None and one.best[0] is not None:
                return key, one.best[1], one.best[0]
        return None
