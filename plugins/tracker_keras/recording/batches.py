"""Logs of batches at the right steps, although hooks may be called every few steps, late, and out of order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from threading import Lock
from time import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracker.client.fit_recorder import FitRecorder

_GATHER_S = 0.1
"""Seconds that batch logs are collected before they are written."""
Write = Callable[[int, Mapping[str, Any]], None]
"""Writes the logs of a batch at a step, counted in optimizer steps done in this fit."""


class BatchLog:
    """Writes a fit's batch logs whenever a multiple of `every` optimizer steps is crossed.

    With `steps_per_execution` = N Keras calls the hook once per N steps, with the index of the last; in an epoch's last
    call that index may exceed the trained steps. So the latest call is held until the next one shows that it was full,
    or the end of the epoch gives the number of steps. With JAX hooks run in several threads, in any order: the step is
    taken from the call's argument.

    `offset` is the number of steps of the run before this fit, so that multiples are of the run's steps.
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
        """Steps of this fit up to the latest call; may be too many only with `steps_per_execution` > 1."""
        return self._before + self._seen

    @property
    def exact(self) -> bool:
        """Whether every call is for one step."""
        return self._size == 1

    def begin_epoch(self, steps: int) -> None:
        """An epoch begins after `steps` steps of this fit."""
        self._before, self._seen = steps, 0

    def add(self, batch: int, logs: Mapping[str, Any]) -> None:
        """The hook's call for the steps of this epoch that end with index `batch`."""
        done = batch + 1
        with self._lock:
            if done > self._seen:
                self._seen = done
            if self._size > 1:
                if self._waiting is None or self._waiting[0] < done:
                    full, self._waiting = self._waiting, (done, logs)
                else:
                    full = (done, logs)
        if self._size == 1:  # a faster path for the common case
            end = self._before + done
            if (self._offset + end) % self._every == 0:
                self._write(end, logs)
            return
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
            self._write(self._before + end, logs)


class BatchWriter:
    """Writes a fit's batch logs into the run as `batch/<key>`, in the background, so that a step costs microseconds.

    Code on the training thread runs with cold CPU caches and takes ten times as long as elsewhere. So the training
    thread only appends the logs to a list, and the run's background thread writes those of 0.1 s together. Until then
    they are only in memory.
    """

    def __init__(self, recorder: FitRecorder) -> None:
        self._recorder = recorder
        self._waiting: deque[tuple[int, float, dict[str, Any]]] = deque()
        self._is_due = False

    def __call__(self, step: int, logs: Mapping[str, Any]) -> None:
        """Add the logs after `step` optimizer steps of the fit; from any thread."""
        self._recorder.reached(step)
        self._waiting.append((step, time(), {**logs}))
        if not self._is_due:
            self._is_due = True
            if self._recorder.run_recorder.in_background(self._write, pause=_GATHER_S).cancelled():  # the run is over
                self._waiting.clear()
                self._is_due = False

    def _write(self) -> None:
        self._is_due = False  # before the list is emptied: later logs schedule a new write
        recorder, log = self._recorder, self._recorder.run_recorder.points
        while self._waiting:
            step, seconds, logs = self._waiting.popleft()
            metrics = {f"batch/{key}": value for key, value in logs.items()}
            log("step", recorder.step(step), metrics, fit=recorder.number, ms=int(seconds * 1000))
