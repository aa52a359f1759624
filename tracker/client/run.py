"""A run as training code holds it. Every log method is one append to the journal; none of them raises.

What cannot be recorded is refused alone: said once a kind on the log `tracker`, counted, and summed up at the end.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_args

from tracker.client import lifecycle
from tracker.client.background import Background
from tracker.client.fits import FitRecorder, Position
from tracker.client.intake import Intake
from tracker.client.values import checkpoint_format, described, one_of
from tracker.client.writer import RunWriter
from tracker.domain.errors import InvalidValue
from tracker.domain.frames import (
    ArtifactLogged,
    CheckpointLogged,
    EpochEnded,
    EventLogged,
    Frame,
    HistogramLogged,
    MetricDefined,
    MetricMonitored,
    Params,
    Points,
    RunEnded,
    Tags,
)
from tracker.domain.goals import Goal, GoalSource
from tracker.domain.identity import now_ms
from tracker.domain.limits import (
    as_json,
    as_number,
    check_artifact_path,
    check_key,
    check_step,
)
from tracker.domain.progress import Progress
from tracker.domain.words import RUN_STATUSES, Axis, RunStatus

_time_ns = time.time_ns


class Run:
    """One training run; made by `tracker.start_run`. Usable as a context manager, and from many threads."""

    def __init__(
        self, *, id: str, name: str, experiment: str, store_url: str, writer: RunWriter, progress: Progress
    ) -> None:
        self.id = id
        self.name = name
        self.experiment = experiment
        self.store_url = store_url
        self.status: RunStatus = "running"
        self.preempted = False
        self._writer = writer
        self._position = Position(progress)
        self._fit: FitRecorder | None = None
        self._fit_number = 0
        self._intake = Intake(writer.report)
        self._background = Background(writer.report)
        self._known_keys = self._intake.step_keys
        self._next_step = progress.next_step

    def __repr__(self) -> str:
        return f"<Run {self.name!r} {self.id} {self.status}>"

    # -- metrics -------------------------------------------------------------------------------------------------

    def log(self, metrics: Mapping[str, Any], *, step: int | None = None) -> None:
        """Record numbers at a step of the optimizer, counted from 0 since the run began; None: one after the last."""
        known = self._known_keys
        if type(metrics) is dict and type(step) is int and 0 <= step < 2**63:
            for key, value in metrics.items():
                if type(value) is not float or key not in known:
                    break
            else:
                self._next_step = step + 1
                self._writer.write(
                    Points(_time_ns() // 1_000_000, "step", step, self._fit_number, metrics), len(metrics)
                )
                return
        self._log_checked(metrics, self._next_step if step is None else step)

    def log_epoch(self, epoch: int, metrics: Mapping[str, Any], *, seconds: float | None = None) -> None:
        """Record an epoch that ended, counted from 0 since the run began, and its metrics."""
        number = self._intake.checked(lambda: check_step("epoch", epoch))
        if number is not None:
            self._position.next_epoch = max(self._position.next_epoch, number + 1)
            lasted = None if seconds is None else self._intake.checked(lambda: as_number("seconds", seconds))
            self._write_epoch(number, metrics, lasted, None)

    def define_metric(self, key: str, *, goal: Goal, source: GoalSource = "declared") -> None:
        """Say whether `key` is better small ("min") or large ("max"); it decides what its best value is."""

        def frame() -> MetricDefined:
            better, who = one_of("goal", goal, get_args(Goal)), one_of("source", source, get_args(GoalSource))
            return MetricDefined(ms=now_ms(), key=check_key("metric", key), goal=better, source=who)

        self._write_checked(frame)

    def monitor_metric(self, key: str, *, source: GoalSource = "declared") -> None:
        """Say which metric decides the run's best epoch (default: val_loss, else loss)."""

        def frame() -> MetricMonitored:
            who = one_of("source", source, get_args(GoalSource))
            return MetricMonitored(ms=now_ms(), key=check_key("metric", key), source=who)

        self._write_checked(frame)

    def log_histogram(self, key: str, values: Any, *, step: int, bins: int = 30, axis: Axis = "step") -> None:
        """Record the distribution of the finite ones among `values` (an array of any shape) at a step."""
        import numpy as np

        def frame() -> HistogramLogged:
            name, number = check_key("histogram", key), check_step("step", step)
            if not isinstance(bins, int) or not 1 <= bins <= 10_000:
                raise InvalidValue("bins", f"{bins!r}", limit="1 to 10000")
            flat = np.asarray(values, dtype=np.float64).ravel()
            counts, edges = np.histogram(flat[np.isfinite(flat)], bins=bins)
            along = one_of("axis", axis, get_args(Axis))
            return HistogramLogged(now_ms(), name, along, number, self._fit_number, edges.tolist(), counts.tolist())

        self._write_checked(frame)

    # -- parameters, tags, events --------------------------------------------------------------------------------

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record parameters; nested mappings flatten with dots. The first value of a key stays."""
        if good := self._intake.params(params):
            self._write(Params(ms=now_ms(), fit=self._fit_number, values=good))

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags; values become strings, the last one of a key stays."""
        if good := self._intake.tags(tags):
            self._write(Tags(ms=now_ms(), values=good))

    def log_event(self, kind: str, *, epoch: int | None = None, step: int | None = None, **detail: Any) -> None:
        """Record a decision on the run's timeline; `detail` is kept as JSON."""

        def frame() -> EventLogged:
            return EventLogged(
                ms=now_ms(),
                kind=check_key("event", kind),
                epoch=None if epoch is None else check_step("epoch", epoch),
                step=None if step is None else check_step("step", step),
                fit=self._fit_number,
                detail=as_json(detail),
            )

        self._write_checked(frame)

    # -- files ---------------------------------------------------------------------------------------------------

    def log_text(self, text: str, path: str) -> None:
        """Keep `text` as the artifact `path`, in UTF-8."""
        self._intake.checked(lambda: self._log_file(text.encode("utf-8", "backslashreplace"), path))

    def log_artifact(self, local_path: str | os.PathLike[str], path: str | None = None) -> None:
        """Keep a file, or a folder with all in it, as the artifact `path` (default: its own name).

        It is copied before this returns, and published behind the training's back.
        """

        def keep() -> None:
            source = Path(local_path)
            target = source.resolve().name if path is None else path
            if not source.exists():
                raise InvalidValue("artifact", f"{str(source)!r} does not exist")
            if source.is_dir():
                for file in sorted(p for p in source.rglob("*") if p.is_file()):
                    self._log_file(str(file), f"{target}/{file.relative_to(source).as_posix()}")
            else:
                self._log_file(str(source), target)

        self._intake.checked(keep)

    def log_checkpoint(
        self,
        local_path: str | os.PathLike[str],
        *,
        epoch: int,
        step: int | None = None,
        metrics: Mapping[str, Any] | None = None,
        is_best: bool | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep a checkpoint file of an epoch; its row appears once its bytes are stored and their digest is known.

        `is_best=None`: best if the epoch is the run's best so far. `state` is what a resume needs besides the file.
        """

        def keep() -> None:
            source, number = Path(local_path), check_step("epoch", epoch)
            if not source.is_file():
                raise InvalidValue("checkpoint", f"{str(source)!r} is not a file")
            kind = checkpoint_format(source)
            staged = self._writer.stage(str(source), f"checkpoints/{{sha256}}{kind}")
            if staged is not None:
                self._write(
                    CheckpointLogged(
                        ms=now_ms(),
                        epoch=number,
                        step=None if step is None else check_step("step", step),
                        fit=self._fit_number,
                        format=kind,
                        metrics=self._intake.beside(metrics or {}),
                        is_best=None if is_best is None else bool(is_best),
                        state=as_json(dict(state or {})),
                        file=staged,
                    )
                )

        self._intake.checked(keep)

    # -- fits ----------------------------------------------------------------------------------------------------

    def start_fit(
        self,
        *,
        initial_epoch: int = 0,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        batch_size: int | None = None,
        resumed_from: int | None = None,
    ) -> FitRecorder:
        """Begin a fit and return its recorder, which takes epochs and steps in the fit's own numbers from 0 on.

        The recorder is a context manager; otherwise call its `end`. A fit that was left open ended as failed.
        """
        if self._fit is not None:
            self._fit.end("failed")
        # A new phase begins after all steps that there are, those logged by `log` included: it supersedes none.
        self._position.steps = max(self._position.steps, self._next_step - 1)
        self._fit = FitRecorder(
            self._position,
            self._write,
            self._write_epoch,
            self._write_step,
            self._leave_fit,
            initial_epoch=self._intake.whole("initial_epoch", initial_epoch) or 0,
            epochs=self._intake.whole("epochs", epochs),
            steps_per_epoch=self._intake.whole("steps_per_epoch", steps_per_epoch),
            batch_size=self._intake.whole("batch_size", batch_size),
            resumed_from=self._intake.whole("resumed_from", resumed_from),
        )
        self._fit_number = self._fit.number
        return self._fit

    # -- the end -------------------------------------------------------------------------------------------------

    @property
    def should_stop(self) -> bool:
        """Whether somebody asked this run to stop; known within a heartbeat, 15 seconds at most."""
        return self._writer.stop_requested

    @property
    def problems(self) -> Mapping[str, int]:
        """How often something could not be recorded, by kind."""
        return self._writer.all_problems

    def in_background(self, work: Callable[[], None]) -> Future[None]:
        """Do `work`, which may log into this run, beside the training, after what was given before it.

        `flush` and the run's end wait for it. What it raises is said on the log and counted. The future is cancelled if
        the run has ended.
        """
        return self._background.do(work)

    def flush(self, timeout: float = 30.0) -> int:
        """Wait until all that was logged is stored, at most so many seconds; return how many points are not."""
        began = time.monotonic()
        self._background.wait(timeout)
        return self._writer.flush(max(timeout - (time.monotonic() - began), 0.0))

    def finish(self, status: RunStatus = "finished", *, timeout: float = lifecycle.EXIT_TIMEOUT_S) -> int:
        """End the run and wait as `flush` does; return how many points are still in the journal.

        A second call changes nothing. A run that got SIGTERM meanwhile is not `finished` but `preempted`.
        """
        if status not in RUN_STATUSES or status in ("running", "lost"):
            raise InvalidValue("status", f"{status!r} is not how a run ends", limit=", ".join(RUN_STATUSES[1:-1]))
        return self.end(status, None, timeout)

    def end(self, status: RunStatus, error: BaseException | None, timeout: float = lifecycle.EXIT_TIMEOUT_S) -> int:
        """`finish`, with the exception that ended the run if one did."""
        if self._writer.ended:
            return self._writer.points_left
        timeout = self._background.close(timeout)
        # A handler of SIGTERM leaves by one of these.
        if self.preempted and (status in ("finished", "interrupted") or isinstance(error, SystemExit)):
            status = "preempted"
        self.status = status
        failure = described(error) if status == "failed" else None
        try:
            return self._writer.end(RunEnded(ms=now_ms(), status=status, error=failure), timeout)
        finally:
            if self._writer.ended:
                lifecycle.forget(self)

    def disown(self) -> None:
        """In a forked child: leave the run to the parent."""
        self._background.disown()
        self._writer.disown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end(lifecycle.status_after(error), error)

    # -- inside --------------------------------------------------------------------------------------------------

    def _write(self, frame: Frame) -> None:
        self._writer.write(frame, 0)

    def _leave_fit(self) -> None:
        self._fit_number = 0

    def _log_checked(self, metrics: Mapping[str, Any], step: Any) -> None:
        number = self._intake.checked(lambda: check_step("step", step))
        if number is not None:
            self._next_step = number + 1
            self._write_step(number, metrics)

    def _write_step(self, step: int, metrics: Mapping[str, Any]) -> None:
        if values := self._intake.at_step(metrics):
            self._writer.write(Points(now_ms(), "step", step, self._fit_number, values), len(values))

    def _write_epoch(self, epoch: int, metrics: Mapping[str, Any], seconds: float | None, step: int | None) -> None:
        values = self._intake.at_epoch(metrics)
        frame = EpochEnded(ms=now_ms(), epoch=epoch, fit=self._fit_number, seconds=seconds, values=values, step=step)
        self._writer.write(frame, len(values))

    def _log_file(self, source: str | bytes, path: str) -> None:
        def keep() -> None:
            staged = self._writer.stage(source, check_artifact_path(path))
            if staged is not None:
                self._write(ArtifactLogged(ms=now_ms(), file=staged))

        self._intake.checked(keep)

    def _write_checked(self, make: Callable[[], Frame]) -> None:
        self._intake.checked(lambda: self._write(make()))
