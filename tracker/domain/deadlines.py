"""Deadlines of queries: whoever asks sets one for what is read below, the stores keep to it.

A server sets one for each request. Where none is set, as in a script or a command, a query takes as long as it takes.
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
    """A query has `seconds` from when this is made."""

    seconds: float
    _end: float = field(init=False)

    def __post_init__(self) -> None:
        self._end = time.monotonic() + self.seconds

    @property
    def left_s(self) -> float:
        """Seconds that are left, 0 or less once it has passed."""
        return self._end - time.monotonic()

    def postpone(self, seconds: float) -> None:
        """Give the query so much more time."""
        self._end += seconds

    def error(self) -> QueryTimeout:
        """What is raised once it has passed."""
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
    """The deadline of what this thread or task reads; None if there is none."""
    return _current.get()


def check_deadline() -> None:
    """Raise QueryTimeout if the deadline has passed: for loops over what was read."""
    deadline = _current.get()
    if deadline is not None and deadline.left_s <= 0:
        raise deadline.error()


@contextmanager
def clock_stopped_for(turn: AbstractContextManager[object]) -> Iterator[None]:
    """Hold `turn` in the `with` block; how long it was waited for is no time of the query's."""
    began = time.monotonic()
    with turn:
        deadline = _current.get()
        if deadline is not None:
            deadline.postpone(time.monotonic() - began)
        yield
