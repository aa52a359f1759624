"""Handlers of SIGTERM and SIGHUP while runs are open: both end the process and its runs, as preempted."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

NUMBERS = (signal.SIGTERM, signal.SIGHUP)
_WORKERS = (("multiprocessing.pool", "worker"), ("concurrent.futures.process", "_process_worker"))
"""The functions in which a pool's worker runs one task after the other."""
_WAITING = ("multiprocessing.queues", "multiprocessing.connection", "multiprocessing.synchronize")


class Handler:
    """The handler of one signal while runs are open; `before` is the handler that it replaced.

    Each installation creates a new handler: other code may install its own between two of ours, which then calls our
    first one and is called by our second.
    """

    def __init__(self, number: signal.Signals, before: Any, signals: Signals) -> None:
        self.before = before
        self._number = number
        self._signals = signals

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """End the process as the signal does by default; if there was a handler before, it decides what happens."""
        # A child just forked may get the signal before it has disowned its parent's runs.
        ours = os.getpid() == self._signals.pid
        if callable(self.before):
            if ours:
                self._signals.on_survived(frame)
            self.before(number, frame)
            return
        try:
            if ours:
                self._signals.on_end(frame)
        finally:
            signal.signal(self._number, signal.SIG_DFL)
            os.kill(os.getpid(), self._number)


class Signals:
    """Installs the handlers and removes them.

    `on_end` is called when the process is about to end by a signal, `on_survived` if an earlier handler decides.
    """

    def __init__(self, on_end: Callable[[FrameType | None], None], on_survived: Callable[[FrameType | None], None]):
        self.pid = 0
        self.on_end = on_end
        self.on_survived = on_survived
        self._installed: dict[signal.Signals, Handler] = {}

    def install(self) -> None:
        """Handle the signals that this process neither ignores (`nohup`) nor handles in C code. Main thread only."""
        self.pid = os.getpid()
        for number in NUMBERS:
            before = signal.getsignal(number)
            if number in self._installed or before is None or before is signal.SIG_IGN:
                continue
            handler = Handler(number, before, self)
            try:
                signal.signal(number, handler)
            except ValueError:
                return  # not the main thread
            self._installed[number] = handler

    def remove(self) -> None:
        """Restore the previous handlers. One installed after ours stays; ours then only calls the previous one."""
        for number, handler in list(self._installed.items()):
            stands: object = signal.getsignal(number)
            if stands is handler:
                try:
                    signal.signal(number, handler.before)
                except ValueError:
                    return  # not the main thread: the handler stays for the next run, and calls the previous one
            del self._installed[number]


def waits_for_a_task(frame: FrameType | None) -> bool:
    """Whether the main thread, interrupted in `frame`, is an idle worker of a pool.

    A pool ends such workers by SIGTERM: that is their normal end.
    """
    workers = [getattr(sys.modules.get(module), name, None) for module, name in _WORKERS]
    codes = [worker.__code__ for worker in workers if worker is not None]
    called: FrameType | None = None
    while frame is not None:
        if frame.f_code in codes:
            return called is None or called.f_globals.get("__name__") in _WAITING
        called, frame = frame, frame.f_back
    return False


def is_leaving(frame: FrameType | None) -> bool:
    """Whether the main thread, interrupted in `frame`, is a child of multiprocessing that is exiting.

    Its work is done, but a pool that is closed still sends SIGTERM to its workers.
    """
    leave = getattr(sys.modules.get("multiprocessing.util"), "_exit_function", None)
    while frame is not None:
        if leave is not None and frame.f_code is leave.__code__:
            return True
        frame = frame.f_back
    return False
