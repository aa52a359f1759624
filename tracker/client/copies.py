"""Copies of a run: `copy.copy`, `copy.deepcopy` and `pickle`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from tracker.client.run import Run

OpenAgain = tuple[Callable[..., "Run"], tuple[Any, ...]]
"""A function and what to call it with, both picklable; it returns the run."""


class Copied:
    """A copy is the object itself; an unpickled one is the run opened by its id, with its process's settings."""

    open_again: OpenAgain | None

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> OpenAgain:
        if self.open_again is None:
            raise TypeError(f"{self!r} cannot be pickled: it was not opened by tracker.start_run")
        return self.open_again
