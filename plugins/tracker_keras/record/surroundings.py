"""What `fit()` knows and tells no callback: its batch size, and the callbacks beside us."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any
from weakref import ref

import keras

# on_train_begin is called by CallbackList, which is called by fit(); wrappers of either may stand between.
_DEPTH = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What was found. A loop of the user's own that calls a CallbackList has no batch size to find.

    `callbacks` are those beside the one that looked, in their order: it would hold itself otherwise, and outlive its
    last use. `last` is the one of them whose hooks are called after those of all others, `first` before, if it is one
    of them. `epoch_iterator` is a weak reference to what gives `fit()` its batches; its data is the user's.
    """

    callbacks: tuple[Any, ...] = ()
    batch_size: int | None = None
    first: Any = None
    last: Any = None
    epoch_iterator: Callable[[], Any] = lambda: None


def look_around(me: object) -> Surroundings:
    """The surroundings of the callback `me`, whose `on_train_begin` calls this.

    Keras 3 hands a callback `params` with no batch size in it, and not the list that it is in. Both are plain locals
    of the callers, which are read here and left alone.
    """
    there: list[Any] = []
    batch_size, epoch_iterator = None, None
    frame: FrameType | None = sys._getframe(1)
    for _ in range(_DEPTH):
        if frame is None:
            break
        caller = frame.f_locals.get("self")
        if isinstance(caller, keras.callbacks.CallbackList):  # the last one found has the others in it
            there = list(_flat(caller))
        if frame.f_code.co_name == "fit" and "epoch_iterator" in frame.f_locals:
            epoch_iterator = frame.f_locals["epoch_iterator"]
            batch_size = _batch_size(epoch_iterator)
            break
        frame = frame.f_back
    return Surroundings(
        callbacks=tuple(one for one in there if one is not me),
        batch_size=batch_size,
        first=there[0] if there and there[0] is not me else None,
        last=there[-1] if there and there[-1] is not me else None,
        epoch_iterator=(lambda: None) if epoch_iterator is None else ref(epoch_iterator),
    )


def _flat(callbacks: Any) -> Iterator[Any]:
    """All callbacks of a CallbackList, those of lists in it too."""
    for one in getattr(callbacks, "callbacks", ()):
        if isinstance(one, keras.callbacks.CallbackList):
            yield from _flat(one)
        else:
            yield one


def _batch_size(epoch_iterator: Any) -> int | None:
    """Samples a step as the data adapter counts them; None for data that does not say (generators)."""
    size = getattr(getattr(epoch_iterator, "data_adapter", None), "batch_size", None)
    return int(size) if size is not None else None


def calls_of_fit(frame: FrameType | None) -> Iterator[Mapping[str, Any]]:
    """The locals of each call of Keras' `fit()` at or below `frame` in its stack, the innermost first; to be read."""
    while frame is not None:
        if frame.f_code.co_name == "fit" and "epoch_iterator" in (found := frame.f_locals):
            yield found
        frame = frame.f_back


def fit_locals() -> dict[str, Any]:
    """What the `fit()` that calls us, if one does, was given and made of it; the data is the user's, not to be kept."""
    frame: FrameType | None = sys._getframe(1)
    for _ in range(_DEPTH + 6):
        if frame is None:
            break
        if frame.f_code.co_name == "fit" and "epoch_iterator" in frame.f_locals:
            return dict(frame.f_locals)
        frame = frame.f_back
    return {}
