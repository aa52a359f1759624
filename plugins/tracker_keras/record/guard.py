"""What stands between an error of ours and `fit()`."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar, cast

from tracker.domain.errors import TrackerError

log = logging.getLogger("tracker")

Hook = TypeVar("Hook", bound=Callable[..., None])


class Guard:
    """Keeps every `Exception` from training: says the first of each kind of work with its traceback, counts all.

    KeyboardInterrupt and SystemExit pass, they are not errors.
    """

    def __init__(self) -> None:
        self.errors = 0
        self._said: set[str] = set()
        self._summed_up = 0

    def __call__(self, doing: str) -> _Guarded:
        """A `with` block out of which no error comes; `doing` completes "Error while …"."""
        return _Guarded(self, doing)

    def caught(self, doing: str, error: BaseException) -> None:
        """Count `error`, and say it if it is the first while `doing` this."""
        self.errors += 1
        if doing not in self._said:
            self._said.add(doing)
            # One of ours says in a sentence what is wrong; anything else is a bug, and needs its traceback.
            known = isinstance(error, TrackerError)
            message = f"Error while {doing}; training goes on, this is not recorded" + (f": {error}" if known else "")
            log.warning("%s", message, exc_info=None if known else error)

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


def guarded(hook: Hook) -> Hook:
    """`hook` of an object with a `guard`, out of which no error comes."""
    doing = f"running the hook {hook.__name__}"

    @functools.wraps(hook)
    def safe(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            hook(self, *args, **kwargs)
        except Exception as error:
            self.guard.caught(doing, error)

    return cast(Hook, safe)
