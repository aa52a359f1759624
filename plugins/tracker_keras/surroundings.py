"""What `fit()` knows and tells no callback: its batch size, and the callbacks beside us."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import keras

# on_train_begin is called by CallbackList, which is called by fit(); wrappers of either may stand between.
_DEPTH = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What was found. A loop of the user's own that calls a CallbackList has no batch size to find.

    `callbacks` are those beside the one that looked: it would hold itself otherwise, and outlive its last use.
    """

    callbacks: tuple[Any, ...] = ()
    batch_size: int | None = None


def look_around(me: object) -> Surroundings:
    """The surroundings of the callback `me`, whose `on_train_begin` calls this.

    Keras 3 hands a callback `params` with no batch size in it, and not the list that it is in. Both are plain locals
    of the callers, which are read here and left alone.
    """
    callbacks: tuple[Any, ...] = ()
    frame: FrameType | None = sys._getframe(1)
    for _ in range(_DEPTH):
        if frame is None:
            break
        caller = frame.f_locals.get("self")
        if isinstance(caller, keras.callbacks.CallbackList):  # the last one found has the others in it
            callbacks = tuple(one for one in _flat(caller) if one is not me)
        if frame.f_code.co_name == "fit" and "epoch_iterator" in frame.f_locals:
            return Surroundings(callbacks=callbacks, batch_size=_batch_size(frame.f_locals["epoch_iterator"]))
        frame = frame.f_back
    return Surroundings(callbacks=callbacks)


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
