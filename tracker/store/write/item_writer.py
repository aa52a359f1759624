"""Applies the items of batches, all but points, to claimed runs.

Rows are collected and written together, changes of a run's own row are collected on the `ClaimedRun`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracker.domain import frames
from tracker.domain.catalogue import Dataset, DatasetUse
from tracker.domain.goals import GOAL_RANK
from tracker.domain.vocabulary import FitOutcome, RunStatus
from tracker.store import addresses
from tracker.store.database.driver_cursor import DriverCursor
from tracker.store.database.json_columns import as_text
from tracker.store.database.row_writer import RowBuffer, write
from tracker.store.points import histogram_codec
from tracker.store.read.params import number_of, typed_text
from tracker.store.tables import database_folders, epochs, events, fits, histograms, params, tags
from tracker.store.write import sessions
from tracker.store.write.claimed_run import ClaimedRun
from tracker.store.write.datasets import use_datasets

_CUT: dict[RunStatus, FitOutcome] = {
    "finished": "failed",
    "failed": "failed",
    "interrupted": "interrupted",
    "preempted": "preempted",
    "lost": "lost",
}
"""Outcome of a fit that was still open when its run ended, by the run's status. It never counts as completed."""


class ItemWriter:
    """Applies items in one transaction. Raises the driver's errors, and InvalidValue for what has no JSON form.

    `define` is called for goals of metrics, `now_ms` is the time of the transaction.
    """

    def __init__(
        self,
        raw: DriverCursor,
        rows: RowBuffer,
        define: Callable[[ClaimedRun, frames.MetricDefined], None],
        now_ms: int,
    ) -> None:
        self._raw = raw
        self._rows = rows
        self._now_ms = now_ms
        self._define = define

    def apply(self, run: ClaimedRun, writer: str, item: frames.Item) -> None:
        run.is_changed |= type(item) is not frames.Params
        _APPLIERS[type(item)](self, run, writer, item)

    def renew(self, run: ClaimedRun, writer: str) -> None:
        """Renew the run's lease if this writer owns it."""
        if not writer or run.now("writer") != writer or run.now("status") not in ("running", "lost"):
            return
        run.changes.setdefault("alive_ms", self._now_ms)
        if run.now("status") == "lost":
            # A batch of its writer shows that the run is alive: it was marked lost by mistake.
            run.changes.update(status="running", ended_ms=None)
            run.is_changed = True
            self._raw.run(sessions.REVIVE_FITS, (run.id, writer))

    def event(self, run: ClaimedRun, item: frames.EventLogged) -> None:
        """Add an event to the run's timeline."""
        row = {
            "run_id": run.id,
            "ms": item.ms,
            "kind": item.kind,
            "epoch": item.epoch,
            "step": item.step,
            "fit": item.fit,
            "detail": as_text(item.detail),
        }
        self._rows.add(events, row)

    def _run_started(self, run: ClaimedRun, writer: str, item: frames.RunStarted) -> None:
        if run.is_new:
            run.is_new = False
        else:
            self._event_logged(run, writer, sessions.reopened(item, run.now("status")))
            run.changes.update(sessions.begin(run.now, item.ms))
        if (folder := addresses.of(self._raw.connection.dialect).place) is not None:
            self._rows.add(database_folders, {"folder": folder}, ("folder",))
        run.changes.update(
            status="running", ended_ms=None, alive_ms=self._now_ms, writer=writer, stop_requested_ms=None
        )

    def _run_ended(self, run: ClaimedRun, writer: str, item: frames.RunEnded) -> None:
        self._raw.run(sessions.END_OPEN_FITS, (_CUT.get(item.status, "failed"), item.ms, item.ms, run.id, writer))
        if run.now("writer") != writer:
            return  # a later writer continues the run, so an earlier one cannot end it
        # From here on no writer owns the run: a batch that is sent again must not set it to running.
        ended = sessions.end(run.now, item.ms)
        run.changes.update(status=item.status, ended_ms=ended, alive_ms=ended, writer="")
        if item.error is not None:
            self.event(run, frames.EventLogged(item.ms, "run_failed", None, None, 0, dict(item.error)))

    def _stop_requested(self, run: ClaimedRun, writer: str, item: frames.StopRequested) -> None:
        run.changes["stop_requested_ms"] = item.ms
        self.event(run, frames.EventLogged(item.ms, "stop_requested", None, None, 0, {}))

    def _params(self, run: ClaimedRun, writer: str, item: frames.Params) -> None:
        """The first value of a key is kept; another one is stored as `fit.<fit>.<key>`, `<fit>` 0 outside any fit."""
        for key, value in sorted(item.values.items()):
            type_, text = typed_text(value)
            known = run.params.get(key)
            if known is None:
                run.params[key] = (type_, text)
            elif known[1] == text and (known[0] == type_ or not writer):
                continue  # clients without a journal send all values as text
            else:
                key = f"fit.{item.fit}.{key}"[:250]
            row = {"run_id": run.id, "key": key, "type": type_, "text": text, "number": number_of(type_, text)}
            self._rows.add(params, row, ("run_id", "key"), ("type", "text", "number"))
            run.is_changed = True

    def _tags(self, run: ClaimedRun, writer: str, item: frames.Tags) -> None:
        for key, value in sorted(item.values.items()):
            self._rows.add(tags, {"run_id": run.id, "key": key, "value": value}, ("run_id", "key"), ("value",))

    def _event_logged(self, run: ClaimedRun, writer: str, item: frames.EventLogged) -> None:
        if item.kind == "weights_restored":
            run.restored = item
        if run.late:
            run.late.append(item)
        else:
            self.event(run, item)

    def _fit_started(self, run: ClaimedRun, writer: str, item: frames.FitStarted) -> None:
        run.restored = None
        row = {
            "run_id": run.id,
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
            "writer": writer,
            "started_ms": item.ms,
        }
        write(self._raw, fits, row, ("run_id", "number"))
        run.forget_starts()

    def _fit_ended(self, run: ClaimedRun, writer: str, item: frames.FitEnded) -> None:
        self._raw.run(sessions.END_FIT, (item.outcome, item.ms, item.ms, run.id, item.number))

    def _epoch_ended(self, run: ClaimedRun, writer: str, item: frames.EpochEnded) -> None:
        row = {
            "run_id": run.id,
            "number": item.epoch,
            "fit": item.fit,
            "ms": item.ms,
            "seconds": item.seconds,
            "step": item.step,
        }
        self._rows.add(epochs, row, ("run_id", "number", "fit"), ("ms", "seconds", "step"))

    def _metric_monitored(self, run: ClaimedRun, writer: str, item: frames.MetricMonitored) -> None:
        known = run.now("monitor_source")
        if known is None or GOAL_RANK[item.source] >= GOAL_RANK[known]:
            run.changes.update(monitor=item.key, monitor_source=item.source)

    def _histogram(self, run: ClaimedRun, writer: str, item: frames.HistogramLogged) -> None:
        packed = histogram_codec.encode(item.edges, item.counts)
        row = {
            "run_id": run.id,
            "key": item.key,
            "axis": item.axis,
            "step": item.step,
            "fit": item.fit,
            "ms": item.ms,
            "data": packed,
            "edges": as_text(item.edges) if packed is None else "",
            "counts": as_text(item.counts) if packed is None else "",
        }
        self._rows.add(histograms, row, ("run_id", "key", "step", "fit"), ("axis", "ms", "data", "edges", "counts"))

    def _dataset(self, run: ClaimedRun, writer: str, item: frames.DatasetLogged) -> None:
        one = Dataset(
            name=item.name,
            digest=item.digest,
            source_type=item.source_type,
            source=item.source,
            schema=item.schema,
            profile=item.profile,
        )
        use_datasets(self._raw, run.id, run.now("experiment_id"), [DatasetUse(dataset=one, tags=item.tags)])


_Applier = Callable[[ItemWriter, ClaimedRun, str, Any], None]
_APPLIERS: dict[type, _Applier] = {
    frames.RunStarted: ItemWriter._run_started,
    frames.RunEnded: ItemWriter._run_ended,
    frames.RunRenamed: lambda self, run, writer, item: run.changes.update(name=item.name),
    frames.StopRequested: ItemWriter._stop_requested,
    frames.Params: ItemWriter._params,
    frames.Tags: ItemWriter._tags,
    frames.EventLogged: ItemWriter._event_logged,
    frames.FitStarted: ItemWriter._fit_started,
    frames.FitEnded: ItemWriter._fit_ended,
    frames.EpochEnded: ItemWriter._epoch_ended,
    frames.MetricDefined: lambda self, run, writer, item: self._define(run, item),
    frames.MetricMonitored: ItemWriter._metric_monitored,
    frames.HistogramLogged: ItemWriter._histogram,
    frames.CheckpointLogged: lambda self, run, writer, item: run.late.append(item),
    frames.CheckpointsKept: lambda self, run, writer, item: run.changes.update(
        keep_last=item.last, keep_best=item.best
    ),
    frames.ArtifactLogged: lambda self, run, writer, item: None,
    frames.DatasetLogged: ItemWriter._dataset,
}
