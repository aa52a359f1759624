"""Deadlines of queries: a caller sets one for all reads in its block, and the stores keep it.

A server sets one for each request. Without one, as in a script or a command, a query has no time limit.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from tracker.domain.errors import QueryTimeout


@dataclass(slots=True)
class Deadline:
    """The deadline of a query, `seconds` after it is made."""

    seconds: float
    _end: float = field(init=False)

    def __post_init__(self) -> None:
        self._end = time.monotonic() + self.seconds

    @property
    def left_s(self) -> float:
        """Seconds that are left, 0 or less once it has passed."""
        return self._end - time.monotonic()

    def postpone(self, seconds: float) -> None:
        """Give the query more time."""
        self._end += seconds

    def error(self) -> QueryTimeout:
        """The error to raise once it has passed."""
        return QueryTimeout(self.seconds)


_current: ContextVar[Deadline | None] = ContextVar("tracker_query_deadline", default=None)


@contextmanager
def query_deadline(seconds: float | None) -> Iterator[None]:
    """Queries made in the `with` block, by this thread or task, raise QueryTimeout `seconds` from now; None: never."""
    token = _current.set(None if seconds is None else Deadline(seconds))
    try:
        yield
    finally:
        _current.reset(token)


def current_deadline() -> Deadline | None:
    """The deadline of this thread or task; None if there is none."""
    return _current.get()


def has_passed() -> bool:
    """Whether this thread or task has a deadline, and it has passed."""
    deadline = _current.get()
    return deadline is not None and deadline.left_s <= 0


def check_deadline() -> None:
    """Raise QueryTimeout if the deadline has passed: for loops over what was read."""
    deadline = _current.get()
    if deadline is not None and deadline.left_s <= 0:
        raise deadline.error()


@contextmanager
def clock_stopped_for(turn: AbstractContextManager[object]) -> Iterator[None]:
    """Hold `turn` in the `with` block; the wait for it does not count against the query's deadline."""
    began = time.monotonic()
    with turn:
        deadline = _current.get()
        if deadline is not None:
            deadline.postpone(time.monotonic() - began)
        yield
