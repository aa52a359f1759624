"""Records one `fit()` into a run, from its begin to its end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tracker.client.run import end_of
from tracker.plugins import RunObserver, installed
from tracker.settings import Settings
from tracker_keras.recording.batches import BatchLog, BatchWriter
from tracker_keras.recording.decisions import Decisions
from tracker_keras.recording.evaluations import model_is_at
from tracker_keras.recording.fit_call import CallObserver, FitCall
from tracker_keras.recording.fit_observers import FitObserver
from tracker_keras.recording.fit_state import FitState, ResumePoint
from tracker_keras.recording.guard import guarded
from tracker_keras.recording.optimizers import iterations, learning_rates, scheduled_rates

if TYPE_CHECKING:
    from tracker.client.fit_recorder import FitRecorder
    from tracker.client.run import Run
    from tracker.domain.goals import Goal
    from tracker_keras.recording.description import Description
    from tracker_keras.recording.guard import Guard

log = logging.getLogger("tracker")

MakeObserver = Callable[["ObservedFit"], FitObserver]
"""Makes an observer of a fit whose first epoch has not begun yet."""


class ObservedFit(FitState, CallObserver):
    """Records one call of `fit()` into `run`.

    `observers` make the objects that record more of the fit. `done` is called when the record is complete, unless the
    fit died.
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
        observers: Iterable[MakeObserver] = (),
        done: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(run, call, me, guard, log_batches=log_batches)
        self._description = description
        self._done = done
        self._is_empty = True
        self._began = 0.0
        self._seconds = 0.0
        self._rates: dict[str, float] = {}
        self._keys: list[str] = []
        self._watched: tuple[str, Goal | None] | None = None
        """The metric and goal that decide the best epoch, from the last epoch's keys."""
        self._is_described = False
        self._is_put_back = False
        self._decisions = Decisions(self, self.finish)
        self._observers: list[FitObserver] = []
        for make in observers:
            with guard("preparing the record of a fit"):
                self._observers.append(make(self))
        with guard("asking plugins for observers of a fit"):
            self._observers += _observers_of_plugins(self)

    # -- a training that goes on ---------------------------------------------------------------------------------

    def put_back(self) -> None:
        """Restore what was known of the fit, after model and callbacks were restored."""
        self._is_put_back = True
        self._decisions.rates.begin()
        if self.resume_point is not None:
            self._description.resumed()
            known = self.resume_point.known
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

    # -- events of the call --------------------------------------------------------------------------------------

    @guarded("reading the rates that the training begins with")
    def train_begun(self) -> None:
        """Read the initial rates, and report what is not known of this training."""
        self._decisions.rates.begin()
        if unknown := self.call.unknown():
            kind = "a loop of its own"
            if self.call.is_keras:
                kind = "a fit()" if self.call.is_seen else "a fit() that was taken before tracker_keras was imported,"
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
            self.iterations_before = iterations(self.model)
            self._start(epoch, self.call.epochs)
        if self.batches is not None:
            self.batches.begin_epoch(self.steps - self.skipped)
        self.current_epoch = epoch
        if self.recorder is not None:
            model_is_at(self.run, self.model, self.recorder.epoch(epoch), self.recorder.number)
        self.is_counted = False
        self._rates = {}
        self._notify("begin_epoch", epoch)

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
        if self.batches is not None:
            self.batches.end_epoch(self.steps)
        rates: dict[str, float] = {}
        with self.guard("reading the learning rate"):
            rates = (self._rates or learning_rates(self.model)) | scheduled_rates(self.model)
        if (keys := list(logs)) != self._keys:
            with self.guard("reading the metrics' goals"):
                validates = self.call.validation_of(0) in ("held", "later")
                self._watched = self._description.goals(
                    self.model, keys, self.callbacks, batches=self.log_batches > 0, validates=validates
                )
                self._keys = keys
        self.recorder.log_epoch(epoch, {**logs, **rates}, seconds=self._seconds, steps=self.steps)
        self.last_epoch = self.recorder.epoch(epoch)
        self._record_improvement(epoch, logs)
        with self.guard("recording decisions"):
            self._decisions.end_epoch(epoch, logs, rates)
        if not self._is_described:
            self._describe_model(self.recorder)
        self._notify("end_epoch", epoch, {**logs, **rates})
        if not complete:
            return
        # The last planned epoch ends by itself, without a stop.
        if self.run.should_stop is True and (self.call.epochs is None or epoch + 1 < self.call.epochs):
            self._stop()
        self._notify("settle_epoch", epoch)

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
                self._notify("died")
                self.recorder.end("failed" if error is None else end_of(self.run).outcome_after(error))
        self.wrappers.leave()

    def finish(self) -> None:
        """End the record with the training's outcome."""
        self.wrappers.leave()
        if self.recorder is not None and not self.recorder.ended:
            self._notify("end")
            self.recorder.end(self._decisions.outcome())
            self._done()
        self.guard.sum_up()

    def end_batch(self, batch: int, logs: Mapping[str, Any]) -> None:
        """Handle the batch hook; may be called from several threads at once."""
        if self.batches is not None:
            self.batches.add(batch, logs)
        if self.run.should_stop is True:
            self._stop()

    # -- inside --------------------------------------------------------------------------------------------------

    def _record_improvement(self, epoch: int, logs: Mapping[str, Any]) -> None:
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
            **_resume_options(self.resume_point if epochs != 0 else None),
        )
        self._record_resume(initial_epoch)
        self._description.improvements.begin(recorder.first_epoch)
        if self.log_batches:
            at_once = getattr(self.model, "steps_per_execution", 1)
            write = BatchWriter(recorder)
            self.batches = BatchLog(self.log_batches, at_once, write, offset=recorder.step(0))
        with self.guard("describing the fit"):
            self._description.fit(
                self.model,
                {"epochs": call.epochs, "steps_per_epoch": call.steps_per_epoch, "batch_size": call.batch_size},
                self.callbacks,
            )
        self._describe_model(recorder)
        self._notify("begin", initial_epoch)

    def _record_resume(self, epoch: int) -> None:
        resume_point = self.resume_point
        if resume_point is not None and (checkpoint := resume_point.checkpoint) is not None:
            detail = {"checkpoint": checkpoint.id, "epoch": checkpoint.epoch, "step": resume_point.steps}
            self.decided("resumed", epoch, detail)

    def _describe_model(self, recorder: FitRecorder) -> None:
        """Describe the model, once a fit; a model that is not built yet is built by the end of its first epoch."""
        with self.guard("describing the model"):
            self._is_described = self._description.model(self.model, recorder.number)

    def _notify(self, what: str, *given: Any) -> None:
        for observer in self._observers:
            with self.guard(f"recording a fit ({type(observer).__name__})"):
                getattr(observer, what)(*given)

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


def _observers_of_plugins(fit: ObservedFit) -> Iterator[FitObserver]:
    settings = Settings.from_environment()
    if settings.plugins.lower() != "off" and settings.mode != "disabled" and not end_of(fit.run).disowned:
        yield from RunObserver(installed(settings), fit.run.report).ask("fit_observers", fit=fit)


def _resume_options(resume_point: ResumePoint | None) -> dict[str, int | None]:
    """Arguments of `start_fit` for a resumed training."""
    if resume_point is None:
        return {}
    checkpoint = resume_point.checkpoint
    return {"resumed_steps": resume_point.steps, "resumed_from": None if checkpoint is None else checkpoint.epoch}
