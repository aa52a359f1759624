"""The Keras callback that records a `fit()`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import keras

from tracker.client.run import end_of
from tracker.domain.errors import InvalidValue
from tracker_keras.checkpoint_files.checkpoints import Checkpoints
from tracker_keras.inputs.data import Data
from tracker_keras.recording import active_fits, fit_call, instrumentation
from tracker_keras.recording.active_fits import report_unrecorded, running_fit
from tracker_keras.recording.chief import is_chief
from tracker_keras.recording.description import Description
from tracker_keras.recording.evaluations import log_evaluation
from tracker_keras.recording.fit import ObservedFit
from tracker_keras.recording.guard import Guard, guarded
from tracker_keras.recording.histograms import checked_frequency, weight_histograms
from tracker_keras.recording.opened_runs import NewRun, OpenedRun, open_run
from tracker_keras.recording.pickling import PicklableCallback
from tracker_keras.resuming.resume_options import ResumeOptions

if TYPE_CHECKING:
    from tracker.client.run import Run
    from tracker_keras.recording.fit import MakeObserver
    from tracker_keras.recording.fit_call import FitCall

instrumentation.install()


class TrackerCallback(PicklableCallback, keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Records every `fit()` that it is passed to: epochs, learning rate, hyperparameters, model, outcome.

    `run` is the run that `tracker.start_run()` returned. Without one the callback opens a run at its first `fit()`,
    configured by the environment (`TRACKER_STORE` …). Later fits and evaluations with the same callback object belong
    to it too, until the process ends, or until another callback opens a run after this one was deleted.
    `experiment`, `name` and `tags` are those of the run that the callback opens.

    `log_batches=n` records the batch logs (`batch/loss` …, Keras' running means of the epoch) every n optimizer
    steps. Otherwise no batch hook is defined, so JAX' asynchronous dispatch is not affected.

    An epoch's `learning_rate` is the one that it was trained with: the rate before the epoch's first batch, or the
    last step's if the optimizer follows a LearningRateSchedule. A MultiOptimizer has a `learning_rate_<name>` each.
    An epoch's seconds include its validation.

    `resume=True`: a `fit()` of a continued run (`tracker.start_run(…, resume="auto")`) begins where the same script
    ended: weights, optimizer, learning rate, epoch, and the state of EarlyStopping, ReduceLROnPlateau,
    ModelCheckpoint and their subclasses are restored. `fit(epochs=n)` includes the epochs trained before. The state is
    saved at the end of each epoch; `checkpoint=n` saves it every n optimizer steps instead, so that a training can
    resume within an epoch if its data has the same order again. `checkpoint` without `resume` only saves the state. An
    error that prevents resuming is raised before the first epoch: the store does not answer, the model differs from
    the saved one, or the run trained several models.

    `histograms=n` records the distribution of the weights at the end of Keras' epochs 0, n, 2n …, under their paths
    (`dense/kernel`). The plugin `tensorboard` records what TensorBoard callbacks in the list write
    (`tracker_tensorboard.event_record`).

    `evaluate()` with this callback is recorded as `evaluate/<name>` at the model's last epoch, and as the event
    `evaluated`; the validation inside `fit()` is only in the epoch's `val_` metrics. In a multi-worker training only
    the chief records.

    After a stop request the fit ends with its epoch, or with `log_batches` at once.

    A copy (`copy.deepcopy`, used by KerasTuner and scikit-learn) records into the same run; a copy without a run opens
    its own. An unpickled one opens the run by its id when its first `fit()` begins.

    No error of tracking reaches the training: each kind is logged once on the logger `tracker`, and all are counted in
    `guard.errors` and `run.problems` ("error while …"). Raises InvalidValue for invalid arguments.
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
            raise InvalidValue("run", f"{run!r} is not a run", limit="what tracker.start_run() returns, or None")
        self._new_run = NewRun(experiment=experiment, name=name, tags=tags)
        self._new_run.require_same(run)
        if not isinstance(log_batches, int) or isinstance(log_batches, bool) or log_batches < 0:
            raise InvalidValue("log_batches", f"{log_batches!r}", limit="0 for none, or a number of optimizer steps")
        instrumentation.install()  # again, in case another tool has replaced the wrappers
        self._resume_options = ResumeOptions(resume=resume, checkpoint=checkpoint)
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
        """The fit reported by this object's own hooks, if no CallbackList is known."""
        self._aside: tuple[FitCall, ...] = ()
        """Fits inside or parallel to the recorded one that also have this object among their callbacks."""
        self._define_batch_hook()
        if run is not None:
            with self.guard("starting the background thread"):
                run.in_background(lambda: None)  # starts the thread now, since starting it takes time

    @property
    def run(self) -> Run | None:
        """The run of the recorded fits; None before the callback opened it."""
        return self._run

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """A fit begins. Raises only errors that prevent resuming."""
        call = fit_call.begun_by(self._model)
        run = self._opened_run()
        if run is not None and self._is_run_busy(run, call):
            return
        self._leave_fit()
        self._resume_options.enter(run, self._run, call)
        if run is not None:
            self._observe(run, call)
        self._resume_options.begin(call, self, self.guard, self._fit)
        if fit_call.running() is None:
            self._call = call
            call.notify("train_begun")

    @guarded("ending the record of the fit before")
    def _leave_fit(self) -> None:
        if self._fit is not None and not self._fit.call.is_seen:
            self._fit.call.end(None)  # a custom loop that never called `on_train_end`
        self._fit, self._call = None, None
        self._is_in_fit(False)

    def _is_run_busy(self, run: Run, call: FitCall) -> bool:
        """Whether `run` already has a running fit, so that this one is not recorded."""
        with self.guard("looking up the running fit"):
            other = running_fit(run)
            if other is None:
                return False
            is_own = self._fit is not None and self._fit.call is other.call
            if is_own and other.call is call:
                return True  # this object is in the list twice
            if is_own:
                self._aside = (*self._aside, call)
            else:
                self._leave_fit()
            report_unrecorded(run, other, call)
            return True
        return False

    @guarded("beginning the record of a fit")
    def _observe(self, run: Run, call: FitCall) -> None:
        if self._description is None:
            self._description = Description(run, self.guard)
        opened = self._opened  # not `self`: a reference to the callback would keep it alive
        self._fit = ObservedFit(
            run,
            call,
            self,
            self._description,
            self.guard,
            log_batches=self._log_batches,
            observers=self._observers(),
            done=lambda: None if opened is None else opened.leave_fit(),
        )
        active_fits.enter(run, self._fit)
        call.observe(self._fit)
        self._is_in_fit(True)

    # The events of a fit come from Keras' CallbackList. If no list is known, these hooks report them.

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """An epoch begins."""
        if (call := self._called_directly()) is not None:
            call.notify("epoch_begins", epoch)
            call.notify("epoch_begun", epoch)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """An epoch ended, validation included."""
        if (call := self._called_directly()) is not None:
            call.notify("epoch_ends", epoch)
            call.notify("epoch_ended", epoch, logs or {}, complete=True)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """The fit returns."""
        if (call := self._called_directly()) is not None:
            call.notify("train_ended")
            if not call.is_seen:
                call.end(None)

    def _called_directly(self) -> FitCall | None:
        return self._call if fit_call.running() is None else None

    @guarded("recording an evaluation")
    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """An evaluation ended. The validation of a fit uses the fit's list of callbacks, and is not recorded."""
        if fit_call.current() is not None or self._called_directly() is not None:
            return
        if (run := self._open()) is not None:
            log_evaluation(run, self._model, logs or {})

    def _observers(self) -> list[MakeObserver]:
        """Observers that record more of a fit than its epochs and decisions."""
        return [Checkpoints, Data, *weight_histograms(self._histograms), *self._resume_options.observers()]

    def _opened_run(self) -> Run | None:
        with self.guard("opening a run"):
            return self._open()
        return None

    def _open(self) -> Run | None:
        """The run, opened if necessary; None if another process is the chief."""
        if not is_chief():
            return None
        if self._pickled_run is not None:
            open_again, which = self._pickled_run
            self._run, self._pickled_run = open_again(*which), None
        if self._is_own and (self._run is None or end_of(self._run).disowned or self._run.status != "running"):
            self._opened = open_run(self, self._new_run)
            self._run, self._description = self._opened.run, None
            self._resume_options.opened()
        self.guard.run = self._run
        return self._run

    def _is_in_fit(self, in_fit: bool) -> None:
        if self._opened is not None:
            self._opened.in_fit = in_fit

    def _define_batch_hook(self) -> None:
        """Define the batch hook on this object; the class has none, so that Keras calls none without `log_batches`.

        The hook reads the step from its argument, so it may run in any thread and order: `async_safe` says so to Keras.
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
        """Whether Keras' batch hook was called for `fit`; unknown in the threads in which JAX' hooks run."""
        self._aside = tuple(call for call in self._aside if not call.is_over)
        return fit.call.is_current and (bool(fit_call.calls_here()) or not self._aside)

    def _log_batch_and_theirs(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._log_batch(batch, logs)
        type(self).on_train_batch_end(self, batch, logs)  # a subclass's hook
