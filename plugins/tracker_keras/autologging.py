"""Every `fit()` on the record, without a callback in any list."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import keras

from tracker_keras.autolog_runs import Recordings
from tracker_keras.callback import TrackerCallback
from tracker_keras.record.guard import Guard

if TYPE_CHECKING:
    from tracker.client.run import Run

Fit = Callable[..., Any]
_POSITION = 5
"""Where `callbacks` stands among the arguments of `fit(x, y, batch_size, epochs, verbose, callbacks)`."""

_lock = threading.Lock()
_patch: _Patch | None = None


def autolog(
    *,
    disable: bool = False,
    run: Run | None = None,
    log_batches: int = 0,
    checkpoint: Literal["epoch"] | int | None = None,
    resume: bool = False,
    histograms: int = 0,
) -> None:
    """Record every `fit()` of a Keras model from now on, whatever way its callbacks are passed; or stop doing so.

    The arguments are those of TrackerCallback. Without a `run` a fit belongs to the run that is open: the one that its
    own thread opened last, else the only one of the process. If none is, each fit has a run of its own, which ends as
    the fit does. A fit inside another one's callback has a run of its own too, with the other as its parent in
    MLflow's pages. A fit whose callbacks have a TrackerCallback already is left to it. `evaluate()` is not recorded.

    It may be called again, to change the options. With `disable=True` `keras.Model.fit` is what it was before; if
    somebody else has put theirs over ours since, ours stays below it and only passes on. Raises InvalidValue as
    TrackerCallback does.
    """
    global _patch
    options: dict[str, Any] = {
        "log_batches": log_batches,
        "checkpoint": checkpoint,
        "resume": resume,
        "histograms": histograms,
    }
    TrackerCallback(run, **options)  # says what cannot be meant, before anything changes
    with _lock:
        if disable:
            if _patch is not None and _patch.take_off():
                _patch = None
            return
        if _patch is None or not _patch.is_reached():
            _patch = _Patch()
        _patch.recordings = Recordings(run, options)


class _Patch:
    """`keras.Model.fit` with ours around it; silent while `recordings` is None."""

    def __init__(self) -> None:
        self.recordings: Recordings | None = None
        self._before: Any = vars(keras.Model).get("fit")
        self._around: Fit = _recorded(keras.Model.fit, self)
        keras.Model.fit = self._around

    def is_reached(self) -> bool:
        """Whether ours is on top, or below wrappers that say what they wrap."""
        return any(one is self._around for one in _wrapped(keras.Model.fit))

    def take_off(self) -> bool:
        """Record nothing more; True if `keras.Model.fit` could be put back, False if others stand above."""
        self.recordings = None
        if vars(keras.Model).get("fit") is not self._around:
            return False
        if self._before is None:
            del keras.Model.fit  # it is inherited from the backend's trainer
        else:
            keras.Model.fit = self._before
        return True


def _recorded(fit: Fit, patch: _Patch) -> Fit:
    """`fit` with a TrackerCallback among its callbacks while the patch records."""
    guard = Guard()
    position = _position(fit)

    @functools.wraps(fit)
    def recorded(model: Any, *args: Any, **kwargs: Any) -> Any:
        recordings, call = patch.recordings, None
        if recordings is not None:
            with guard("preparing the record of a fit"):
                call = _Call(model, position, args, kwargs)
                call.begin(recordings)
        if call is None or call.recording is None:
            return fit(model, *args, **kwargs)
        error: BaseException | None = None
        try:
            return fit(model, *call.args, **call.kwargs)
        except BaseException as raised:
            error = raised
            raise
        finally:
            call.end(error, guard)

    return recorded


class _Call:
    """One call of `fit()`, with our callback among its own."""

    def __init__(self, model: Any, position: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.args = args
        self.kwargs = kwargs
        self.recording: Any = None
        self._model = model
        self._position = position
        self._list: Any = None

    def begin(self, recordings: Recordings) -> None:
        """Find the run and put the callback in; `recording` stays None for a fit that is none of ours."""
        is_positional = len(self.args) > self._position
        given = self.args[self._position] if is_positional else self.kwargs.get("callbacks")
        there = list(_flat(given))
        theirs = next((one for one in there if isinstance(one, TrackerCallback)), None)
        self.recording = recordings.follow(theirs) if theirs is not None else recordings.begin()
        if self.recording is None or theirs is not None:
            return
        ours = self.recording.callback
        if isinstance(given, keras.callbacks.CallbackList):  # Keras takes it as it is
            self._list = given
            ours.set_params(given.params)
            ours.set_model(self._model)
            given.callbacks.append(ours)
        elif is_positional:
            before, after = self.args[: self._position], self.args[self._position + 1 :]
            self.args = (*before, [*_elements(given), ours], *after)
        else:
            self.kwargs = {**self.kwargs, "callbacks": [*_elements(given), ours]}

    def end(self, error: BaseException | None, guard: Guard) -> None:
        """The fit returned, or died of `error`."""
        with guard("ending the record of a fit"):
            if self._list is not None:
                self._list.callbacks[:] = [one for one in self._list.callbacks if one is not self.recording.callback]
            self.recording.end(error)


def _elements(callbacks: Any) -> list[Any]:
    """The callbacks as Keras flattens them; nothing for None and what is empty."""
    return list(keras.tree.flatten(callbacks)) if callbacks else []


def _flat(callbacks: Any) -> Iterator[Any]:
    """All of them, those in a CallbackList too."""
    for one in _elements(getattr(callbacks, "callbacks", callbacks)):
        if isinstance(one, keras.callbacks.CallbackList):
            yield from _flat(one)
        else:
            yield one


def _position(fit: Fit) -> int:
    """At which place of `fit(model, *args)` the callbacks are."""
    names = list(inspect.signature(fit).parameters)
    return names.index("callbacks") - 1 if "callbacks" in names else _POSITION


def _wrapped(function: Any) -> Iterator[Any]:
    """A function and what it says it wraps, to the innermost."""
    seen: set[int] = set()
    while function is not None and id(function) not in seen:
        seen.add(id(function))
        yield function
        function = getattr(function, "__wrapped__", None)
