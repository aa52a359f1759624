"""Records fits: translates Keras' epochs and steps, which restart with every `fit()`, into the run's numbers."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self, get_args

from tracker.client.checkpoint_log import CheckpointLog
from tracker.client.clock import now_ms
from tracker.client.validation import Validation, as_mapping
from tracker.client.values import one_of
from tracker.domain.frames import EventLogged, FitEnded, FitStarted, Frame
from tracker.domain.limits import STEP_MAX, as_detail, as_number, check_key, check_step
from tracker.domain.run_progress import Progress
from tracker.domain.vocabulary import CheckpointRole, FitOutcome, RunStatus


class Position:
    """Current position of a run: `Progress`, updated with each record."""

    def __init__(self, progress: Progress) -> None:
        self.fits = progress.fits
        self.phase = progress.phase
        self.next_epoch = progress.next_epoch
        self.steps = progress.steps
        self.phase_epoch = progress.phase_epoch
        self.phase_step = progress.phase_step
        self._moment = 0

    def moment(self) -> int:
        """Milliseconds since the Unix epoch, strictly increasing.

        Events and checkpoints are sorted by time, so this keeps them in the order in which they happened.
        """
        self._moment = moment = max(now_ms(), self._moment + 1)
        return moment

    def enter_fit(
        self, initial_epoch: int, epochs: int | None, steps_per_epoch: int | None, resumed_steps: int | None = None
    ) -> tuple[int, int]:
        """Begin the next fit; return the run's numbers of its first epoch and of its first optimizer step.

        A fit from epoch 0 begins a new phase, whose numbers go on from the run's last. A later `initial_epoch`
        continues the phase: points at and after it will be superseded. So does a fit with `resumed_steps` (the run's
        optimizer steps where it resumes), even from epoch 0. A fit that plans no epoch changes nothing.
        """
        self.fits += 1
        if epochs == 0:
            return self.next_epoch, self.steps + 1
        begins = initial_epoch == 0 and resumed_steps is None
        if begins or self.phase == 0:
            self.phase += 1
            self.phase_epoch = self.next_epoch if initial_epoch == 0 else 0
            self.phase_step = self.steps if initial_epoch == 0 else 0
        self.next_epoch = self.phase_epoch + initial_epoch
        if resumed_steps is not None:
            self.steps = resumed_steps
        elif initial_epoch == 0:
            self.steps = self.phase_step
        elif steps_per_epoch:
            self.steps = self.phase_step + initial_epoch * steps_per_epoch
        return self.next_epoch, self.steps + 1


def outcome_of(status: RunStatus, error: object = None) -> FitOutcome:
    """Outcome of a fit that did not return when its run ends with `status` and `error`.

    The store gives an open fit the same outcome. `sys.exit()` during the fit, without a code or with 0, is `stopped`.
    """
    if status == "interrupted" or status == "preempted":
        return status
    return "stopped" if status == "finished" and isinstance(error, SystemExit | GeneratorExit) else "failed"


class FitRecorder:
    """Records one `model.fit()`, in Keras' numbers: epochs as in `on_epoch_end`, steps since the fit began.

    The fit is over when `end` is called; as a context manager it ends with its block. Its methods refuse what they
    cannot record as those of `Run` do: nothing is raised.
    """

    def __init__(
        self,
        position: Position,
        intake: Validation,
        write: Callable[[Frame], None],
        log_epoch: Callable[[int, Mapping[str, object], float | None, int | None], None],
        log_step: Callable[[int, Mapping[str, object]], None],
        on_end: Callable[[FitOutcome], None],
        checkpoints: CheckpointLog,
        outcome_after: Callable[[BaseException], FitOutcome],
        *,
        initial_epoch: int,
        epochs: int | None,
        steps_per_epoch: int | None,
        batch_size: int | None,
        resumed_from: int | None,
        resumed_steps: int | None = None,
    ) -> None:
        self._position = position
        self._intake = intake
        self._write = write
        self._log_epoch = log_epoch
        self._log_step = log_step
        self._on_end = on_end
        self._checkpoints = checkpoints
        self._outcome_after = outcome_after
        self._initial_epoch = initial_epoch
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
        write(
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
        lasted = None if seconds is None else self._intake.checked(lambda: as_number("seconds", seconds))
        self.reached(done)
        self._position.next_epoch = max(self._position.next_epoch, epoch + 1)
        self._log_epoch(epoch, metrics, lasted, None if done is None else self.step(done))
        self._recorded = max(self._recorded, epoch)
        self._release()

    def log_batch(self, steps: int, metrics: Mapping[str, object]) -> None:
        """Record metrics after the `steps`-th step of this fit."""
        number = self._count("steps", steps)
        if number is not None:
            self.reached(number)
            self._log_step(self.step(number), metrics)

    def log_event(self, kind: str, keras_epoch: int, detail: Mapping[str, object]) -> None:
        """Record an event of Keras' epoch as this fit's, even after the fit has ended."""

        def record() -> None:
            name, epoch = check_key("event", kind), self.epoch(check_step("epoch", keras_epoch))
            self._event(name, epoch, as_detail(f"detail of event {name!r}", dict(as_mapping("detail", detail))))

        self._intake.checked(record)

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
        ends_epoch: bool = False,
    ) -> bool:
        """`Run.log_checkpoint` for an epoch of this fit, after `steps` of its steps, saved at `ms` (default: now).

        Callable from any thread, also when the fit has gone on or ended. Rows are written in the order of the calls.
        With `ends_epoch` the row is written after that of its epoch, whose metrics decide how good the checkpoint is,
        or when the fit ends.
        """
        number = self._count("epoch", keras_epoch)
        done = None if steps is None else self._count("steps", steps)
        when = None if ms is None else self._count("ms", ms)
        if number is None or (done is None and steps is not None) or (when is None and ms is not None):
            return False
        step, epoch = None if done is None else self.step(done), self.epoch(number)

        def hold(record: Callable[[], None]) -> None:
            self._held.append((epoch if ends_epoch else -1, record))
            self._release()

        return self._checkpoints.add(
            local_path,
            epoch,
            step,
            self.number,
            metrics=metrics,
            is_best=is_best,
            state=state,
            role=role,
            ms=when,
            hold=hold,
        )

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
        if self.ended or self._intake.checked(lambda: one_of("outcome", outcome, get_args(FitOutcome))) is None:
            return
        self.ended = True
        self._release()
        self._write(FitEnded(ms=now_ms(), number=self.number, outcome=outcome))
        self._event("fit_ended", self._position.next_epoch - 1, {"fit": self.number, "outcome": outcome})
        self._on_end(outcome)

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
        """Optimizer steps since the run began, as far as this fit was told."""
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
        return self._intake.checked(lambda: check_step(field, value))

    def _event(self, kind: str, epoch: int, detail: dict[str, object]) -> None:
        self._write(
            EventLogged(
                ms=self._position.moment(),
                kind=kind,
                epoch=max(epoch, 0),
                step=self._position.steps,
                fit=self.number,
                detail=detail,
            )
        )
