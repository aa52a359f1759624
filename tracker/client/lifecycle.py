"""How runs end when nobody ends them: at exit, by SIGTERM, in forked children.

Nothing is installed before the first run starts, and the signal handler that was there is put back after the last.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from tracker.client.journal import disown_all
from tracker.domain.words import RunStatus

if TYPE_CHECKING:
    from tracker.client.run import Run

log = logging.getLogger("tracker")

EXIT_TIMEOUT_S = 30.0
"""How long runs, all of them together, may take to ship what they have when the process ends."""
SIGTERM_TIMEOUT_S = 5.0
"""The same for a process that got SIGTERM."""
LATER_S = 5.0
"""How long what may wait may take when the process ends."""

_live: dict[int, Run] = {}
_opened_by: dict[int, int] = {}
_later: list[threading.Thread] = []
_pid = 0
_hooked = False
_installed: _Handler | None = None
_exception_at_start: BaseException | None = None


def watch(run: Run) -> None:
    """End `run` truthfully, whatever happens to this process."""
    global _hooked, _pid, _exception_at_start
    if not _hooked:
        _hooked = True
        atexit.register(_at_exit)
        os.register_at_fork(after_in_child=_in_forked_child)
    if not _live:
        _pid, _exception_at_start = os.getpid(), _uncaught()
    _live[id(run)] = run
    _opened_by[id(run)] = threading.get_ident()
    _install_handler()


def forget(run: Run) -> None:
    """`run` ended."""
    _live.pop(id(run), None)
    _opened_by.pop(id(run), None)
    if not _live:
        _restore_handler()


def open_runs(thread: int | None = None) -> list[Run]:
    """The runs that are open in this process, or those of them that this thread opened, in the order of their start."""
    return [run for key, run in list(_live.items()) if thread is None or _opened_by.get(key) == thread]


def do_later(work: Callable[[], None]) -> None:
    """Do `work` beside the training; when the process ends it gets a little time more, and is dropped."""

    def run() -> None:
        try:
            work()
        except Exception:
            log.exception("work beside the training failed")

    thread = threading.Thread(target=run, name="tracker-later", daemon=True)
    thread.start()
    _later[:] = [other for other in _later if other.is_alive()] + [thread]


def status_after(error: BaseException | None) -> RunStatus:
    """How a run ended that this exception, if any, went through."""
    if error is None:
        return "finished"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, SystemExit) and error.code in (None, 0):
        return "finished"
    if isinstance(error, GeneratorExit):
        return "finished"
    return "failed"


def _uncaught() -> BaseException | None:
    """The exception that the interpreter reported last.

    It is set before `sys.excepthook` is called, so it does not matter who else hooked that, or in what order.
    """
    error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    return error if isinstance(error, BaseException) else None


def _at_exit() -> None:
    error = _uncaught()
    # In an interactive session an exception does not end the process: it was some earlier cell's.
    if error is _exception_at_start or hasattr(sys, "ps1"):
        error = None
    _end_all(status_after(error), error, EXIT_TIMEOUT_S)
    deadline = time.monotonic() + LATER_S
    for thread in _later:
        thread.join(max(deadline - time.monotonic(), 0.0))


def _end_all(status: RunStatus, error: BaseException | None, timeout: float) -> None:
    """End every run of this process, in `timeout` seconds for all of them."""
    deadline = time.monotonic() + timeout
    for run in list(_live.values()):
        try:
            run.end(status, error, max(deadline - time.monotonic(), 0.0))
        except Exception:
            log.exception("run %s did not end as it should; its journal is kept", run.id)


def _in_forked_child() -> None:
    for run in list(_live.values()):
        run.disown()
    disown_all()
    _live.clear()
    _opened_by.clear()
    _restore_handler()


class _Handler:
    """SIGTERM's handler while runs are open; `before` is what stood there when it was installed.

    Each installation is another one: somebody who came between two of them may pass on to the first, and the second
    to them.
    """

    def __init__(self, before: Any) -> None:
        self.before = before

    def __call__(self, number: int, frame: FrameType | None) -> None:
        # A child just forked may get the signal before it has let go of its parent's runs.
        ours = os.getpid() == _pid
        if callable(self.before):
            # The handler that was there decides what happens next; if the process goes on and ends well, it was still
            # preempted.
            for run in list(_live.values()) if ours else ():
                run.preempted = True
            self.before(number, frame)
            return
        try:
            if ours:
                _end_all("preempted", None, SIGTERM_TIMEOUT_S)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)


def _install_handler() -> None:
    global _installed
    before = signal.getsignal(signal.SIGTERM)
    if _installed is not None or before is None or before is signal.SIG_IGN:
        return  # there already, set by C code, or ignored on purpose: not ours to change
    handler = _Handler(before)
    try:
        signal.signal(signal.SIGTERM, handler)
    except ValueError:
        return  # only the main thread may
    _installed = handler


def _restore_handler() -> None:
    global _installed
    # Somebody who came after us keeps their handler; ours, below it in the chain, then only passes on.
    stands: object = signal.getsignal(signal.SIGTERM)
    if _installed is not None and stands is _installed:
        try:
            signal.signal(signal.SIGTERM, _installed.before)
        except ValueError:
            return  # only the main thread may: it stays for the next run, and passes on
    _installed = None
