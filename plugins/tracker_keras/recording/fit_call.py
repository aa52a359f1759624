"""One call of `model.fit()`: its known arguments, its observers and its end.

`instrumentation` creates these objects. A custom training loop over a `keras.callbacks.CallbackList` is a call too, of
which only the list is known.
"""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal
from weakref import ref

import keras

Event = Literal["train_begun", "epoch_begins", "epoch_begun", "epoch_ends", "epoch_ended", "train_ended", "over"]
_BEFORE = ("epoch_begins", "epoch_ends", "over")
"""Events for which observers are called in reverse order."""
_DATA = ("x", "y", "sample_weight", "class_weight", "validation_split", "val_x", "val_y", "val_sample_weight")


class CallObserver:
    """Receives the events of one call of `fit()`, on its thread; none for each batch.

    An exception in a method ends the training: methods that must not raise guard themselves.
    """

    def train_begun(self) -> None:
        """All callbacks' `on_train_begin` have returned."""

    def epoch_begins(self, epoch: int) -> None:
        """Keras' `epoch` begins, before any callback's `on_epoch_begin`."""

    def epoch_begun(self, epoch: int) -> None:
        """All callbacks' `on_epoch_begin` have returned."""

    def epoch_ends(self, epoch: int) -> None:
        """Keras' `epoch` ended, validation included, before any callback's `on_epoch_end`."""

    def epoch_ended(self, epoch: int, logs: Mapping[str, Any], *, complete: bool) -> None:
        """All callbacks' `on_epoch_end` have returned, with these `logs`.

        With `complete=False` one of them raised, and the training ends with its error.
        """

    def train_ended(self) -> None:
        """All callbacks' `on_train_end` have returned."""

    def over(self, error: BaseException | None) -> None:
        """`fit()` returned, or raised `error`."""


class FitCall:
    """One call of `fit()`, or one custom training loop.

    `is_seen`: it goes through `keras.Model.fit`, so that its end is always known. `lists` are the CallbackLists that it
    calls, the outermost first: none for a loop that calls callbacks directly. `callbacks` are all callbacks in them.
    """

    def __init__(self, model: Any, *, is_seen: bool = False) -> None:
        self.model = model
        self.is_seen = is_seen
        self.is_keras = is_seen
        """Whether Keras' own `fit()` trains, and not a custom loop."""
        self.is_over = False
        self.has_begun = False
        self.lists: list[Any] = []
        self.callbacks: tuple[Any, ...] = ()
        self.epochs: int | None = None
        self.steps_per_epoch: int | None = None
        self.batch_size: int | None = None
        self.epoch_iterator: Callable[[], Any] = lambda: None
        """Returns Keras' epoch iterator, if it exists; a weak reference, so that the user's data is not kept alive."""
        self.data: Mapping[str, Any] | None = None
        """The data of `fit()`, without the part for `validation_split`; None if unknown, or once the training began."""
        self.has_validation: bool | None = None
        self._frequency: int | Collection[int] = 1
        self._observers: list[CallObserver] = []
        self._running = 0

    # -- known facts ------------------------------------------------------------------------------------------------

    def attach(self, callback_list: Any) -> None:
        """Set the CallbackList of this call."""
        self.lists = [callback_list]
        self.callbacks = tuple(flat(callback_list))
        params = getattr(callback_list, "params", None) or {}
        self.epochs, self.steps_per_epoch = params.get("epochs"), params.get("steps")

    def learn(self, given: Mapping[str, Any]) -> None:
        """Read arguments and derived values from the local variables of Keras' `fit()`."""
        self.is_keras = True
        if (iterator := given.get("epoch_iterator")) is None:
            return
        self.epoch_iterator = ref(iterator)
        size = getattr(getattr(iterator, "data_adapter", None), "batch_size", None)
        self.batch_size = None if size is None else int(size)
        self.epochs, self.steps_per_epoch = given.get("epochs"), getattr(iterator, "num_batches", None)
        self.has_validation = given.get("validation_data") is not None
        self._frequency = given.get("validation_freq") or 1
        self.data = {key: given[key] for key in _DATA if key in given}

    def unknown(self) -> list[str]:
        """What is not known of this call, for a message."""
        is_read = self.has_validation is not None
        known = {
            "the batch size": is_read,
            "the data": is_read,
            "how many epochs are planned": self.epochs is not None,
            "how many steps an epoch has": is_read or self.steps_per_epoch is not None,
            "the other callbacks, and what they decide and save": bool(self.lists),
            "how it ends, if an exception ends it": self.is_seen,
        }
        return [what for what, is_known in known.items() if not is_known]

    def validation_of(self, epoch: int) -> Literal["held", "later", "never", "unknown"]:
        """Whether validation happens in Keras' `epoch`, in a later one, or never.

        `validation_freq` counts epochs from 1: an interval, or a list of epochs. Unknown in a custom loop.
        """
        if self.has_validation is None:
            return "unknown"
        if not self.has_validation:
            return "never"
        frequency = self._frequency

        def is_due(number: int) -> bool:
            return (number + 1) % frequency == 0 if isinstance(frequency, int) else number + 1 in frequency

        if is_due(epoch):
            return "held"
        return "later" if any(is_due(one) for one in range(epoch + 1, self.epochs or 0)) else "never"

    @property
    def is_running(self) -> bool:
        """Whether the call neither returned nor raised; for a custom loop only known while its callbacks run."""
        return not self.is_over and (self.is_seen or self._running > 0)

    @property
    def is_current(self) -> bool:
        """Whether this is the innermost call of this thread.

        True in a thread without calls, such as those in which Keras runs batch hooks on JAX.
        """
        calls = calls_here()
        return not calls or calls[-1] is self

    # -- observers --------------------------------------------------------------------------------------------------

    def observe(self, observer: CallObserver) -> None:
        """Send the events of this call to `observer` until it is over.

        For the events before the callbacks' hooks, and for the end, observers are called in reverse order.
        """
        self._observers.append(observer)

    @property
    def is_observed(self) -> bool:
        """Whether the call has observers."""
        return bool(self._observers)

    def notify(self, event: Event, *given: Any, **named: Any) -> None:
        """Send an event to all observers."""
        for observer in reversed(self._observers) if event in _BEFORE else tuple(self._observers):
            getattr(observer, event)(*given, **named)

    def end(self, error: BaseException | None) -> None:
        """End this call and all calls inside it; `error` is what it raised. A second call does nothing."""
        if self.is_over:
            return
        calls = calls_here()
        if self in calls:
            for inner in reversed(calls[calls.index(self) + 1 :]):
                inner.end(error)
        self.is_over = True
        self.notify("over", error)
        self._observers.clear()
        self.lists, self.callbacks, self.data = [], (), None

    @contextmanager
    def running(self, callback_list: Any) -> Iterator[None]:
        """A context in which a hook of this call's `callback_list` runs."""
        self._running += 1
        try:
            with hook_running(callback_list, self):
                yield
        finally:
            self._running -= 1

    def wait_for_batches(self) -> None:
        """Wait for the batch hooks that Keras runs in other threads (JAX)."""
        for one in self.lists:
            concurrent.futures.wait(tuple(getattr(one, "_futures", ())))


# -- the current call --------------------------------------------------------------------------------------------------


class _Here(threading.local):
    def __init__(self) -> None:
        self.calls: list[ref[FitCall]] = []
        """The running calls of this thread, the innermost last. An observer keeps a custom loop's call alive."""
        self.running: list[tuple[Any, FitCall | None]] = []
        """The CallbackLists whose hooks run in this thread, the innermost last, each with its call."""


_here = _Here()


def calls_here() -> list[FitCall]:
    """The running calls of this thread, the innermost last."""
    found = [call for one in _here.calls if (call := one()) is not None and not call.is_over]
    if len(found) != len(_here.calls):
        _here.calls[:] = [ref(call) for call in found]
    return found


def enter(call: FitCall) -> None:
    """Begin `call`, inside all others of this thread."""
    calls_here()
    _here.calls.append(ref(call))


@contextmanager
def hook_running(callback_list: Any, call: FitCall | None) -> Iterator[None]:
    """A context in which a hook of `callback_list` runs, of `call`, or of a separate `evaluate()` (None)."""
    _here.running.append((callback_list, call))
    try:
        yield
    finally:
        _here.running.pop()


def running() -> tuple[Any, FitCall | None] | None:
    """The CallbackList whose hook runs in this thread, and its call; None if none runs, or a batch hook."""
    return _here.running[-1] if _here.running else None


def current() -> FitCall | None:
    """The call to which the current code belongs; None outside of any."""
    if (found := running()) is not None:
        return found[1]
    calls = calls_here()
    return calls[-1] if calls else None


def begun_by(model: Any) -> FitCall:
    """The call to which a callback's `on_train_begin` belongs; a new one, if its caller is not known."""
    found = current()
    if found is None or (found.lists and running() is None):
        found = FitCall(model)
        enter(found)
    return found


def flat(callbacks: Any) -> Iterator[Any]:
    """All callbacks of what `fit(callbacks=)` takes, those in a CallbackList too."""
    for one in elements(getattr(callbacks, "callbacks", callbacks)):
        if isinstance(one, keras.callbacks.CallbackList):
            yield from flat(one)
        else:
            yield one


def elements(callbacks: Any) -> list[Any]:
    """The callbacks as Keras flattens them; empty for None."""
    return list(keras.tree.flatten(callbacks)) if callbacks else []
