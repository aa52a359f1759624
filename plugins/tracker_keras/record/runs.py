"""Runs that callbacks open for themselves, and when such a run is over."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracker.api import start_run

if TYPE_CHECKING:
    from tracker.client.run import Run

# A run's owner is gone long before its run is finished here; the store answers within this or the journal keeps it.
_FINISH_S = 5.0


@dataclass(eq=False)
class OpenedRun:
    """A run and whether a fit of it is under way."""

    run: Run
    in_fit: bool = False

    def leave_fit(self) -> None:
        """The fit came to its end."""
        self.in_fit = False


_opened: list[tuple[weakref.ref[object], OpenedRun]] = []


def open_run(owner: object) -> OpenedRun:
    """A new run that is over when `owner` is: at the end of the process, or when the next run is opened here.

    Until then it stays open, so that another `fit()` or `evaluate()` with the same callback belongs to it. A loop that
    makes a callback per fit leaves none behind: each run that is opened finishes those whose callback is no more. (To
    finish them from a finaliser would run their last transaction inside the garbage collector.)
    """
    for entry in list(_opened):
        was_owner, opened = entry
        if was_owner() is None:
            _opened.remove(entry)
            opened.run.finish("failed" if opened.in_fit else "finished", timeout=_FINISH_S)
    opened = OpenedRun(start_run())
    _opened.append((weakref.ref(owner), opened))
    return opened


def is_opened_here(run: Run) -> bool:
    """Whether a callback opened the run for itself."""
    return any(opened.run is run for _, opened in _opened)
