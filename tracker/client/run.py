"""The class `Run`, with which training code logs. Every log method appends one frame to the journal; none raises.

Only the value that cannot be recorded is refused: logged once a kind on the logger `tracker`, counted, and summed up at
the end.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, get_args

from tracker.client.checkpoint_log import CheckpointInfo
from tracker.client.clock import CLOCK, now_ms
from tracker.client.ending import RunEnd, status_after
from tracker.client.fit_recorder import FitRecorder
from tracker.client.histograms import histogram_between, histogram_of
from tracker.client.interrupts import EXIT_TIMEOUT_S
from tracker.client.pickling import OpenAgain, PicklableRun
from tracker.client.recorder import RunRecorder
from tracker.client.values import one_of
from tracker.domain.errors import InvalidValue
from tracker.domain.frames import MetricDefined, MetricMonitored, Points
from tracker.domain.goals import Goal, GoalSource
from tracker.domain.limits import as_seconds, check_key, check_step
from tracker.domain.vocabulary import RUN_STATUSES, Axis, CheckpointRole, RunStatus

_monotonic_ns = time.monotonic_ns


class Run(PicklableRun):
    """One training run, created by `tracker.start_run`. A context manager; usable from many threads."""

    def __init__(
        self,
        *,
        id: str,
        name: str,
        experiment: str,
        store_url: str,
        recorder: RunRecorder,
        started_ms: int = 0,
        resumed: bool = False,
        open_again: OpenAgain | None = None,
    ) -> None:
        self.id = id
        self.name = name
        self.experiment = experiment
        self.store_url = store_url
        self.resumed = resumed
        self._open_again = open_again
        self._recorder = recorder
        self._writer = recorder.writer
        self._validation = recorder.validation
        self._position = recorder.position
        self._end = RunEnd(recorder, lambda: self._fit)
        self._fit: FitRecorder | None = None
        self._fit_number = 0
        self._started_ms = started_ms
        self._known_keys = recorder.validation.step_keys

    def __repr__(self) -> str:
        return f"<Run {self.name!r} {self.id} {self.status}>"

    @property
    def status(self) -> RunStatus:
        """`running`, or how the run ended."""
        return self._end.status

    # -- metrics -------------------------------------------------------------------------------------------------

    def log(self, metrics: Mapping[str, Any], *, step: int | None = None) -> None:
        """Record metrics at an optimizer step, counted from 0 since the run began; None: one after the last."""
        known = self._known_keys
        if type(metrics) is dict and type(step) is int and 0 <= step < 2**63:
            for key, value in metrics.items():
                if type(value) is not float or key not in known:
                    break
            else:
                self._position.next_step = step + 1
                ms = (_monotonic_ns() + CLOCK.offset_ns) // 1_000_000
                self._writer.write(Points(ms, "step", step, self._fit_number, metrics), len(metrics))
                return
        self._log_checked(metrics, self._position.next_step if step is None else step)

    def log_system(self, metrics: Mapping[str, Any]) -> None:
        """Record metrics of the machine, under keys that begin with `system/`, which is added where it is missing.

        Their axis is `time`: the step is milliseconds since the run began, also in a continued run. Several processes
        may record into one run. Later points supersede nothing.
        """
        if values := self._validation.at_time(metrics):
            moment = now_ms()
            self._writer.write(Points(moment, "time", max(moment - self._started_ms, 0), 0, values), len(values))

    def log_epoch(self, epoch: int, metrics: Mapping[str, Any], *, seconds: float | None = None) -> None:
        """Record an epoch that ended, counted from 0 since the run began, and its metrics."""
        number = self._validation.checked(lambda: check_step("epoch", epoch))
        if number is not None:
            lasted = None if seconds is None else self._validation.checked(lambda: as_seconds(seconds))
            self._recorder.epoch(number, metrics, seconds=lasted, step=None, fit=self._fit_number)

    def define_metric(self, key: str, *, goal: Goal, source: GoalSource = "declared") -> None:
        """Declare whether small ("min") or large ("max") values of `key` are better; this decides its best value."""

        def frame() -> MetricDefined:
            better, who = one_of("goal", goal, get_args(Goal)), one_of("source", source, get_args(GoalSource))
            return MetricDefined(ms=now_ms(), key=check_key("metric", key), goal=better, source=who)

        self._recorder.write_checked(frame)

    def monitor_metric(self, key: str, *, source: GoalSource = "declared") -> None:
        """Declare which metric decides the run's best epoch (default: val_loss, else loss)."""

        def frame() -> MetricMonitored:
            who = one_of("source", source, get_args(GoalSource))
            return MetricMonitored(ms=now_ms(), key=check_key("metric", key), source=who)

        self._recorder.write_checked(frame)

    def log_histogram(self, key: str, values: Any, *, step: int, bins: int = 30, axis: Axis = "step") -> None:
        """Record the distribution of the finite `values` (an array of any shape) at a step."""
        fit = self._fit_number
        self._recorder.write_checked(lambda: histogram_of(key, values, step=step, bins=bins, axis=axis, fit=fit))

    def log_bins(self, key: str, edges: Any, counts: Any, *, step: int, axis: Axis = "step") -> None:
        """Record a histogram of n `counts` between n + 1 finite, non-decreasing `edges`."""
        fit = self._fit_number
        self._recorder.write_checked(lambda: histogram_between(key, edges, counts, step=step, axis=axis, fit=fit))

    # -- parameters, tags, events --------------------------------------------------------------------------------

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record parameters; nested mappings are flattened with dots. The first value of a key is kept."""
        self._recorder.params(params, fit=self._fit_number, ms=now_ms())

    def set_tags(self, tags: Mapping[str, Any], *, overwrite: bool = True) -> None:
        """Set tags; values become strings, and the last value of a key is kept.

        `overwrite=False` skips keys that were set through this object before.
        """
        self._recorder.tags(tags, overwrite=overwrite)

    def log_event(self, kind: str, *, epoch: int | None = None, step: int | None = None, **detail: Any) -> None:
        """Record an event on the run's timeline; `detail` is stored as JSON."""
        self._recorder.event(kind, detail, epoch=epoch, step=step, fit=self._fit_number)

    # -- files ---------------------------------------------------------------------------------------------------

    def log_text(self, text: str, path: str) -> None:
        """Store `text` as the artifact `path`, in UTF-8."""
        self._recorder.files.text(text, path)

    def log_image(self, array: Any, key: str, *, step: int) -> None:
        """Store an image of a step; MLflow's UI shows it in its image grid. Needs Pillow.

        `array` has shape (height, width) or (height, width, 1, 3 or 4), of uint8 or of floats from 0 to 1; or it is
        the bytes of a PNG file. At most 4096 x 4096 pixels. It is copied at once and compressed in the background.
        """
        self._recorder.images.add(array, key, step)

    def log_artifact(self, local_path: str | os.PathLike[str], path: str | None = None) -> None:
        """Store a file, or a folder with its files, as the artifact `path` (default: its own name).

        It is copied before this returns, and published in the background.
        """
        self._recorder.files.tree(local_path, path)

    def log_checkpoint(
        self,
        local_path: str | os.PathLike[str],
        *,
        epoch: int,
        step: int | None = None,
        metrics: Mapping[str, Any] | None = None,
        is_best: bool | None = None,
        state: Mapping[str, Any] | None = None,
        role: CheckpointRole = "model",
    ) -> bool:
        """Store a checkpoint of an epoch, a file or a folder; its row appears once its bytes are stored and verified.

        It is copied before this returns; True if that succeeded. `is_best=None`: best if the epoch is the run's best so
        far. `state` is what a resume needs besides the file. Of the role "state" only the newest checkpoint is kept.
        """
        info = CheckpointInfo(
            epoch=epoch,
            step=step,
            fit=self._fit_number,
            metrics={} if metrics is None else metrics,
            is_best=is_best,
            state={} if state is None else state,
            role=role,
        )
        return self._recorder.checkpoint(local_path, info)

    def keep_checkpoints(self, *, last: int | None = None, best: int | None = None) -> None:
        """Set the retention from now on: how many of the last and of the best checkpoints keep their files.

        With neither, the default, only older versions of files that a callback overwrites are removed, those beyond
        TRACKER_CHECKPOINT_BUDGET. The newest, the best by the monitored metric and tagged ones are always kept. The
        others lose their bytes; their rows stay, as `pruned`.
        """
        self._recorder.keep_checkpoints(last, best)

    # -- fits ----------------------------------------------------------------------------------------------------

    def start_fit(
        self,
        *,
        initial_epoch: int = 0,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        batch_size: int | None = None,
        resumed_from: int | None = None,
        resumed_steps: int | None = None,
    ) -> FitRecorder:
        """Begin a fit and return its recorder, which counts epochs and steps in the fit's own numbers from 0.

        The recorder is a context manager; otherwise call its `end`. A fit that is still open is ended as failed. A fit
        that resumes earlier work passes the run's epoch (`resumed_from`) and optimizer steps (`resumed_steps`) after
        which it goes on; it continues their phase, even from epoch 0.
        """
        if self._fit is not None:
            self._fit.end("failed")
        # A new phase begins after all steps so far, those logged by `log` included: it supersedes none of them.
        self._position.steps = max(self._position.steps, self._position.next_step - 1)
        self._fit = FitRecorder(
            self._recorder,
            self._leave_fit,
            self._end.outcome_after,
            initial_epoch=self._validation.whole("initial_epoch", initial_epoch) or 0,
            epochs=self._validation.whole("epochs", epochs),
            steps_per_epoch=self._validation.whole("steps_per_epoch", steps_per_epoch),
            batch_size=self._validation.whole("batch_size", batch_size),
            resumed_from=self._validation.whole("resumed_from", resumed_from),
            resumed_steps=self._validation.whole("resumed_steps", resumed_steps),
        )
        self._fit_number = self._fit.number
        return self._fit

    # -- the end -------------------------------------------------------------------------------------------------

    @property
    def should_stop(self) -> bool:
        """Whether a user requested that this run stops; known within a heartbeat, 15 seconds at most."""
        return self._writer.stop_requested

    @property
    def next_epoch(self) -> int:
        """The number of the next epoch, counted from 0 since the run began."""
        return self._position.next_epoch

    @property
    def problems(self) -> Mapping[str, int]:
        """How often something could not be recorded, by kind."""
        return self._writer.all_problems

    def report(self, kind: str, problem: str, error: BaseException | None = None) -> None:
        """Count something that could not be recorded in `problems`, and log it if it is the first of its kind.

        The traceback of `error` is logged with it.
        """
        self._writer.report(kind, problem, error=error)

    def in_background(self, work: Callable[[], None], *, pause: float = 0.0) -> Future[None]:
        """Do `work` in the background, in the order of the calls; it may log into this run.

        `flush` and the run's end wait for it. Its exceptions are logged and counted. The future is cancelled if the run
        has ended. Unless a caller waits, `work` starts up to `pause` seconds later, to handle more at once.
        """
        return self._recorder.background.do(work, pause=pause)

    def flush(self, timeout: float = 30.0) -> int:
        """Wait until everything logged so far is stored, at most `timeout` seconds; return how many points and files
        are not.

        This waits for files, too; points and the run's end never wait for a file.
        """
        began = time.monotonic()
        self._recorder.background.wait(timeout)
        return self._writer.flush(max(timeout - (time.monotonic() - began), 0.0))

    def finish(self, status: RunStatus = "finished", *, timeout: float = EXIT_TIMEOUT_S) -> int:
        """End the run and wait as `flush` does; return how many points and files are still in the journal.

        A second call changes nothing. A run whose process got SIGTERM meanwhile is `preempted`, not `finished`.
        """
        if status not in RUN_STATUSES or status in ("running", "lost"):
            raise InvalidValue("status", f"{status!r} is not how a run ends", limit=", ".join(RUN_STATUSES[1:-1]))
        return self._end.end(status, None, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end.end(status_after(error), error)

    # -- inside --------------------------------------------------------------------------------------------------

    def _leave_fit(self) -> None:
        self._fit_number = 0

    def _log_checked(self, metrics: Mapping[str, Any], step: Any) -> None:
        number = self._validation.checked(lambda: check_step("step", step))
        if number is not None:
            self._position.next_step = number + 1
            self._recorder.points("step", number, metrics, fit=self._fit_number, ms=now_ms())


def recorder_of(run: Run) -> RunRecorder:
    """The recorder of `run`, for records whose axis, step, fit and time are given."""
    return run._recorder


def end_of(run: Run) -> RunEnd:
    """The end of `run`, for whoever ends it with an exception."""
    return run._end
