"""Wraps `keras.Model.fit` and the hooks of `keras.callbacks.CallbackList`, so that each call is a `FitCall`.

Installed once a process. Batch hooks are not wrapped. The position of our callback in the list, the callbacks that
`verbose` adds, and what other callbacks override then make no difference: events come before or after all callbacks.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

import keras

from tracker_keras.recording import fit_call
from tracker_keras.recording.fit_call import FitCall

Intercept = Callable[[FitCall, tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]
"""Called before each `fit()` with its arguments; returns the arguments to use."""

_lock = threading.Lock()
_intercept: Intercept | None = None
_fit: Any = None
"""Our wrapper of `keras.Model.fit`."""
_keras_fit: frozenset[Any] = frozenset()
"""The code of Keras' own `fit()`."""


def install() -> None:
    """Install the wrappers if missing; another tool may have replaced ours of `keras.Model.fit`."""
    global _fit, _keras_fit
    with _lock:
        if not _keras_fit:
            _keras_fit = frozenset(_codes()) - {None}
            _wrap_lists()
        if _fit is None or not any(one is _fit for one in _wrapped(keras.Model.fit)):
            _fit = keras.Model.fit = _seen(keras.Model.fit)


def intercept(function: Intercept | None) -> None:
    """Set the function that is called before each `fit()`; None for no function."""
    global _intercept
    _intercept = function


def callbacks_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The callbacks among the arguments of a call of `keras.Model.fit`."""
    position = _callbacks_position()
    return args[position] if len(args) > position else kwargs.get("callbacks")


def with_callbacks(
    callbacks: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments, with these callbacks."""
    position = _callbacks_position()
    if len(args) > position:
        return (*args[:position], callbacks, *args[position + 1 :]), kwargs
    return args, {**kwargs, "callbacks": callbacks}


def _callbacks_position() -> int:
    """Index of the callbacks in the `args` of `keras.Model.fit(model, *args)`; a subclass's `fit` may differ."""
    names = list(inspect.signature(keras.Model.fit).parameters)
    return names.index("callbacks") - 1 if "callbacks" in names else 5


def _seen(fit: Any) -> Any:
    @functools.wraps(fit)
    def observed_fit(model: Any, *args: Any, **kwargs: Any) -> Any:
        calls = fit_call.calls_here()
        if calls and calls[-1].is_seen and not calls[-1].lists and calls[-1].model is model:
            return fit(model, *args, **kwargs)  # wrapped twice
        call = FitCall(model, is_seen=True)
        fit_call.enter(call)
        try:
            if _intercept is not None:
                args, kwargs = _intercept(call, args, kwargs)
            result = fit(model, *args, **kwargs)
        except BaseException as error:
            call.end(error)
            raise
        call.end(None)
        return result

    return observed_fit


# -- lists of callbacks ------------------------------------------------------------------------------------------------


class _First(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Callback that is first in a list during `on_epoch_end`, and keeps the logs that all callbacks share."""

    logs: Mapping[str, Any] | None = None

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.logs = logs


def _wrap_lists() -> None:
    kind = keras.callbacks.CallbackList
    plain = {
        name: getattr(kind, name)
        for name in ("on_train_begin", "on_epoch_begin", "on_epoch_end", "on_train_end", "on_test_end")
    }

    @functools.wraps(plain["on_train_begin"])
    def on_train_begin(self: Any, logs: Any = None) -> None:
        call = _begin(self)
        if call is None:
            plain["on_train_begin"](self, logs)
            return
        with call.running(self):
            plain["on_train_begin"](self, logs)
            call.has_begun = True
            call.notify("train_begun")
        call.data = None

    @functools.wraps(plain["on_epoch_begin"])
    def on_epoch_begin(self: Any, epoch: int, logs: Any = None) -> None:
        call = _of(self)
        if call is None or not call.is_observed:
            plain["on_epoch_begin"](self, epoch, logs)
            return
        with call.running(self):
            call.notify("epoch_begins", epoch)
            plain["on_epoch_begin"](self, epoch, logs)
            call.notify("epoch_begun", epoch)

    @functools.wraps(plain["on_epoch_end"])
    def on_epoch_end(self: Any, epoch: int, logs: Any = None) -> None:
        call = _of(self)
        if call is None or not call.is_observed:
            plain["on_epoch_end"](self, epoch, logs)
            return
        with call.running(self):
            call.wait_for_batches()  # batch hooks iterate over the list of callbacks, which is changed here
            call.notify("epoch_ends", epoch)
            first, complete = _First(), False
            self.callbacks.insert(0, first)
            try:
                plain["on_epoch_end"](self, epoch, logs)
                complete = True
            finally:
                self.callbacks[:] = [one for one in self.callbacks if one is not first]
                call.notify("epoch_ended", epoch, first.logs or {}, complete=complete)

    @functools.wraps(plain["on_train_end"])
    def on_train_end(self: Any, logs: Any = None) -> None:
        call = _of(self)
        if call is None:
            plain["on_train_end"](self, logs)
            return
        with call.running(self):
            plain["on_train_end"](self, logs)
            call.notify("train_ended")
        if not call.is_seen:
            call.end(None)

    @functools.wraps(plain["on_test_end"])
    def on_test_end(self: Any, logs: Any = None) -> None:
        with fit_call.hook_running(self, _validated_by(self)):
            plain["on_test_end"](self, logs)

    for hook in (on_train_begin, on_epoch_begin, on_epoch_end, on_train_end, on_test_end):
        setattr(kind, hook.__name__, hook)


def _begin(callback_list: Any) -> FitCall | None:
    """Begin the call to which this `on_train_begin` belongs; None for a list inside another one."""
    outer = fit_call.running()
    if outer is not None and (call := outer[1]) is not None and not call.has_begun:
        call.lists.append(callback_list)
        return None
    calls = fit_call.calls_here()
    if calls and calls[-1].is_seen and not calls[-1].lists:
        call, frame = calls[-1], _keras_frame(sys._getframe(2))
    else:
        if (left := _of(callback_list)) is not None:
            left.end(None)  # a custom loop restarted with the same list without calling `on_train_end`
        call, frame = FitCall(callback_list.model), _calling_frame(callback_list, sys._getframe(2))
        fit_call.enter(call)
    call.attach(callback_list)
    if frame is not None:
        call.learn(frame.f_locals)
    return call


def _of(callback_list: Any) -> FitCall | None:
    """The call whose outermost list this is. Custom loops that began inside it are ended, since they must be over."""
    calls = fit_call.calls_here()
    for index in range(len(calls) - 1, -1, -1):
        if calls[index].lists and calls[index].lists[0] is callback_list:
            for inner in reversed(calls[index + 1 :]):
                if not inner.is_seen:
                    inner.end(None)
            return calls[index]
    return None


def _validated_by(callback_list: Any) -> FitCall | None:
    """The call whose validation uses this list; None for a separate `evaluate()`."""
    return next((call for call in fit_call.calls_here() if any(one is callback_list for one in call.lists)), None)


# -- Keras' own fit ----------------------------------------------------------------------------------------------------


def _codes() -> Iterator[Any]:
    """The code objects of the `fit()` methods of Keras' model classes, without decorators."""
    for kind in keras.Model.__mro__:
        if "fit" in vars(kind):
            yield getattr(inspect.unwrap(vars(kind)["fit"]), "__code__", None)


def _keras_frame(frame: FrameType | None) -> FrameType | None:
    """The frame of Keras' `fit()` between `frame` and our wrapper of it."""
    while frame is not None and frame.f_code not in _keras_fit and frame.f_code is not _fit.__code__:
        frame = frame.f_back
    return frame if frame is not None and frame.f_code in _keras_fit else None


def _calling_frame(callback_list: Any, frame: FrameType | None) -> FrameType | None:
    """The frame of Keras' `fit()` that called a hook of this list, if any."""
    while frame is not None and frame.f_locals.get("self") is callback_list:
        frame = frame.f_back
    return frame if frame is not None and frame.f_code in _keras_fit else None


def _wrapped(function: Any) -> Iterator[Any]:
    """A function and the functions that it wraps (`__wrapped__`), to the innermost."""
    seen: set[int] = set()
    while function is not None and id(function) not in seen:
        seen.add(id(function))
        yield function
        function = getattr(function, "__wrapped__", None)
