"""Runs that callbacks open for themselves, and when such a run is over."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tracker.api import start_run
from tracker.domain.errors import InvalidValue
from tracker.domain.limits import check_experiment, check_name

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


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """What `start_run()` is told of a run that is opened here. Raises InvalidValue for what cannot be meant."""

    experiment: str | None = None
    name: str | None = None
    tags: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.experiment is not None:
            check_experiment(self.experiment)
        if self.name is not None:
            check_name(self.name)
        if self.tags is not None and not isinstance(self.tags, Mapping):
            raise InvalidValue("tags", f"{self.tags!r}", limit="a mapping of names to values")

    def require_same(self, run: Run | None) -> None:
        """Raise InvalidValue if `run`, which was given, is another one than is described here."""
        if run is None:
            return
        for field, wanted in (("experiment", self.experiment), ("name", self.name)):
            if wanted is not None and wanted != (there := getattr(run, field)):
                raise InvalidValue(
                    field, f"{wanted!r} was given beside a run with {field} {there!r}", limit="the run's own, or none"
                )
        if self.tags is not None:
            raise InvalidValue(
                "tags", "they were given beside a run", limit="run.set_tags(…), or start_run(tags=…) without run="
            )


def open_run(owner: object, new: NewRun) -> OpenedRun:
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
    opened = OpenedRun(start_run(new.experiment, name=new.name, tags=new.tags))
    _opened.append((weakref.ref(owner), opened))
    return opened


def is_opened_here(run: Run) -> bool:
    """Whether a callback opened the run for itself."""
    return any(opened.run is run for _, opened in _opened)
