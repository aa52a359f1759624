"""Which batches are logged, and at which step, when hooks come every few steps, late, and out of order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

Write = Callable[[int, Mapping[str, Any]], None]
"""Writes the logs of a batch at a step, counted in optimizer steps done in this fit."""


class BatchLog:
    """Writes a fit's batch logs whenever a multiple of `every` optimizer steps is crossed.

    With `steps_per_execution` = N the hook comes once per N steps, with the index of the last; in an epoch's last
    call that index may lie beyond what was trained. So the latest call waits until the next one shows that it was
    full, or the end of the epoch says how many steps there were. With JAX hooks run in several threads, in any
    order: the step is taken from the call's own argument.

    `offset` is how many steps the run had before this fit, so that multiples are those of the run's steps.
    """

    def __init__(self, every: int, steps_per_execution: int, write: Write, *, offset: int = 0) -> None:
        self._every = every
        self._offset = offset
        self._size = max(1, steps_per_execution)
        self._write = write
        self._before = 0
        self._seen = 0
        self._waiting: tuple[int, Mapping[str, Any]] | None = None
        self._lock = Lock()

    @property
    def seen(self) -> int:
        """Steps of this fit up to the latest call, which may be too many only with `steps_per_execution` > 1."""
        return self._before + self._seen

    @property
    def exact(self) -> bool:
        """Whether every call stands for one step."""
        return self._size == 1

    def begin_epoch(self, steps: int) -> None:
        """An epoch begins after `steps` steps of this fit."""
        self._before, self._seen = steps, 0

    def add(self, batch: int, logs: Mapping[str, Any]) -> None:
        """The hook's call for the steps of this epoch that end with index `batch`."""
        done = batch + 1
        with self._lock:
            self._seen = max(self._seen, done)
            if self._size == 1:
                full: tuple[int, Mapping[str, Any]] | None = (done, logs)
            elif self._waiting is None or self._waiting[0] < done:
                full, self._waiting = self._waiting, (done, logs)
            else:
                full = (done, logs)
        if full is not None:
            self._log(full[0] - self._size, *full)

    def end_epoch(self, steps: int | None) -> None:
        """The epoch ended after `steps` steps of this fit; None if that is unknown."""
        with self._lock:
            last, self._waiting = self._waiting, None
        if last is not None:
            done, logs = last
            self._log(done - self._size, done if steps is None else min(done, steps - self._before), logs)

    def _log(self, start: int, end: int, logs: Mapping[str, Any]) -> None:
        before = self._offset + self._before
        if (before + end) // self._every > (before + start) // self._every:
            self._write(self._before + end, {f"batch/{key}": value for key, value in logs.items()})
