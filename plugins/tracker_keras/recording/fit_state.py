"""State of a recorded fit: its run, call and model, and its position in epochs and optimizer steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tracker_keras.recording.guarded_wrappers import GuardedWrappers
from tracker_keras.recording.optimizers import iterations

if TYPE_CHECKING:
    from tracker.client.fit_recorder import FitRecorder
    from tracker.client.run import Run
    from tracker.domain.records import Checkpoint
    from tracker_keras.recording.batches import BatchLog
    from tracker_keras.recording.fit_call import FitCall
    from tracker_keras.recording.guard import Guard


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumePoint:
    """The position and knowledge with which a resumed fit begins.

    `steps` are the optimizer steps that the run had done; `batch` the batches of the first epoch to skip, and `data`
    those before them, of data that continues across epochs. `checkpoint` is None if the training had saved nothing yet
    and begins its phase again.
    """

    steps: int
    batch: int = 0
    data: int = 0
    checkpoint: Checkpoint | None = None
    known: Mapping[str, Any] = field(default_factory=dict)


class FitState:
    """What observers of a recorded `fit()` know of it; `ObservedFit` keeps it up to date.

    `callbacks` are the other callbacks, in their order; ours is left out so that this object does not keep it alive.

    The model is the call's, not a callback's `model`, which changes when the callback is also passed to an `evaluate()`
    during the fit. On JAX `Callback.model` would also synchronise the state, which Keras has already done wherever the
    model is read here.
    """

    def __init__(self, run: Run, call: FitCall, me: object, guard: Guard, *, log_batches: int) -> None:
        self.run = run
        self.call = call
        self.model = call.model
        self.callbacks = tuple(one for one in call.callbacks if one is not me)
        self.guard = guard
        self.wrappers = GuardedWrappers(call, guard)
        self.log_batches = log_batches
        """Optimizer steps between recorded batch logs; 0 if they are not recorded."""
        self.recorder: FitRecorder | None = None
        """None before the fit's first epoch."""
        self.resume_point: ResumePoint | None = None
        """Where this fit resumes an earlier one."""
        self.current_epoch = 0
        """Keras' number of the running epoch."""
        self.last_epoch: int | None = None
        """The run's number of the epoch that ended last."""
        self.saves_state = False
        """Whether an observer of this fit saves state checkpoints."""
        self.steps = 0
        """Optimizer steps of this fit, as of the last epoch's end."""
        self.batches: BatchLog | None = None
        self.iterations_before = 0
        """The optimizer's own count when the fit began."""
        self.is_counted = False
        """Whether `steps` includes the current epoch."""

    @property
    def is_over(self) -> bool:
        """Whether the record was ended."""
        return self.recorder is not None and self.recorder.ended

    @property
    def is_resumed(self) -> bool:
        """Whether the fit began from a state that an earlier process saved."""
        return self.resume_point is not None and self.resume_point.checkpoint is not None

    @property
    def skipped(self) -> int:
        """Batches of the running epoch that an earlier process trained."""
        return self.resume_point.batch if self.resume_point is not None and self.last_epoch is None else 0

    @property
    def passed_over(self) -> int:
        """Batches before that epoch, for data that continues across epochs."""
        return self.resume_point.data if self.resume_point is not None and self.last_epoch is None else 0

    def epoch(self, keras_epoch: int) -> int:
        """The run's number of Keras' epoch."""
        return keras_epoch if self.recorder is None else self.recorder.epoch(keras_epoch)

    def decided(self, kind: str, epoch: int, detail: Mapping[str, Any]) -> None:
        """Record a decision of Keras' `epoch`."""
        if self.recorder is not None:
            self.recorder.log_event(kind, epoch, detail)

    def steps_done(self) -> int:
        """Steps of this fit so far, also within an epoch, as counted by the optimizer."""
        if self.is_counted:  # no steps happen between the end of an epoch and the begin of the next
            return self.steps
        return max(iterations(self.model) - self.iterations_before, self.steps)

    def count_steps(self) -> None:
        """Update the number of this fit's steps, from the optimizer's count if there is one; once an epoch."""
        if self.is_counted:
            return
        self.is_counted = True
        done = iterations(self.model) - self.iterations_before
        if done <= self.steps:  # no optimizer, or the model's train_step does not use it
            done = self.steps + (self.call.steps_per_epoch or 0)
        if self.batches is not None and self.batches.exact:
            done = max(done, self.batches.seen)  # loss scaling skips steps whose batches were still logged
        self.steps = done
        if self.recorder is not None:
            self.recorder.reached(done)
