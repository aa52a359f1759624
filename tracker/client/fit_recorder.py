"""Records fits: translates Keras' epochs and steps, which restart with every `fit()`, into the run's numbers."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self, get_args

from tracker.client.checkpoint_log import CheckpointInfo
from tracker.client.clock import now_ms
from tracker.client.recorder import RunRecorder
from tracker.client.values import one_of
from tracker.domain.frames import FitEnded, FitStarted
from tracker.domain.limits import STEP_MAX, as_seconds, check_step
from tracker.domain.vocabulary import CheckpointRole, FitOutcome, RunStatus


def outcome_of(status: RunStatus, error: object = None) -> FitOutcome:
    """Outcome of a fit that did not return when its run ends with `status` and `error`.

    The store gives an open fit the same outcome. `sys.exit()` during the fit, without a code or with 0, is `stopped`.
    """
    if status == "interrupted" or status == "preempted":
        return status
    return "stopped" if status == "finished" and isinstance(error, SystemExit | GeneratorExit) else "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class FitInfo:
    """A `model.fit()` that began: its number and phase, counted from 1, and its first epoch, in the run's numbers.

    `epochs` is the epoch before which it plans to end, None if unknown.
    """

    number: int
    phase: int
    first_epoch: int
    epochs: int | None


class FitRecorder:
    """Records one `model.fit()`, in Keras' numbers: epochs as in `on_epoch_end`, steps since the fit began.

    The fit is over when `end` is called; as a context manager it ends with its block. Its methods refuse what they
    cannot record as those of `Run` do: nothing is raised.
    """

    def __init__(
        self,
        recorder: RunRecorder,
        on_end: Callable[[], None],
        outcome_after: Callable[[BaseException], FitOutcome],
        *,
        initial_epoch: int,
        epochs: int | None,
        steps_per_epoch: int | None,
        batch_size: int | None,
        resumed_from: int | None,
        resumed_steps: int | None = None,
    ) -> None:
        self.run_recorder = recorder
        position = self._position = recorder.position
        self._validation = recorder.validation
        self._on_end = on_end
        self._outcome_after = outcome_after
        self.first_epoch, self.first_step = position.enter_fit(initial_epoch, epochs, steps_per_epoch, resumed_steps)
        self.number = position.fits
        self.phase = position.phase
        self.ended = False
        self._steps = 0
        self._held: deque[tuple[int, Callable[[], None]]] = deque()
        self._recorded = -1
        self._lock = threading.RLock()
        self._offset = position.phase_epoch
        self.planned = planned = None if epochs is None else self._offset + epochs
        if resumed_from is None and initial_epoch > 0:
            resumed_from = self.first_epoch - 1
        recorder.write(
            FitStarted(
                ms=now_ms(),
                number=self.number,
                phase=self.phase,
                first_epoch=self.first_epoch,
                first_step=self.first_step,
                phase_epoch=position.phase_epoch,
                phase_step=position.phase_step,
                epochs=planned,
                steps_per_epoch=steps_per_epoch,
                batch_size=batch_size,
                resumed_from=resumed_from,
                host=os.uname().nodename,
            )
        )
        self._event("fit_started", self.first_epoch, {"fit": self.number, "phase": self.phase, "epochs": planned})
        recorder.events.put("fit_started", fit=self.info)

    @property
    def info(self) -> FitInfo:
        """The description of this fit for plugins."""
        return FitInfo(number=self.number, phase=self.phase, first_epoch=self.first_epoch, epochs=self.planned)

    def epoch(self, keras_epoch: int) -> int:
        """The run's number of Keras' epoch."""
        return self._offset + keras_epoch

    def moment(self) -> int:
        """The time of an event now that is recorded later; see `Position.moment`."""
        return self._position.moment()

    def step(self, steps: int) -> int:
        """Optimizer steps since the run began, after `steps` steps of this fit."""
        return self.first_step - 1 + steps

    def log_epoch(
        self, keras_epoch: int, metrics: Mapping[str, object], *, seconds: float | None = None, steps: int | None = None
    ) -> None:
        """Record an epoch that ended; `steps` is the number of optimizer steps of this fit so far."""
        number = self._count("epoch", keras_epoch)
        if number is None:
            return
        epoch, done = self.epoch(number), None if steps is None else self._count("steps", steps)
        lasted = None if seconds is None else self._validation.checked(lambda: as_seconds(seconds))
        self.reached(done)
        step = None if done is None else self.step(done)
        self.run_recorder.epoch(epoch, metrics, seconds=lasted, step=step, fit=self.number)
        self._recorded = max(self._recorded, epoch)
        self._release()

    def log_batch(self, steps: int, metrics: Mapping[str, object]) -> None:
        """Record metrics after the `steps`-th step of this fit."""
        number = self._count("steps", steps)
        if number is not None:
            self.reached(number)
            self.run_recorder.points("step", self.step(number), metrics, fit=self.number, ms=now_ms())

    def log_event(self, kind: str, keras_epoch: int, detail: Mapping[str, object]) -> None:
        """Record an event of Keras' epoch as this fit's, even after the fit has ended."""

        epoch = self._count("epoch", keras_epoch)
        if epoch is not None:
            self._event(kind, self.epoch(epoch), detail)

    def log_checkpoint(
        self,
        local_path: str | os.PathLike[str],
        keras_epoch: int,
        *,
        steps: int | None = None,
        metrics: Mapping[str, object] | None = None,
        is_best: bool | None = None,
        state: Mapping[str, object] | None = None,
        role: CheckpointRole = "model",
        ms: int | None = None,
    ) -> bool:
        """`Run.log_checkpoint` for an epoch of this fit, after `steps` of its steps, saved at `ms` (default: now)."""
        number = self._count("epoch", keras_epoch)
        done = None if steps is None else self._count("steps", steps)
        when = None if ms is None else self._count("ms", ms)
        if number is None or (done is None and steps is not None) or (when is None and ms is not None):
            return False
        info = CheckpointInfo(
            epoch=self.epoch(number),
            step=None if done is None else self.step(done),
            metrics={} if metrics is None else metrics,
            is_best=is_best,
            state={} if state is None else state,
            role=role,
            ms=when or 0,
        )
        return self.add_checkpoint(local_path, info)

    def add_checkpoint(
        self, local_path: str | os.PathLike[str], info: CheckpointInfo, *, ends_epoch: bool = False
    ) -> bool:
        """Record a checkpoint of this fit; `info` has the run's numbers, as `epoch` and `step` give them.

        Callable from any thread, also when the fit has gone on or ended. Rows are written in the order of the calls.
        With `ends_epoch` the row is written after that of its epoch, whose metrics decide how good the checkpoint is,
        or when the fit ends.
        """

        def hold(record: Callable[[], None]) -> None:
            self._held.append((info.epoch if ends_epoch else -1, record))
            self._release()

        return self.run_recorder.checkpoint(local_path, replace(info, fit=self.number), hold=hold)

    def _release(self) -> None:
        """Write the rows that are due, in their order.

        No thread waits for the lock: the one that has it checks again after releasing it.
        """
        while self._is_due() and self._lock.acquire(blocking=False):
            try:
                while self._is_due():
                    self._held.popleft()[1]()
            finally:
                self._lock.release()

    def _is_due(self) -> bool:
        return bool(self._held) and (self.ended or self._held[0][0] <= self._recorded)

    def end(self, outcome: FitOutcome) -> None:
        """End the fit; a second call does nothing, an invalid outcome is refused."""
        if self.ended or self._validation.checked(lambda: one_of("outcome", outcome, get_args(FitOutcome))) is None:
            return
        self.ended = True
        self._release()
        self.run_recorder.write(FitEnded(ms=now_ms(), number=self.number, outcome=outcome))
        self._event("fit_ended", self._position.next_epoch - 1, {"fit": self.number, "outcome": outcome})
        self._on_end()
        self.run_recorder.events.put("fit_ended", fit=self.info, outcome=outcome)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.end("completed" if error is None else self._outcome_after(error))

    @property
    def is_complete(self) -> bool:
        """Whether all planned epochs were recorded."""
        return self.planned is not None and self._position.next_epoch >= self.planned

    @property
    def reached_step(self) -> int:
        """Optimizer steps since the run began, as far as this fit knows."""
        return self.step(self._steps)

    def reached(self, steps: int | None) -> None:
        """Set how many optimizer steps of this fit are done; later records happened after them."""
        if steps is not None and (steps := self._count("steps", steps)) is not None and steps > self._steps:
            self._steps = steps
            done = self.first_step - 1 + steps
            if done > self._position.steps:
                self._position.steps = done

    def _count(self, field: str, value: object) -> int | None:
        """A whole number; None if it was refused."""
        if type(value) is int and 0 <= value <= STEP_MAX:
            return value
        return self._validation.checked(lambda: check_step(field, value))

    def _event(self, kind: str, epoch: int, detail: Mapping[str, object]) -> None:
        step = self._position.steps
        self.run_recorder.event(kind, detail, epoch=max(epoch, 0), step=step, fit=self.number)
