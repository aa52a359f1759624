"""Keeps errors of Tracker out of `fit()`."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tracker.domain.errors import TrackerError

if TYPE_CHECKING:
    from tracker.client.run import Run

log = logging.getLogger("tracker")

Method = TypeVar("Method", bound=Callable[..., None])


class Guard:
    """Catches every `Exception`: logs the first of each kind of work, with its traceback if it is a bug; counts all.

    While `run` is known, failures are also counted in its `problems`, as "error while …". KeyboardInterrupt and
    SystemExit are not errors and are not caught.
    """

    def __init__(self, run: Run | None = None) -> None:
        self.run = run
        """The run whose record is incomplete when something fails."""
        self.errors = 0
        self._said: set[str] = set()
        self._summed_up = 0

    def __getstate__(self) -> dict[str, Any]:
        """State for copies, without the run: a copy belongs to its own callback's run."""
        return vars(self) | {"run": None}

    def __call__(self, doing: str) -> _Guarded:
        """A `with` block that catches errors; `doing` completes "Error while …"."""
        return _Guarded(self, doing)

    def caught(self, doing: str, error: BaseException) -> None:
        """Count `error`, and log it if it is the first while `doing` this."""
        self.errors += 1
        is_first = doing not in self._said
        self._said.add(doing)
        # A TrackerError's message explains the problem; any other error is a bug and needs its traceback.
        known = isinstance(error, TrackerError)
        message = f"Error while {doing}; training goes on, this is not recorded" + (f": {error}" if known else "")
        cause = None if known else error
        if not self._reported(f"error while {doing}", message, cause) and is_first:
            log.warning("%s", message, exc_info=cause)

    def _reported(self, kind: str, message: str, cause: BaseException | None) -> bool:
        """Report to the run, which counts the error and logs the first of its kind; False without a run."""
        if self.run is None:
            return False
        try:
            self.run.report(kind, message, cause)
        except Exception:  # an object that only looks like a run
            return False
        return True

    def sum_up(self) -> None:
        """Log the number of errors, if some were not logged."""
        if self.errors > self._summed_up and self.errors > len(self._said):
            log.warning("%d errors of tracking in all; the first of each kind is logged above", self.errors)
        self._summed_up = self.errors


class _Guarded:
    def __init__(self, guard: Guard, doing: str) -> None:
        self._guard = guard
        self._doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if not isinstance(error, Exception):
            return False
        self._guard.caught(self._doing, error)
        return True


def guarded(doing: str) -> Callable[[Method], Method]:
    """Decorator for a hook of an object with a `guard`, which catches errors; `doing` completes "Error while …"."""

    def keep(hook: Method) -> Method:
        @functools.wraps(hook)
        def safe(self: Any, *args: Any, **kwargs: Any) -> None:
            try:
                hook(self, *args, **kwargs)
            except Exception as error:
                self.guard.caught(doing, error)

        return cast(Method, safe)

    return keep
