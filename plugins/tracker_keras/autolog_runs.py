"""Chooses the run for a fit without a TrackerCallback, and ends the runs that were opened for it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from tracker.api import start_run
from tracker.client.ending import status_after
from tracker.client.lifecycle import open_runs
from tracker.client.run import end_of
from tracker.domain.identity import new_run_id
from tracker_keras.callback import TrackerCallback
from tracker_keras.recording.chief import is_chief
from tracker_keras.recording.opened_runs import NewRun, is_opened_here

if TYPE_CHECKING:
    from tracker.client.run import Run

_lock = threading.Lock()
_busy: list[Run] = []
"""Runs with a running fit: a run has one at a time."""
_here = threading.local()
"""`fits`: the running fits of this thread, the innermost last."""


class AutologRun:
    """A running fit; `is_own`: its run ends with it."""

    def __init__(self, callback: TrackerCallback, run: Run | None, *, is_own: bool = False) -> None:
        self.callback = callback
        self._run = run
        self._is_own = is_own
        _stack().append(self)

    def end(self, error: BaseException | None) -> None:
        """The fit returned, or raised `error`."""
        _stack().pop()
        with _lock:
            _busy[:] = [one for one in _busy if one is not self._run]
        if self._is_own and self._run is not None:
            end_of(self._run).end(status_after(error), error)


class AutologRuns:
    """Starts the recording of each fit, with the options of TrackerCallback."""

    def __init__(self, run: Run | None, new: NewRun, options: dict[str, Any]) -> None:
        self._run = run
        self._new = new
        self._options = options
        self._callbacks: dict[int, TrackerCallback] = {}
        """By `id(run)`: one callback for all fits of a run that was not opened here."""

    def follow(self, callback: TrackerCallback) -> AutologRun:
        """Register a fit that already has this callback."""
        if (run := callback.run) is not None:
            with _lock:
                _busy.append(run)
        return AutologRun(callback, run)

    def begin(self) -> AutologRun | None:
        """Start recording a fit without a TrackerCallback; None if another process is the chief."""
        if not is_chief():
            return None
        with _lock:
            run = self._open_run()
            if run is not None:
                _busy.append(run)
                return AutologRun(self._callback(run), run)
        parent = _stack()[-1].callback.run if _stack() else None
        new = self._new
        if parent is None:
            run = start_run(new.experiment, name=new.name, tags=new.tags)
        else:
            tags = {**(new.tags or {}), "mlflow.parentRunId": parent.id}
            run = start_run(new.experiment or parent.experiment, name=new.name, run_id=new_run_id(), tags=tags)
        with _lock:
            _busy.append(run)
        return AutologRun(TrackerCallback(run, **self._options), run, is_own=True)

    def _open_run(self) -> Run | None:
        """The given run, else the one that this thread opened last, else the only open one."""
        if self._run is not None:
            return self._run if self._is_free(self._run) else None
        if _stack():
            return None  # a fit inside a fit
        mine = [one for one in open_runs(threading.get_ident()) if self._is_free(one)]
        if mine:
            return mine[-1]
        there = [one for one in open_runs() if self._is_free(one)]
        return there[0] if len(there) == 1 else None

    def _is_free(self, run: Run) -> bool:
        return run.status == "running" and all(one is not run for one in _busy) and not is_opened_here(run)

    def _callback(self, run: Run) -> TrackerCallback:
        """The callback for all fits of this run; it knows what was already recorded."""
        self._callbacks = {
            key: one for key, one in self._callbacks.items() if one.run is not None and one.run.status == "running"
        }
        if id(run) not in self._callbacks:
            self._callbacks[id(run)] = TrackerCallback(run, **self._options)
        return self._callbacks[id(run)]


def _stack() -> list[AutologRun]:
    if not hasattr(_here, "fits"):
        _here.fits = []
    fits: list[AutologRun] = _here.fits
    return fits
