"""Autologging: records every `fit()` without a callback in the user's list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import keras

from tracker_keras.autolog_runs import AutologRun, AutologRuns
from tracker_keras.callback import TrackerCallback
from tracker_keras.recording import instrumentation
from tracker_keras.recording.fit_call import CallObserver, FitCall, elements, flat
from tracker_keras.recording.guard import Guard
from tracker_keras.recording.opened_runs import NewRun

if TYPE_CHECKING:
    from tracker.client.run import Run


def autolog(
    *,
    disable: bool = False,
    run: Run | None = None,
    log_batches: int = 0,
    checkpoint: Literal["epoch"] | int | None = None,
    resume: bool = False,
    histograms: int = 0,
    experiment: str | None = None,
    name: str | None = None,
    tags: Mapping[str, Any] | None = None,
) -> None:
    """Record every `fit()` of a Keras model from now on, however its callbacks are passed; or stop recording.

    The arguments are those of TrackerCallback. Without a `run` a fit belongs to an open run: the one that its thread
    opened last, else the only one of the process. If no run is open, each fit gets its own run, which ends with the
    fit. A fit inside another fit's callback gets its own run too, with the outer run as its parent in MLflow's UI. A
    fit that already has a TrackerCallback is recorded by that one alone. `evaluate()` is not recorded.

    Call it again to change the options; with `disable=True` recording stops. Raises InvalidValue as TrackerCallback
    does.
    """
    options: dict[str, Any] = {
        "log_batches": log_batches,
        "checkpoint": checkpoint,
        "resume": resume,
        "histograms": histograms,
    }
    TrackerCallback(
        run, experiment=experiment, name=name, tags=tags, **options
    )  # raises for invalid arguments, before anything changes
    if disable:
        instrumentation.intercept(None)
        return
    recordings, guard = AutologRuns(run, NewRun(experiment=experiment, name=name, tags=tags), options), Guard()
    instrumentation.install()
    instrumentation.intercept(lambda call, args, kwargs: _record(call, args, kwargs, recordings, guard))


def _record(
    call: FitCall, args: tuple[Any, ...], kwargs: dict[str, Any], recordings: AutologRuns, guard: Guard
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of this call of `fit()`, with a TrackerCallback among its callbacks."""
    with guard("preparing the record of a fit"):
        recorded = _Recorded(recordings, guard)
        arguments = recorded.begin(call.model, args, kwargs)
        call.observe(recorded)
        return arguments
    return args, kwargs


class _Recorded(CallObserver):
    """One call of `fit()`, with our callback among the user's until the fit is over."""

    def __init__(self, recordings: AutologRuns, guard: Guard) -> None:
        self._recordings = recordings
        self._guard = guard
        self._recording: AutologRun | None = None
        self._list: Any = None

    def begin(
        self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Find the run and add the callback, unless the fit already has one."""
        given = instrumentation.callbacks_of(args, kwargs)
        theirs = next((one for one in flat(given) if isinstance(one, TrackerCallback)), None)
        self._recording = self._recordings.follow(theirs) if theirs is not None else self._recordings.begin()
        if self._recording is None or theirs is not None:
            return args, kwargs
        ours = self._recording.callback
        if isinstance(given, keras.callbacks.CallbackList):  # Keras uses this list itself
            self._list = given
            ours.set_params(given.params)
            ours.set_model(model)
            given.callbacks.append(ours)
            return args, kwargs
        return instrumentation.with_callbacks([*elements(given), ours], args, kwargs)

    def over(self, error: BaseException | None) -> None:
        """The fit returned, or raised `error`."""
        if (recording := self._recording) is None:
            return
        with self._guard("ending the record of a fit"):
            if self._list is not None:
                self._list.callbacks[:] = [one for one in self._list.callbacks if one is not recording.callback]
            recording.end(error)
