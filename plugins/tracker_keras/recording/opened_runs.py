"""Opens runs for callbacks without one, and finishes runs whose callback was deleted."""

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

# Seconds to wait for the store: a run is finished here long after its owner is gone, and the journal keeps the rest.
_FINISH_S = 5.0


@dataclass(eq=False)
class OpenedRun:
    """A run and whether a fit of it is running."""

    run: Run
    in_fit: bool = False

    def leave_fit(self) -> None:
        """The fit ended."""
        self.in_fit = False


_opened: list[tuple[weakref.ref[object], OpenedRun]] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """Arguments of `start_run()` for a run that is opened here. Raises InvalidValue for invalid ones."""

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
        """Raise InvalidValue if the user's `run` does not match these arguments."""
        if run is None:
            return
        for field, wanted in (("experiment", self.experiment), ("name", self.name)):
            if wanted is not None and wanted != (there := getattr(run, field)):
                raise InvalidValue(
                    field,
                    f"{wanted!r} was given together with a run with {field} {there!r}",
                    limit="the run's own, or none",
                )
        if self.tags is not None:
            raise InvalidValue(
                "tags",
                "they were given together with a run",
                limit="run.set_tags(…), or start_run(tags=…) without run=",
            )


def open_run(owner: object, new: NewRun) -> OpenedRun:
    """Open a run for `owner`; it ends with the process, or when a run is opened here after `owner` was deleted.

    Until then it stays open, so that another `fit()` or `evaluate()` with the same callback belongs to it. A loop with
    a callback for each fit leaves no open runs: opening a run finishes those whose callback was deleted. (A finaliser
    would run their last transaction inside the garbage collector.)
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
    """Whether a callback opened the run."""
    return any(opened.run is run for _, opened in _opened)
