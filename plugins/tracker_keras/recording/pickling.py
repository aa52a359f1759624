"""Copying of a TrackerCallback: `copy.deepcopy` (KerasTuner, scikit-learn's `clone`) and `pickle` (other processes)."""

from __future__ import annotations

import copy
from types import MethodType
from typing import TYPE_CHECKING, Any, Self

from tracker_keras.recording.method_wrapper import MethodWrapper

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracker.client.run import Run

# State of the running fit, which a copy does not share.
_OF_A_FIT: dict[str, Any] = {
    "_model": None,
    "params": None,
    "_fit": None,
    "_description": None,
    "_opened": None,
    "_call": None,
    "_aside": (),
}


class PicklableCallback:
    """Mixin: a copy has the original's settings and its run, the same object or, if unpickled, opened by its id.

    An unpickled callback opens the run when its first `fit()` begins, so that loading a file touches no run. One
    without a run opens its own.
    """

    _run: Run | None
    _pickled_run: tuple[Callable[..., Run], tuple[Any, ...]] | None

    def _settings(self) -> dict[str, Any]:
        hooks = (MethodWrapper, MethodType)
        return {key: value for key, value in vars(self).items() if not isinstance(value, hooks)} | _OF_A_FIT

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__setstate__(copy.deepcopy(self._settings(), memo))
        return copied

    def __getstate__(self) -> dict[str, Any]:
        state = self._settings()
        if self._run is not None:
            state |= {"_run": None, "_pickled_run": self._run.__reduce__()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._define_batch_hook()

    def _define_batch_hook(self) -> None:
        """Define hooks on the object again: those of the original are bound to the original."""
