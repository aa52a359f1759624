"""The callback that puts a `fit()` on the record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import keras

from tracker.domain.errors import InvalidValue
from tracker_keras.checkpoint_files.checkpoints import Checkpoints
from tracker_keras.inputs.data import Data
from tracker_keras.record import active_fits, fit_call, instrumentation
from tracker_keras.record.active_fits import fit_under_way, say_aside
from tracker_keras.record.copying import Copyable
from tracker_keras.record.description import Description
from tracker_keras.record.evaluations import log_evaluation
from tracker_keras.record.fit import ObservedFit
from tracker_keras.record.guard import Guard, guarded
from tracker_keras.record.runs import NewRun, OpenedRun, open_run
from tracker_keras.record.workers import is_chief
from tracker_keras.resuming.resume_options import GoingOn
from tracker_keras.tensorboard_events.histograms import checked_frequency, weight_histograms
from tracker_keras.tensorboard_events.tensorboards import TensorBoards

if TYPE_CHECKING:
    from tracker.client.run import Run
    from tracker_keras.record.fit_call import FitCall
    from tracker_keras.record.parts import MakePart

instrumentation.install()


class TrackerCallback(Copyable, keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Records every `fit()` that it is passed to: epochs, learning rate, hyperparameters, model, outcome.

    `run` is what `tracker.start_run()` returned. Without one the callback opens a run at its first `fit()`, as the
    environment says (`TRACKER_STORE` …), and keeps it: later fits and evaluations with the same callback object
    belong to it too, until the process ends or a later callback opens the next run after this one was dropped.
    `experiment`, `name` and `tags` are those of the run that the callback opens.

    `log_batches=n` records the batch logs (`batch/loss` …; Keras gives running means of the epoch) whenever n
    optimizer steps are done. Otherwise no batch hook is defined, and JAX' asynchronous dispatch is as it was.

    An epoch's `learning_rate` is the one that it was trained with: as it stood before the epoch's first batch, or the
    last step's where the optimizer follows a LearningRateSchedule. A MultiOptimizer has `learning_rate_<name>` each.
    Seconds are from the begin of the epoch to its end, validation included.

    `resume=True`: a `fit()` of a run that goes on (`tracker.start_run(…, resume="auto")`) begins where the same script
    was when it died: weights, optimizer, learning rate, epoch, and what EarlyStopping, ReduceLROnPlateau,
    ModelCheckpoint and their subclasses knew. `fit(epochs=n)` counts what was trained before. The state is saved at
    the end of each epoch; `checkpoint=n` saves it every n optimizer steps instead, and lets a training go on in the
    middle of an epoch where its data comes in the same order again. `checkpoint` without `resume` only saves it. What
    keeps a training from being resumed is raised at once, before its first epoch: a store that does not answer, a
    model that is not the one that was saved, a run that trained several.

    `histograms=n` records how the weights are spread at the end of Keras' epochs 0, n, 2n …, under their paths
    (`dense/kernel`). What a TensorBoard callback in the list writes is recorded too
    (`tracker_keras.tensorboard_events.event_record`).

    `evaluate()` with this callback is recorded as `evaluate/<name>` at the epoch that the model was at, and as the
    event `evaluated`; the validation inside `fit()` is in the epoch's `val_` metrics alone. In a multi-worker training
    only the chief records.

    When somebody asked the run to stop, the fit ends with its epoch, or with `log_batches` at once.

    A copy (`copy.deepcopy`, as KerasTuner and scikit-learn make them) records into the same run; one without a run
    opens its own. An unpickled one opens the run by its id as its first `fit()` begins.

    No error of tracking reaches the training: each kind is said once on the log `tracker`, and all are counted in
    `guard.errors` and `run.problems` ("error while …"). Raises InvalidValue for arguments that cannot be meant.
    """

    def __init__(
        self,
        run: Run | None = None,
        *,
        log_batches: int = 0,
        checkpoint: Literal["epoch"] | int | None = None,
        resume: bool = False,
        histograms: int = 0,
        experiment: str | None = None,
        name: str | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if run is not None and not hasattr(run, "start_fit"):
            raise InvalidValue("run", f"{run!r} is no run", limit="what tracker.start_run() returns, or None")
        self._new_run = NewRun(experiment=experiment, name=name, tags=tags)
        self._new_run.require_same(run)
        if not isinstance(log_batches, int) or isinstance(log_batches, bool) or log_batches < 0:
            raise InvalidValue("log_batches", f"{log_batches!r}", limit="0 for none, or a number of optimizer steps")
        instrumentation.install()  # again, where another tool has put it aside
        self._going_on = GoingOn(resume=resume, checkpoint=checkpoint)
        self.guard = Guard(run)
        self._run = run
        self._pickled_run = None
        self._opened: OpenedRun | None = None
        self._is_own = run is None
        self._log_batches = log_batches
        self._histograms = checked_frequency(histograms)
        self._description: Description | None = None
        self._fit: ObservedFit | None = None
        self._call: FitCall | None = None
        """The fit that this object's own hooks tell of, where no list of callbacks is known."""
        self._aside: tuple[FitCall, ...] = ()
        """Fits inside or beside the one that is recorded, which have this object among their callbacks too."""
        self._define_batch_hook()
        if run is not None:
            with self.guard("preparing to work beside the training"):
                run.in_background(lambda: None)  # its thread starts with the first work, and who starts one waits

    @property
    def run(self) -> Run | None:
        """The run that is recorded into; None before the callback opened it."""
        return self._run

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """A fit begins. Raises what keeps a training from being resumed, and nothing else."""
        call = fit_call.begun_by(self._model)
        run = self._opened_run()
        if run is not None and self._stands_aside(run, call):
            return
        self._leave_fit()
        self._going_on.enter(run, self._run, call)
        if run is not None:
            self._observe(run, call)
        self._going_on.begin(call, self, self.guard, self._fit)
        if fit_call.running() is None:
            self._call = call
            call.tell("train_begun")

    @guarded("ending the record of the fit before")
    def _leave_fit(self) -> None:
        if self._fit is not None and not self._fit.call.is_seen:
            self._fit.call.end(None)  # a loop that never said that it was over
        self._fit, self._call = None, None
        self._is_in_fit(False)

    def _stands_aside(self, run: Run, call: FitCall) -> bool:
        """Whether `run` is in the middle of a fit, which another one would end: that one is not recorded."""
        with self.guard("asking for the fit that is under way"):
            other = fit_under_way(run)
            if other is None:
                return False
            if other is not self._fit:
                self._leave_fit()
            elif other.call is call:
                return True  # this object is in the list twice
            else:
                self._aside = (*self._aside, call)
            say_aside(run, other, call)
            return True
        return False

    @guarded("beginning the record of a fit")
    def _observe(self, run: Run, call: FitCall) -> None:
        if self._description is None:
            self._description = Description(run, self.guard)
        opened = self._opened  # not the callback itself, which would outlive its last use
        self._fit = ObservedFit(
            run,
            call,
            self,
            self._description,
            self.guard,
            log_batches=self._log_batches,
            parts=self._parts(),
            done=lambda: None if opened is None else opened.leave_fit(),
        )
        active_fits.enter(run, self._fit)
        call.observe(self._fit)
        self._is_in_fit(True)

    # Keras' lists of callbacks tell what happens in a fit. Where no list is known, these hooks do.

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """An epoch begins."""
        if (call := self._called_directly()) is not None:
            call.tell("epoch_begins", epoch)
            call.tell("epoch_begun", epoch)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """An epoch ended, validation included."""
        if (call := self._called_directly()) is not None:
            call.tell("epoch_ends", epoch)
            call.tell("epoch_ended", epoch, logs or {}, complete=True)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """The fit returns."""
        if (call := self._called_directly()) is not None:
            call.tell("train_ended")
            if not call.is_seen:
                call.end(None)

    def _called_directly(self) -> FitCall | None:
        return self._call if fit_call.running() is None else None

    @guarded("recording an evaluation")
    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """An evaluation ended. One that is part of a fit uses the fit's list of callbacks, and is no event."""
        if fit_call.current() is not None or self._called_directly() is not None:
            return
        if (run := self._open()) is not None:
            log_evaluation(run, self._model, logs or {})

    def _parts(self) -> list[MakePart]:
        """What is recorded of a fit besides its epochs and decisions."""
        return [Checkpoints, Data, TensorBoards, *weight_histograms(self._histograms), *self._going_on.parts()]

    def _opened_run(self) -> Run | None:
        with self.guard("opening a run"):
            return self._open()
        return None

    def _open(self) -> Run | None:
        """The run, opened if need be; None where another process keeps the record."""
        if not is_chief():
            return None
        if self._pickled_run is not None:
            open_again, which = self._pickled_run
            self._run, self._pickled_run = open_again(*which), None
        if self._is_own and (self._run is None or self._run.disowned or self._run.status != "running"):
            self._opened = open_run(self, self._new_run)
            self._run, self._description = self._opened.run, None
            self._going_on.opened()
        self.guard.run = self._run
        return self._run

    def _is_in_fit(self, in_fit: bool) -> None:
        if self._opened is not None:
            self._opened.in_fit = in_fit

    def _define_batch_hook(self) -> None:
        """Define the batch hook on this object; the class has none, so that Keras sees none where none is asked for.

        It takes the step from its argument and may run in any thread and order, and says so to Keras.
        """
        if not self._log_batches:
            return
        kind, base = type(self), keras.callbacks.Callback
        names = ("on_batch_end", "on_train_batch_end", "on_test_batch_end", "on_predict_batch_end")
        is_ours = all(getattr(kind, name) is getattr(base, name) for name in names)
        self.async_safe = is_ours
        self.__dict__["on_train_batch_end"] = self._log_batch if is_ours else self._log_batch_and_theirs

    def _log_batch(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        try:
            if (fit := self._fit) is not None and (not self._aside or self._is_of(fit)):
                fit.end_batch(batch, logs or {})
        except Exception as error:
            self.guard.caught("logging a batch", error)

    def _is_of(self, fit: ObservedFit) -> bool:
        """Whether the batch that Keras calls for is one of `fit`; the threads in which JAX' hooks run do not say."""
        self._aside = tuple(call for call in self._aside if not call.is_over)
        return fit.call.is_current and (bool(fit_call.calls_here()) or not self._aside)

    def _log_batch_and_theirs(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._log_batch(batch, logs)
        type(self).on_train_batch_end(self, batch, logs)  # what a subclass defined
