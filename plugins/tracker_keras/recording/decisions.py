"""Records the decisions of Keras' own and users' callbacks in a fit at the moment they are made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any

import keras

from tracker_keras.recording.evaluations import model_is_at
from tracker_keras.recording.learning_rates import RateWatch
from tracker_keras.recording.stoppers import ends_epochs, stoppers

if TYPE_CHECKING:
    from tracker.domain.vocabulary import FitOutcome
    from tracker_keras.recording.fit_state import FitState


class Decisions:
    """Watches the other callbacks of `fit`, at any position in the list, and records their decisions.

    `finish` ends the record of a training that is about to raise.
    """

    def __init__(self, fit: FitState, finish: Callable[[], None]) -> None:
        self._fit = fit
        self._finish = finish
        self._model = fit.model
        self._wrappers = fit.wrappers
        self._stoppings: list[Any] = []
        self._metrics: dict[int, dict[str, Any]] = {}
        self._terminates_on_nan = False
        self._has_nan = False
        self._stopped_by: FitOutcome | None = None
        self._is_stop_recorded = False
        self._was_stopped = False
        self._callbacks = fit.callbacks
        self._lock = Lock()
        self.rates = RateWatch(fit.model, fit.decided)
        for callback in fit.callbacks:
            with fit.guard(f"watching {type(callback).__name__}"):
                self._wrap_callback(callback)

    def stop(self, by: FitOutcome) -> bool:
        """Stop the fit as Keras' own callbacks do; False if stopped. Locked: JAX runs batch hooks in threads."""
        with self._lock:
            if self._is_stopped():
                return False
            self._stopped_by = by
            self._model.stop_training = True
        return True

    def end_epoch(self, epoch: int, logs: Mapping[str, Any], rates: Mapping[str, float]) -> None:
        """Record decisions at the end of `epoch`, which was trained with these rates."""
        self.rates.end_epoch(epoch, rates)
        kept = {one.best_epoch for one in self._stoppings}
        self._metrics = {number: one for number, one in self._metrics.items() if number in kept}
        numbers = {key: value for key, value in logs.items() if isinstance(value, (int, float))}
        self._metrics[epoch] = numbers | dict(rates)
        loss = logs.get("loss")
        if not isinstance(loss, float) or math.isfinite(loss):
            self._has_nan = False
        elif not self._has_nan:
            self._has_nan = True
            self._record_nan(epoch, loss, self._terminates_on_nan)
        if self._was_stopped and not (self._has_nan and self._terminates_on_nan):
            self._record_stop(stoppers(self._callbacks), epoch)

    def epoch_ends(self, epoch: int) -> None:
        """Called before the callbacks' `on_epoch_end`: a training that is stopped now was stopped during `epoch`."""
        self._was_stopped = self._is_stopped() and self._stopped_by is None

    def train_ended(self) -> None:
        """Called after the callbacks' `on_train_end`, in which EarlyStopping restores weights."""
        for stopping in self._stoppings:
            self._restored(stopping)

    def metrics(self) -> dict[str, dict[str, Any]]:
        """The metrics of the last epoch and of those whose weights an EarlyStopping keeps, by Keras' number."""
        return {str(epoch): dict(metrics) for epoch, metrics in self._metrics.items()}

    def metrics_of(self, known: Mapping[str, Mapping[str, Any]]) -> None:
        """Restore the result of `metrics` from another process."""
        self._metrics = {int(epoch): dict(metrics) for epoch, metrics in known.items()} | self._metrics

    def outcome(self) -> FitOutcome:
        """Outcome of a fit that returned: by EarlyStopping or a request, else NaN loss, else another stop."""
        if self._stopped_by is not None:
            return self._stopped_by
        if self._has_nan:
            return "nan"
        return "stopped" if self._is_stopped() else "completed"

    # -- wrapping hooks -------------------------------------------------------------------------------------------

    def _wrap_callback(self, callback: Any) -> None:
        known = keras.callbacks
        if isinstance(callback, known.LearningRateScheduler):
            self._watch_scheduler(callback)
        elif isinstance(callback, known.ReduceLROnPlateau):
            self._watch_plateau(callback)
        elif isinstance(callback, known.EarlyStopping):
            self._watch_stopping(callback)
        elif isinstance(callback, known.TerminateOnNaN):
            self._terminates_on_nan = True
            if getattr(callback, "raise_error", False):  # only then, since the hook is called for each batch
                self._wrappers.around(callback, "on_batch_end", on_error=lambda _: self._raised())
        elif ends_epochs(callback):
            self._watch_others(callback)

    def _watch_scheduler(self, callback: Any) -> None:
        def before(epoch: int, _: Mapping[str, Any]) -> None:
            self.rates.record_changes(epoch)

        def after(epoch: int, _: Mapping[str, Any]) -> None:
            self.rates.record_changes(epoch, "LearningRateScheduler")

        self._wrappers.around(callback, "on_epoch_begin", before, after)

    def _watch_plateau(self, callback: Any) -> None:
        is_keras_own = type(callback).on_epoch_end is keras.callbacks.ReduceLROnPlateau.on_epoch_end
        may_cut = True

        def before(epoch: int, _: Mapping[str, Any]) -> None:
            nonlocal may_cut
            may_cut = not is_keras_own or callback.wait + 1 >= callback.patience
            if may_cut:  # reading a rate is the most expensive part here
                self._fit.count_steps()
                self.rates.record_changes(epoch)

        def after(epoch: int, _: Mapping[str, Any]) -> None:
            if may_cut:
                self.rates.record_changes(epoch, "ReduceLROnPlateau")

        self._wrappers.around(callback, "on_epoch_end", before, after)

    def _watch_stopping(self, callback: Any) -> None:
        was_stopped = False

        def before(*_: Any) -> None:
            nonlocal was_stopped
            was_stopped = self._is_stopped()

        def after(epoch: int, logs: Mapping[str, Any]) -> None:
            self._fit.count_steps()
            if self._is_stopped() and not was_stopped:
                self._stopped_by = "stopped_early"
            if self._is_stopped() and 0 < callback.stopped_epoch == epoch:
                self._fit.decided("early_stopped", epoch, self._stop_by(callback, logs))

        self._wrappers.around(callback, "on_epoch_end", before, after)
        self._stoppings.append(callback)

    def _watch_others(self, callback: Any) -> None:
        was_stopped = False

        def before(*_: Any) -> None:
            nonlocal was_stopped
            was_stopped = self._is_stopped()

        def after(epoch: int, _: Mapping[str, Any]) -> None:
            if self._is_stopped() and not was_stopped:
                self._fit.count_steps()
                self._record_stop(type(callback).__name__, epoch)

        self._wrappers.around(callback, "on_epoch_end", before, after)

    # -- decisions -----------------------------------------------------------------------------------------------

    def _stop_by(self, stopping: Any, logs: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "stopped_epoch": self._fit.epoch(stopping.stopped_epoch),
            "best_epoch": self._fit.epoch(stopping.best_epoch),
            "best": _plain(stopping.best),
            "patience": stopping.patience,
            "monitor": stopping.monitor,
            "value": _plain(logs.get(stopping.monitor)),
        }

    def _restored(self, stopping: Any) -> None:
        """Record restored weights: EarlyStopping restores them when the fit returns, even if it did not stop it."""
        if stopping.restore_best_weights and stopping.best_weights is not None:
            epoch = stopping.best_epoch
            detail = {"epoch": self._fit.epoch(epoch), "metrics": self._metrics.get(epoch, {})}
            self._fit.decided("weights_restored", epoch, detail)
            if self._fit.recorder is not None:
                model_is_at(self._fit.run, self._model, self._fit.epoch(epoch), self._fit.recorder.number)

    def _record_stop(self, by: str, epoch: int) -> None:
        if not self._is_stop_recorded:
            self._is_stop_recorded = True
            self._fit.decided("stopped", epoch, {"by": by})

    def _raised(self) -> None:
        """End the record when TerminateOnNaN(raise_error=True) raises, since Keras then calls no other hook."""
        self._record_nan(self._fit.current_epoch, math.nan, True)
        self._stopped_by = "nan"
        self._finish()

    def _record_nan(self, epoch: int, loss: float, terminated: bool) -> None:
        by = {"by": "TerminateOnNaN"} if terminated else {}
        self._fit.decided("nan_detected", epoch, {"metric": "loss", "value": loss, **by})

    # -- inside --------------------------------------------------------------------------------------------------

    def _is_stopped(self) -> bool:
        return bool(getattr(self._model, "stop_training", False))


def _plain(value: Any) -> Any:
    """A number of any library as a Python number."""
    return value if value is None or isinstance(value, (int, float)) else float(value)
