"""SIGTERM and SIGHUP while runs are open: both end a process, and so its runs, as preempted."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

NUMBERS = (signal.SIGTERM, signal.SIGHUP)
_WORKERS = (("multiprocessing.pool", "worker"), ("concurrent.futures.process", "_process_worker"))
"""The functions in which a process of a pool takes one task after the other."""
_WAITING = ("multiprocessing.queues", "multiprocessing.connection", "multiprocessing.synchronize")


class Handler:
    """The handler of one signal while runs are open; `before` is what stood there when it was installed.

    Each installation is another one: somebody who came between two of them may pass on to the first, and the second
    to them.
    """

    def __init__(self, number: signal.Signals, before: Any, signals: Signals) -> None:
        self.before = before
        self._number = number
        self._signals = signals

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """End the process as the signal would have; where a handler was there before, it decides what happens."""
        # A child just forked may get the signal before it has let go of its parent's runs.
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

    `on_end` is called when the process is about to end by a signal, `on_survived` where a handler that was there before
    decides.
    """

    def __init__(self, on_end: Callable[[FrameType | None], None], on_survived: Callable[[FrameType | None], None]):
        self.pid = 0
        self.on_end = on_end
        self.on_survived = on_survived
        self._installed: dict[signal.Signals, Handler] = {}

    def install(self) -> None:
        """Handle those signals that this process neither ignores (`nohup`) nor handles in C code. Main thread only."""
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
        """Put back what was there. Who came after us keeps their handler; ours, below it, then only passes on."""
        for number, handler in list(self._installed.items()):
            stands: object = signal.getsignal(number)
            if stands is handler:
                try:
                    signal.signal(number, handler.before)
                except ValueError:
                    return  # not the main thread: it stays for the next run, and passes on
            del self._installed[number]


def waits_for_a_task(frame: FrameType | None) -> bool:
    """Whether the main thread, interrupted in `frame`, is a pool's worker that has nothing to do.

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
    """Whether the main thread, interrupted in `frame`, is a child of multiprocessing that is on its way out.

    What it was started for is over; a pool that is closed sends SIGTERM to its workers all the same.
    """
    leave = getattr(sys.modules.get("multiprocessing.util"), "_exit_function", None)
    while frame is not None:
        if leave is not None and frame.f_code is leave.__code__:
            return True
        frame = frame.f_back
    return False
