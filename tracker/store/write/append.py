"""Write path of journal batches: rows, summaries, best epoch and supersession, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from sqlalchemy import Connection, select, update

from tracker.domain import frames
from tracker.domain.errors import RunNotFound, StoreRestored
from tracker.domain.frames import Ack, Batch, Item, PointBlock
from tracker.domain.goals import GOAL_RANK, GoalSource
from tracker.domain.identity import now_ms
from tracker.domain.vocabulary import FitOutcome, RunStatus
from tracker.store import addresses
from tracker.store.database.dialect import upsert
from tracker.store.database.driver_cursor import Raw, driver_errors
from tracker.store.database.json_columns import as_text
from tracker.store.database.row_writer import change, write
from tracker.store.points.numbered import SeriesBook
from tracker.store.read.params import add_params
from tracker.store.tables import (
    database_folders,
    epochs,
    events,
    experiments,
    fits,
    histograms,
    runs,
    tags,
)
from tracker.store.write import checkpoints, sessions
from tracker.store.write.best_so_far import USUAL, deciding_metrics
from tracker.store.write.datasets import add_dataset
from tracker.store.write.series_cache import Recall

_CUT: dict[RunStatus, FitOutcome] = {
    "finished": "failed",
    "failed": "failed",
    "interrupted": "interrupted",
    "preempted": "preempted",
    "lost": "lost",
}
"""Outcome of a fit that was still open when its run ended, by the run's status. It never counts as completed."""


@dataclass(frozen=True, slots=True)
class _Run:
    """The columns of a run's row that an append needs, in the order of `_SELECT_RUN`."""

    id: int
    uid: str
    version: int
    started_ms: int
    ended_ms: int | None
    alive_ms: int
    opened_ms: int | None
    spent_ms: int
    status: RunStatus
    writer: str
    stop_requested_ms: int | None
    monitor: str | None
    monitor_source: GoalSource | None
    keep_last: int | None
    keep_best: int | None
    best_metric: str | None
    best_epoch: int | None
    best_value: float | None


_SELECT_RUN = f"SELECT {', '.join(one.name for one in fields(_Run))} FROM runs WHERE uid = ?"
_SELECT_LAST = "SELECT last_number FROM journals WHERE run_id = ? AND writer = ?"
_SET_LAST = (
    "INSERT INTO journals (run_id, writer, last_number) VALUES (?, ?, ?)"
    " ON CONFLICT (run_id, writer) DO UPDATE SET last_number = excluded.last_number"
)


def apply(connection: Connection, batch: Batch, recall: Recall) -> Ack:
    """Apply `batch` as `RunStore.append` describes. The transaction must hold the write lock."""
    raw = Raw(connection)
    run, is_new = _claim(connection, raw, batch)
    with driver_errors(connection, _SELECT_LAST):
        found = raw.rows(_SELECT_LAST, (run.id, batch.writer))
    last: int = found[0][0] if found else 0
    if batch.after > last:
        raise StoreRestored(batch.run_id, last, batch.after)
    changes = _Changes(connection, run, batch.writer, recall, is_new=is_new)
    pruned = False
    if batch.last > last:
        blocks = [part for block in batch.blocks if (part := _unseen(block, last)) is not None]
        for number, item in batch.items:
            if number > last:
                if isinstance(item, frames.FitStarted):
                    # Points of earlier fits must be stored before a new fit supersedes some of them.
                    changes.book.add([block for block in blocks if block.numbers[0] < number])
                    blocks = [block for block in blocks if block.numbers[0] > number]
                changes.apply(item)
        changes.book.add(blocks)
        pruned = changes.finish()
        last = batch.last
        with driver_errors(connection, _SET_LAST):
            raw.run(_SET_LAST, (run.id, batch.writer, last))
    changes.renew(batch.writer)
    return Ack(last=last, stop=run.stop_requested_ms is not None, pruned=pruned, over_budget=changes.over_budget)


def _claim(connection: Connection, raw: Raw, batch: Batch) -> tuple[_Run, bool]:
    """Lock the run's row; return it, and whether it is new, which means created from the batch's RunStarted."""
    found = _locked(connection, raw, batch.run_id)
    if found is not None:
        return found, False
    started = next((item for _, item in batch.items if isinstance(item, frames.RunStarted)), None)
    if started is None:
        raise RunNotFound(batch.run_id)
    connection.execute(
        upsert(connection, runs, ("uid",), ()),
        {
            "uid": batch.run_id,
            "experiment_id": experiment_id(connection, started.experiment, started.ms),
            "name": started.name,
            "status": "running",
            "started_ms": started.ms,
            "alive_ms": started.ms,
            "writer": batch.writer,
            "artifact_uri": started.artifact_uri,
            # Not 0: a run that is removed and created again must not reuse a version, because caches compare versions.
            "version": now_ms(),
        },
    )
    found = _locked(connection, raw, batch.run_id)
    if found is None:
        raise RunNotFound(batch.run_id)
    return found, True


def _locked(connection: Connection, raw: Raw, uid: str) -> _Run | None:
    with driver_errors(connection, _SELECT_RUN):
        for row in raw.rows(f"{_SELECT_RUN} FOR UPDATE" if raw.postgres else _SELECT_RUN, (uid,)):
            return _Run(*row)
    return None


def experiment_id(connection: Connection, name: str, ms: int) -> int:
    """The id of the experiment, which is created if it is missing and restored if it was deleted."""
    by_name = select(experiments.c.id, experiments.c.deleted_ms).where(experiments.c.name == name)
    found = connection.execute(by_name).one_or_none()
    if found is None:
        connection.execute(upsert(connection, experiments, ("name",), ()), {"name": name, "created_ms": ms})
        found = connection.execute(by_name).one()
    if found.deleted_ms is not None:
        connection.execute(update(experiments).where(experiments.c.id == found.id).values(deleted_ms=None))
    return int(found.id)


def _unseen(block: PointBlock, last: int) -> PointBlock | None:
    """The rows of `block` whose frames were not applied before; None if there are none."""
    if block.numbers[0] > last:
        return block
    keep = [row for row, number in enumerate(block.numbers) if number > last]
    if not keep:
        return None
    return PointBlock(
        axis=block.axis,
        fit=block.fit,
        keys=block.keys,
        numbers=[block.numbers[row] for row in keep],
        steps=[block.steps[row] for row in keep],
        ms=[block.ms[row] for row in keep],
        values=[[column[row] for row in keep] for column in block.values],
    )


class _Changes:
    """The changes of one batch to one run. Changes to the run's row are collected and written once."""

    def __init__(self, connection: Connection, run: _Run, writer: str, recall: Recall, *, is_new: bool) -> None:
        self._connection = connection
        self._run = run
        self._is_new = is_new
        self._writer = writer
        self._owner: str = run.writer
        self._row: dict[str, Any] = {}
        # Checkpoints and the events after them, because events of the same millisecond must keep this order.
        self._late: list[frames.CheckpointLogged | frames.EventLogged] = []
        self._restored: frames.EventLogged | None = None
        self._recall = recall
        self.over_budget: int | None = None
        self.book = SeriesBook(
            connection, run.id, run.started_ms, lambda raw: recall.series(raw, run.uid, run.id, run.version)
        )
        self._appliers: dict[type, Callable[[Any], None]] = {
            frames.RunStarted: self._run_started,
            frames.RunEnded: self._run_ended,
            frames.Params: lambda item: add_params(connection, run.id, item.fit, item.values),
            frames.Tags: self._tags,
            frames.EventLogged: self._event_logged,
            frames.FitStarted: self._fit_started,
            frames.FitEnded: self._fit_ended,
            frames.EpochEnded: self._epoch_ended,
            frames.MetricDefined: lambda item: self.book.define(item.key, item.goal, item.source),
            frames.MetricMonitored: self._metric_monitored,
            frames.HistogramLogged: self._histogram,
            frames.CheckpointLogged: self._late.append,
            frames.CheckpointsKept: lambda item: self._row.update(keep_last=item.last, keep_best=item.best),
            frames.ArtifactLogged: lambda item: None,
            frames.DatasetLogged: lambda item: add_dataset(connection, run.id, item),
        }

    def apply(self, item: Item) -> None:
        self._appliers[type(item)](item)

    def finish(self) -> bool:
        """Write what depends on the whole batch: summaries, the best epoch, checkpoints.

        Returns True if there are pruned checkpoints whose files can be removed.
        """
        self.book.finish()
        self._find_best_epoch()
        self._row["version"] = self._run.version + 1
        deciding = deciding_metrics(self._now("monitor"), self._now("monitor_source"))
        for item in self._late:
            if isinstance(item, frames.EventLogged):
                self._event(item)
                continue
            checkpoints.add(self._connection, self._run.id, item, deciding)
        if not self._late and "keep_last" not in self._row:
            return False
        last, best = self._now("keep_last"), self._now("keep_best")
        if last or best or "keep_last" in self._row or any(map(checkpoints.bounds_others, self._late)):
            metric = self._now("best_metric")
            self.over_budget = checkpoints.prune(self._connection, self._run.id, last=last, best=best, metric=metric)
        return checkpoints.has_pending(self._connection, self._run.id)

    def _now(self, column: str) -> Any:
        """The column's value in the run's row after this batch."""
        return self._row[column] if column in self._row else getattr(self._run, column)

    def renew(self, writer: str) -> None:
        """Renew the lease if this writer owns the run, and write the run's row."""
        if self._row.get("status", self._run.status) in ("running", "lost") and self._owner == writer:
            self._row.setdefault("alive_ms", now_ms())
            if "status" not in self._row and self._run.status == "lost":
                # A batch of its writer shows that the run is alive: it was marked lost by mistake.
                self._row.update(status="running", ended_ms=None, version=self._run.version + 1)
                self._connection.execute(
                    update(fits)
                    .where(fits.c.run_id == self._run.id, fits.c.writer == writer, fits.c.outcome == "lost")
                    .values(outcome=None, ended_ms=None)
                )
        if self._row:
            with driver_errors(self._connection, "UPDATE runs"):
                Raw(self._connection).run(_update_run(tuple(self._row)), (*self._row.values(), self._run.id))
            if "version" in self._row:
                self._recall.raised(self._run.uid, self._run.id, self._row["version"])

    def _run_started(self, item: frames.RunStarted) -> None:
        if self._is_new:
            self._is_new = False
        else:
            self._event_logged(sessions.reopened(item, self._now("status")))
            self._row.update(sessions.begin(self._now, item.ms))
        self._owner = self._writer
        if (folder := addresses.of(self._connection.dialect).place) is not None:
            write(self._connection, database_folders, [{"folder": folder}], ("folder",))
        self._row.update(
            status="running", ended_ms=None, alive_ms=now_ms(), writer=self._writer, stop_requested_ms=None
        )

    def _run_ended(self, item: frames.RunEnded) -> None:
        values = (_CUT.get(item.status, "failed"), item.ms, item.ms, self._run.id, self._writer)
        change(self._connection, sessions.END_OPEN_FITS, values)
        if self._owner != self._writer:
            return  # a later writer continues the run, so an earlier one cannot end it
        # From here on no writer owns the run: a batch that is sent again must not set it to running.
        self._owner = ""
        ended = sessions.end(self._now, item.ms)
        self._row.update(status=item.status, ended_ms=ended, alive_ms=ended, writer="")
        if item.error is not None:
            self._event(frames.EventLogged(item.ms, "run_failed", None, None, 0, dict(item.error)))

    def _tags(self, item: frames.Tags) -> None:
        rows = [{"run_id": self._run.id, "key": key, "value": value} for key, value in sorted(item.values.items())]
        write(self._connection, tags, rows, ("run_id", "key"), ("value",))

    def _event_logged(self, item: frames.EventLogged) -> None:
        if item.kind == "weights_restored":
            self._restored = item
        if self._late:
            self._late.append(item)
        else:
            self._event(item)

    def _event(self, item: frames.EventLogged) -> None:
        row = {
            "run_id": self._run.id,
            "ms": item.ms,
            "kind": item.kind,
            "epoch": item.epoch,
            "step": item.step,
            "fit": item.fit,
            "detail": as_text(item.detail),
        }
        write(self._connection, events, [row])

    def _fit_started(self, item: frames.FitStarted) -> None:
        self._restored = None
        row = {
            "run_id": self._run.id,
            "number": item.number,
            "phase": item.phase,
            "first_epoch": item.first_epoch,
            "first_step": item.first_step,
            "phase_epoch": item.phase_epoch,
            "phase_step": item.phase_step,
            "epochs": item.epochs,
            "steps_per_epoch": item.steps_per_epoch,
            "batch_size": item.batch_size,
            "resumed_from": item.resumed_from,
            "host": item.host,
            "writer": self._writer,
            "started_ms": item.ms,
        }
        write(self._connection, fits, [row], ("run_id", "number"))
        self.book.supersede(item)

    def _fit_ended(self, item: frames.FitEnded) -> None:
        change(self._connection, sessions.END_FIT, (item.outcome, item.ms, item.ms, self._run.id, item.number))

    def _epoch_ended(self, item: frames.EpochEnded) -> None:
        row = {
            "run_id": self._run.id,
            "number": item.epoch,
            "fit": item.fit,
            "ms": item.ms,
            "seconds": item.seconds,
            "step": item.step,
        }
        write(self._connection, epochs, [row], ("run_id", "number", "fit"), ("ms", "seconds", "step"))

    def _metric_monitored(self, item: frames.MetricMonitored) -> None:
        known = self._row.get("monitor_source", self._run.monitor_source)
        if known is None or GOAL_RANK[item.source] >= GOAL_RANK[known]:
            self._row.update(monitor=item.key, monitor_source=item.source)

    def _histogram(self, item: frames.HistogramLogged) -> None:
        row = {
            "run_id": self._run.id,
            "key": item.key,
            "axis": item.axis,
            "step": item.step,
            "fit": item.fit,
            "ms": item.ms,
            "edges": as_text(item.edges),
            "counts": as_text(item.counts),
        }
        write(self._connection, histograms, [row], ("run_id", "key", "step", "fit"), ("axis", "ms", "edges", "counts"))

    def _find_best_epoch(self) -> None:
        """Set the best epoch by the monitored metric, declared or a callback's; without one by val_loss, else loss.

        After the weights of an epoch were restored, that epoch is the best until the metric gets new points.
        """
        monitor = self._now("monitor")
        keys = [monitor] if monitor else USUAL
        if self._restored is not None:
            metrics = self._restored.detail.get("metrics") or {}
            key = next((one for one in keys if isinstance(metrics.get(one), (int, float))), None)
            if key is not None:
                found = (key, self._restored.detail.get("epoch"), metrics[key])
                self._row.update(zip(("best_metric", "best_epoch", "best_value"), found, strict=True))
                return
        if "monitor" not in self._row and self.book.changed.isdisjoint(keys):
            return
        best = self.book.best(*keys)
        found = (best.key, best.step, best.value) if best else (None, None, None)
        if found != (self._run.best_metric, self._run.best_epoch, self._run.best_value):
            self._row.update(zip(("best_metric", "best_epoch", "best_value"), found, strict=True))


@cache
def _update_run(names: tuple[str, ...]) -> str:
    return f"UPDATE runs SET {', '.join(f'{name} = ?' for name in names)} WHERE id = ?"
