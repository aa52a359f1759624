"""Support of runs for `copy.copy`, `copy.deepcopy` and `pickle`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

OpenAgain = tuple[Callable[..., object], tuple[Any, ...]]
"""A function that returns the run, and its arguments, both picklable."""


class PicklableRun:
    """Mixin: a copy is the object itself; unpickling opens the run by its id, with the settings of that process."""

    _open_again: OpenAgain | None

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> OpenAgain:
        if self._open_again is None:
            raise TypeError(f"{self!r} cannot be pickled: it was not opened by tracker.start_run")
        return self._open_again
