"""What stands between an error of ours and `fit()`."""

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

Hook = TypeVar("Hook", bound=Callable[..., None])


class Guard:
    """Keeps every `Exception` from training: says the first of each kind of work with its traceback, counts all.

    What fails while `run` is known is counted in its `problems` too, as "error while …". KeyboardInterrupt and
    SystemExit pass, they are not errors.
    """

    def __init__(self, run: Run | None = None) -> None:
        self.run = run
        """The run whose record is incomplete when something fails."""
        self.errors = 0
        self._said: set[str] = set()
        self._summed_up = 0

    def __getstate__(self) -> dict[str, Any]:
        """A copy belongs to the run of its own callback."""
        return vars(self) | {"run": None}

    def __call__(self, doing: str) -> _Guarded:
        """A `with` block out of which no error comes; `doing` completes "Error while …"."""
        return _Guarded(self, doing)

    def caught(self, doing: str, error: BaseException) -> None:
        """Count `error`, and say it if it is the first while `doing` this."""
        self.errors += 1
        is_first = doing not in self._said
        self._said.add(doing)
        # One of ours says in a sentence what is wrong; anything else is a bug, and needs its traceback.
        known = isinstance(error, TrackerError)
        message = f"Error while {doing}; training goes on, this is not recorded" + (f": {error}" if known else "")
        cause = None if known else error
        if not self._reported(f"error while {doing}", message, cause) and is_first:
            log.warning("%s", message, exc_info=cause)

    def _reported(self, kind: str, message: str, cause: BaseException | None) -> bool:
        """Whether the run has counted it, and said it if it was the first of its kind."""
        if self.run is None:
            return False
        try:
            self.run.report(kind, message, cause)
        except Exception:  # an object in the place of a run
            return False
        return True

    def sum_up(self) -> None:
        """Say how many errors there were that nobody was told of."""
        if self.errors > self._summed_up and self.errors > len(self._said):
            log.warning("%d errors of tracking in all; the first of each kind is told above", self.errors)
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


def guarded(doing: str) -> Callable[[Hook], Hook]:
    """Make a hook of an object with a `guard` one out of which no error comes; `doing` completes "Error while …"."""

    def keep(hook: Hook) -> Hook:
        @functools.wraps(hook)
        def safe(self: Any, *args: Any, **kwargs: Any) -> None:
            try:
                hook(self, *args, **kwargs)
            except Exception as error:
                self.guard.caught(doing, error)

        return cast(Hook, safe)

    return keep
