"""The callback that puts a `fit()` on the record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import keras

from tracker.domain.errors import InvalidValue
from tracker_keras.board.histograms import checked_frequency, weight_histograms
from tracker_keras.board.tensorboards import TensorBoards
from tracker_keras.inputs.data import Data
from tracker_keras.record import under_way
from tracker_keras.record.copying import Copyable
from tracker_keras.record.description import Description
from tracker_keras.record.fit import ObservedFit
from tracker_keras.record.guard import Guard, guarded
from tracker_keras.record.runs import OpenedRun, open_run
from tracker_keras.record.surroundings import look_around
from tracker_keras.record.under_way import calls_us, end_interrupted, fit_under_way, say_aside
from tracker_keras.record.workers import is_chief
from tracker_keras.resuming.going_on import GoingOn
from tracker_keras.saved.checkpoints import Checkpoints

if TYPE_CHECKING:
    from tracker.client.run import Run
    from tracker_keras.record.parts import MakePart


class TrackerCallback(Copyable, keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Records every `fit()` that it is passed to: epochs, learning rate, hyperparameters, model, outcome.

    `run` is what `tracker.start_run()` returned. Without one the callback opens a run at its first `fit()`, as the
    environment says (`TRACKER_STORE` …), and keeps it: later fits and evaluations with the same callback object
    belong to it too, until the process ends or a later callback opens the next run after this one was dropped.

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
    (`tracker_keras.board.event_record`).

    `evaluate()` with this callback is the event `evaluated`, with its metrics in the detail; the validation inside
    `fit()` is in the epoch's `val_` metrics alone. In a multi-worker training only the chief records.

    When somebody asked the run to stop, the fit ends with its epoch, or with `log_batches` at once.

    A copy (`copy.deepcopy`, as KerasTuner and scikit-learn make them) records into the same run; one without a run
    opens its own. An unpickled one opens the run by its id as its first `fit()` begins.

    No error of tracking reaches the training: each kind is said once on the log `tracker`, and all are counted in
    `guard.errors`. Raises InvalidValue for arguments that cannot be meant.
    """

    def __init__(
        self,
        run: Run | None = None,
        *,
        log_batches: int = 0,
        checkpoint: Literal["epoch"] | int | None = None,
        resume: bool = False,
        histograms: int = 0,
    ) -> None:
        super().__init__()
        if run is not None and not hasattr(run, "start_fit"):
            raise InvalidValue("run", f"{run!r} is no run", limit="what tracker.start_run() returns, or None")
        if not isinstance(log_batches, int) or isinstance(log_batches, bool) or log_batches < 0:
            raise InvalidValue("log_batches", f"{log_batches!r}", limit="0 for none, or a number of optimizer steps")
        self._going_on = GoingOn(resume=resume, checkpoint=checkpoint)
        self.guard = Guard()
        self._run = run
        self._pickled_run = None
        self._opened: OpenedRun | None = None
        self._is_own = run is None
        self._log_batches = log_batches
        self._histograms = checked_frequency(histograms)
        self._description: Description | None = None
        self._fit: ObservedFit | None = None
        self._in_fit = False
        self._new_list = False
        self._is_shared = False
        self._define_batch_hook()
        if run is not None:
            with self.guard("preparing to work beside the training"):
                run.in_background(lambda: None)  # its thread starts with the first work, and who starts one waits

    @property
    def run(self) -> Run | None:
        """The run that is recorded into; None before the callback opened it."""
        return self._run

    def set_model(self, model: Any) -> None:
        """Keras builds a list of callbacks for a `fit()`, or for an `evaluate()` that is not part of one."""
        super().set_model(model)
        self._new_list = True

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """A fit begins. What an earlier one left that died, and so had no end, is forgotten here.

        Raises what keeps a training from being resumed, and nothing else.
        """
        run = self._opened_run()
        if run is not None and self._stands_aside(run):
            return
        self._leave_fit()
        self._going_on.enter(run, self._run, self.model)
        if run is not None:
            self._observe(run)
        self._going_on.begin(self, self._fit)

    @guarded
    def _leave_fit(self) -> None:
        if self._fit is not None:
            self._fit.leave()
        self._fit, self._new_list, self._is_shared = None, False, False
        self._is_in_fit(False)

    def _stands_aside(self, run: Run) -> bool:
        """Whether `run` is in the middle of a fit, which another one would end: that one is not recorded."""
        with self.guard("asking for the fit that is under way"):
            end_interrupted(run)
            if (other := fit_under_way(run)) is not None:
                if other is self._fit and calls_us(other):
                    return True  # this object is in the list twice
                say_aside(run, other)
                self._is_shared = other is self._fit
                if not self._is_shared:
                    self._leave_fit()
                    self._is_in_fit(True)
                return True
        return False

    def _is_ours(self) -> bool:
        """Whether Keras calls for the fit that is recorded, and not for another one that has this object too."""
        return not self._is_shared or (self._fit is not None and calls_us(self._fit))

    @guarded
    def _observe(self, run: Run) -> None:
        if self._description is None:
            self._description = Description(run, self.guard)
        self._fit = ObservedFit(
            run,
            self.model,
            dict(self.params or {}),
            self.params,
            look_around(self),
            self._description,
            self.guard,
            log_batches=self._log_batches,
            parts=self._parts(),
        )
        under_way.enter(run, self._fit)
        self._is_in_fit(True)

    @guarded
    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """An epoch begins."""
        self._new_list = False
        if self._fit is not None and self._is_ours():
            self._fit.begin_epoch(epoch)

    @guarded
    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """An epoch ended, validation included."""
        if self._fit is not None and self._is_ours():
            self._fit.end_epoch(epoch, logs or {})

    @guarded
    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """An evaluation ended. One that is part of a fit uses the fit's list of callbacks, and is no event."""
        if (self._in_fit and not self._new_list) or not self._is_ours():
            return
        self._new_list = False
        if (run := self._open()) is not None:
            run.log_event("evaluated", epoch=self._fit.last_epoch if self._fit else None, metrics=dict(logs or {}))

    @guarded
    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """The fit returns; Keras does not call this for one that dies."""
        if not self._is_ours():
            return
        self._is_in_fit(False)
        with self.guard("ending the fit"):
            if self._fit is not None:
                self._fit.end()
        self._going_on.leave()
        self.guard.sum_up()

    def died(self, error: BaseException) -> None:
        """The fit died of `error`: Keras tells no callback so, but who called `fit()` knows (`autolog` does)."""
        if self._run is not None and self._fit is not None and fit_under_way(self._run) is self._fit:
            return  # it was another one that has this object too
        self._is_in_fit(False)
        with self.guard("ending the fit"):
            if self._fit is not None:
                self._fit.die(self._fit.run.outcome_after(error))

    def _parts(self) -> list[MakePart]:
        """What is recorded of a fit besides its epochs and decisions."""
        return [*self._going_on.parts(self), Checkpoints, Data, TensorBoards, *weight_histograms(self._histograms)]

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
        if self._is_own and (self._run is None or self._run.status != "running"):
            self._opened = open_run(self)
            self._run, self._description = self._opened.run, None
            self._going_on.opened()
        return self._run

    def _is_in_fit(self, in_fit: bool) -> None:
        self._in_fit = in_fit
        if self._opened is not None:
            self._opened.in_fit = in_fit

    def _define_batch_hook(self) -> None:
        """Define the batch hook on this object; the class has none, so that Keras sees none where none is asked for.

        It takes the step from its argument and may run in any thread and order, and says so to Keras.
        """
        if not self._log_batches and self._going_on.every is None:
            return
        kind, base = type(self), keras.callbacks.Callback
        names = ("on_batch_end", "on_train_batch_end", "on_test_batch_end", "on_predict_batch_end")
        is_ours = all(getattr(kind, name) is getattr(base, name) for name in names)
        # A state is that after one certain step: Keras must not run ahead of it.
        self.async_safe = is_ours and self._going_on.every is None
        self.__dict__["on_train_batch_end"] = self._log_batch if is_ours else self._log_batch_and_theirs

    def _log_batch(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        try:
            if (fit := self._fit) is not None and (not self._is_shared or self._is_ours()):
                fit.end_batch(batch, logs or {})
        except Exception as error:
            self.guard.caught("logging a batch", error)

    def _log_batch_and_theirs(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._log_batch(batch, logs)
        type(self).on_train_batch_end(self, batch, logs)  # what a subclass defined
