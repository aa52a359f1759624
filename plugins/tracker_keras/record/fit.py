"""Records one `fit()` into a run, from its begin to its end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tracker_keras.record.batches import BatchLog, BatchWriter
from tracker_keras.record.decisions import Decisions
from tracker_keras.record.evaluations import model_is_at
from tracker_keras.record.fit_call import FitCall, FitObserver
from tracker_keras.record.guard import guarded
from tracker_keras.record.optimizers import iterations, learning_rates, scheduled_rates
from tracker_keras.record.parts import MakePart, Part
from tracker_keras.record.watch import Watch

if TYPE_CHECKING:
    from tracker.client.fit_recorder import FitRecorder
    from tracker.client.run import Run
    from tracker.domain.goals import Goal
    from tracker_keras.record.description import Description
    from tracker_keras.record.guard import Guard
    from tracker_keras.resuming.resume import TakenUp

log = logging.getLogger("tracker")


class ObservedFit(FitObserver):
    """Records one call of `fit()` into `run`.

    `callbacks` are the other callbacks, in their order; ours is left out so that this object does not keep it alive.
    `done` is called when the record is complete, unless the fit died.

    The model is the call's, not a callback's `model`, which changes when the callback is also passed to an `evaluate()`
    during the fit. On JAX `Callback.model` would also synchronise the state, which Keras has already done wherever the
    model is read here.
    """

    def __init__(
        self,
        run: Run,
        call: FitCall,
        me: object,
        description: Description,
        guard: Guard,
        *,
        log_batches: int,
        parts: Iterable[MakePart] = (),
        done: Callable[[], None] = lambda: None,
    ) -> None:
        self.run = run
        self.call = call
        self.model = call.model
        self.callbacks = tuple(one for one in call.callbacks if one is not me)
        self.guard = guard
        self._description = description
        self._log_batches = log_batches
        self._done = done
        self._is_empty = True
        self.recorder: FitRecorder | None = None
        """None before the fit's first epoch."""
        self._batches: BatchLog | None = None
        self._iterations = 0
        self._steps = 0
        self._is_counted = False
        self._began = 0.0
        self._seconds = 0.0
        self._rates: dict[str, float] = {}
        self._keys: list[str] = []
        self._watched: tuple[str, Goal | None] | None = None
        """The metric and goal that decide the best epoch, from the last epoch's keys."""
        self._is_described = False
        self.last_epoch: int | None = None
        """The run's number of the epoch that ended last."""
        self.current_epoch = 0
        """Keras' number of the running epoch."""
        self.saves_state = False
        """Whether a part of this fit saves state checkpoints."""
        self._taken_up: TakenUp | None = None
        self._is_put_back = False
        self.watch = Watch(call, guard)
        self._decisions = Decisions(self, self.watch, guard)
        self._parts: list[Part] = []
        for make in parts:
            with guard("preparing the record of a fit"):
                self._parts.append(make(self))

    # -- a training that goes on ---------------------------------------------------------------------------------

    def take_up(self, taken_up: TakenUp | None) -> None:
        """Set the state from which this fit resumes an earlier one."""
        self._taken_up = taken_up

    def put_back(self) -> None:
        """Restore what was known of the fit, after model and callbacks were restored."""
        self._is_put_back = True
        self._decisions.rates.begin()
        if self._taken_up is not None:
            self._description.resumed()
            known = self._taken_up.known
            self._decisions.metrics_of(known.get("metrics", {}))
            self._decisions.rates.put_back(known.get("scheduled", {}))
            self._description.improvements.put_back(known.get("improvements"))

    def known(self) -> dict[str, Any]:
        """What a later process needs to record the decisions of this fit, as JSON."""
        return {
            "metrics": self._decisions.metrics(),
            "improvements": self._description.improvements.last(),
            "scheduled": self._decisions.rates.scheduled(),
        }

    @property
    def is_over(self) -> bool:
        """Whether the record was ended."""
        return self.recorder is not None and self.recorder.ended

    @property
    def steps(self) -> int:
        """Optimizer steps of this fit, as of the last epoch's end."""
        return self._steps

    @property
    def is_resumed(self) -> bool:
        """Whether the fit began from a state that an earlier process saved."""
        return self._taken_up is not None and self._taken_up.checkpoint is not None

    @property
    def skipped(self) -> int:
        """Batches of the running epoch that an earlier process trained."""
        return self._taken_up.batch if self._taken_up is not None and self.last_epoch is None else 0

    @property
    def passed_over(self) -> int:
        """Batches before that epoch, for data that continues across epochs."""
        return self._taken_up.data if self._taken_up is not None and self.last_epoch is None else 0

    def epoch(self, keras_epoch: int) -> int:
        """The run's number of Keras' epoch."""
        return keras_epoch if self.recorder is None else self.recorder.epoch(keras_epoch)

    def decided(self, kind: str, epoch: int, detail: Mapping[str, Any]) -> None:
        """Record a decision of Keras' `epoch`."""
        if self.recorder is not None:
            self.recorder.log_event(kind, epoch, detail)

    # -- what the call tells -------------------------------------------------------------------------------------

    @guarded("reading the rates that the training begins with")
    def train_begun(self) -> None:
        """Read the initial rates, and report what is not known of this training."""
        self._decisions.rates.begin()
        if unknown := self.call.unknown():
            kind = "Keras' fit(), called in a way that cannot be read," if self.call.is_keras else "a loop of its own"
            self.run.report(
                "unknown_of_fit",
                f"this training is {kind} and not keras.Model.fit() as usual, so this is not recorded of it: "
                f"{'; '.join(unknown)}",
            )

    @guarded("beginning the record of an epoch")
    def epoch_begins(self, epoch: int) -> None:
        """Keras' `epoch` begins; the first one shows where the fit starts."""
        if self._is_empty:
            self._is_empty = False
            self._iterations = iterations(self.model)
            self._start(epoch, self.call.epochs)
        if self._batches is not None:
            self._batches.begin_epoch(self._steps - self.skipped)
        self.current_epoch = epoch
        if self.recorder is not None:
            model_is_at(self.run, self.model, self.recorder.epoch(epoch), self.recorder.number)
        self._is_counted = False
        self._rates = {}
        self._each_part("begin_epoch", epoch)

    @guarded("reading the rates of an epoch")
    def epoch_begun(self, epoch: int) -> None:
        """Read the rates of this epoch after all callbacks have set them (LearningRateScheduler)."""
        self._rates = self._decisions.rates.read(epoch)
        self._began = time.perf_counter()

    @guarded("reading decisions as an epoch ends")
    def epoch_ends(self, epoch: int) -> None:
        """All batches and the validation are done."""
        self._seconds = time.perf_counter() - self._began
        self._decisions.epoch_ends(epoch)

    @guarded("recording an epoch")
    def epoch_ended(self, epoch: int, logs: Mapping[str, Any], *, complete: bool) -> None:
        """Keras' `epoch` ended; record its metrics with its rates, which replace those of other callbacks in `logs`."""
        if self.recorder is None or not (logs or complete):
            return
        with self.guard("counting the optimizer's steps"):
            self.count_steps()
        if self._batches is not None:
            self._batches.end_epoch(self._steps)
        rates: dict[str, float] = {}
        with self.guard("reading the learning rate"):
            rates = (self._rates or learning_rates(self.model)) | scheduled_rates(self.model)
        if (keys := list(logs)) != self._keys:
            with self.guard("reading the metrics' goals"):
                validates = self.call.validation_of(0) in ("held", "later")
                self._watched = self._description.goals(
                    self.model, keys, self.callbacks, batches=self._log_batches > 0, validates=validates
                )
                self._keys = keys
        self.recorder.log_epoch(epoch, {**logs, **rates}, seconds=self._seconds, steps=self._steps)
        self.last_epoch = self.recorder.epoch(epoch)
        self._tell_improvement(epoch, logs)
        with self.guard("telling of decisions"):
            self._decisions.end_epoch(epoch, logs, rates)
        if not self._is_described:
            self._describe_model(self.recorder)
        self._each_part("end_epoch", epoch, {**logs, **rates})
        if not complete:
            return
        # The last planned epoch ends by itself, without a stop.
        if self.run.should_stop is True and (self.call.epochs is None or epoch + 1 < self.call.epochs):
            self._stop()
        self._each_part("settle_epoch", epoch)

    @guarded("ending the record of a fit")
    def train_ended(self) -> None:
        """The fit returns; record also what callbacks did at its end (EarlyStopping restores weights)."""
        if self._is_empty:
            self._start_empty()
        self._decisions.train_ended()
        self.finish()

    @guarded("ending the record of a fit that died")
    def over(self, error: BaseException | None) -> None:
        """End the record of a fit that died; a custom loop that never called `on_train_end` counts as failed."""
        if self.recorder is not None and not self.recorder.ended:
            if error is None and self.call.is_seen:
                self.finish()
            else:
                self._each_part("died")
                self.recorder.end("failed" if error is None else self.run.outcome_after(error))
        self.watch.leave()

    def finish(self) -> None:
        """End the record with the training's outcome."""
        self.watch.leave()
        if self.recorder is not None and not self.recorder.ended:
            self._each_part("end")
            self.recorder.end(self._decisions.outcome())
            self._done()
        self.guard.sum_up()

    def end_batch(self, batch: int, logs: Mapping[str, Any]) -> None:
        """Handle the batch hook; may be called from several threads at once."""
        if self._batches is not None:
            self._batches.add(batch, logs)
        if self.run.should_stop is True:
            self._stop()

    # -- inside --------------------------------------------------------------------------------------------------

    def _tell_improvement(self, epoch: int, logs: Mapping[str, Any]) -> None:
        metric, goal = self._watched or (None, None)
        if metric is not None and goal is not None:
            better = self._description.improvements.add(metric, goal, self.epoch(epoch), logs.get(metric))
            if better is not None:
                self.decided("best_improved", epoch, better)

    def _stop(self) -> None:
        """Stop the fit, since a user requested it."""
        if self._decisions.stop("stopped"):
            self.decided("stopped", self.current_epoch, {"by": "request"})

    def _start(self, initial_epoch: int, epochs: int | None) -> None:
        call = self.call
        recorder = self.recorder = self.run.start_fit(
            initial_epoch=initial_epoch,
            epochs=epochs,
            steps_per_epoch=call.steps_per_epoch,
            batch_size=call.batch_size,
            **_resume_options(self._taken_up if epochs != 0 else None),
        )
        self._tell_of_resume(initial_epoch)
        self._description.improvements.begin(recorder.first_epoch)
        if self._log_batches:
            at_once = getattr(self.model, "steps_per_execution", 1)
            write = BatchWriter(self.run, recorder)
            self._batches = BatchLog(self._log_batches, at_once, write, offset=recorder.step(0))
        with self.guard("describing the fit"):
            self._description.fit(
                self.model,
                {"epochs": call.epochs, "steps_per_epoch": call.steps_per_epoch, "batch_size": call.batch_size},
                self.callbacks,
            )
        self._describe_model(recorder)
        self._each_part("begin", initial_epoch)

    def _tell_of_resume(self, epoch: int) -> None:
        taken_up = self._taken_up
        if taken_up is not None and (checkpoint := taken_up.checkpoint) is not None:
            detail = {"checkpoint": checkpoint.id, "epoch": checkpoint.epoch, "step": taken_up.steps}
            self.decided("resumed", epoch, detail)

    def _describe_model(self, recorder: FitRecorder) -> None:
        """Describe the model, once a fit; a model that is not built yet is built by the end of its first epoch."""
        with self.guard("describing the model"):
            self._is_described = self._description.model(self.model, recorder.number)

    def _each_part(self, what: str, *given: Any) -> None:
        for part in self._parts:
            with self.guard(f"recording a fit ({type(part).__name__})"):
                getattr(part, what)(*given)

    def _start_empty(self) -> None:
        """Start the record of a fit without epochs, as one from epoch 0, so that it supersedes nothing."""
        restored = getattr(self.model, "_initial_epoch", None)
        if restored and not self._is_put_back:
            log.warning(
                "fit(epochs=%s) trained no epoch: BackupAndRestore made this model begin at epoch %s, and Keras never "
                "clears that; model._initial_epoch = None lets it train from epoch 0 again",
                self.call.epochs,
                restored,
            )
        self._start(0, 0)

    @property
    def steps_per_epoch(self) -> int | None:
        """Steps of an epoch, as Keras counted them before the first epoch."""
        return self.call.steps_per_epoch

    @property
    def logs_batches(self) -> bool:
        """Whether the batch logs are recorded."""
        return self._log_batches > 0

    def steps_done(self) -> int:
        """Steps of this fit so far, also within an epoch, as counted by the optimizer."""
        if self._is_counted:  # no steps happen between the end of an epoch and the begin of the next
            return self._steps
        return max(iterations(self.model) - self._iterations, self._steps)

    def count_steps(self) -> None:
        """Update the number of this fit's steps, from the optimizer's count if there is one; once an epoch."""
        if self._is_counted:
            return
        self._is_counted = True
        done = iterations(self.model) - self._iterations
        if done <= self._steps:  # no optimizer, or the model's train_step does not use it
            done = self._steps + (self.call.steps_per_epoch or 0)
        if self._batches is not None and self._batches.exact:
            done = max(done, self._batches.seen)  # loss scaling skips steps whose batches were still logged
        self._steps = done
        if self.recorder is not None:
            self.recorder.reached(done)


def _resume_options(taken_up: TakenUp | None) -> dict[str, int | None]:
    """Arguments of `start_fit` for a resumed training."""
    if taken_up is None:
        return {}
    checkpoint = taken_up.checkpoint
    return {"resumed_steps": taken_up.steps, "resumed_from": None if checkpoint is None else checkpoint.epoch}
