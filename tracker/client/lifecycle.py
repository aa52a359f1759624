"""How runs end when nobody ends them: at exit, by SIGTERM, in forked children.

Nothing is installed before the first run starts, and the signal handler that was there is put back after the last.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from tracker.domain.records import RunStatus

if TYPE_CHECKING:
    from tracker.client.run import Run

SIGTERM_TIMEOUT_S = 5.0
"""How long a preempted process may take to ship what it has."""

_live: dict[int, Run] = {}
_hooked = False
_before: Any = None
_installed = False
_exception_at_start: BaseException | None = None


def watch(run: Run) -> None:
    """End `run` truthfully, whatever happens to this process."""
    global _hooked, _exception_at_start
    if not _hooked:
        _hooked = True
        atexit.register(_at_exit)
        os.register_at_fork(after_in_child=_in_forked_child)
    if not _live:
        _exception_at_start = _uncaught()
    _live[id(run)] = run
    _install_handler()


def forget(run: Run) -> None:
    """`run` ended."""
    _live.pop(id(run), None)
    if not _live:
        _restore_handler()


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
    status = status_after(error)
    for run in list(_live.values()):
        run.end(status, error if status == "failed" else None)


def _in_forked_child() -> None:
    for run in list(_live.values()):
        run.disown()
    _live.clear()
    _restore_handler()


def _install_handler() -> None:
    global _before, _installed
    if _installed:
        return
    before = signal.getsignal(signal.SIGTERM)
    if before is None or before is signal.SIG_IGN:
        return  # set by C code, or ignored on purpose: not ours to change
    try:
        signal.signal(signal.SIGTERM, _on_sigterm)
    except ValueError:
        return  # only the main thread may
    _before, _installed = before, True


def _restore_handler() -> None:
    global _installed
    if not _installed:
        return
    # Somebody who came after us keeps their handler; ours, below it in the chain, then only passes on.
    if signal.getsignal(signal.SIGTERM) is _on_sigterm:
        try:
            signal.signal(signal.SIGTERM, _before)
        except ValueError:
            return
    _installed = False


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    before: Callable[[int, FrameType | None], Any] | Any = _before
    if callable(before):
        # The handler that was there decides what happens next; if the process goes on and ends well, it was still
        # preempted.
        for run in list(_live.values()):
            run.preempted = True
        before(number, frame)
        return
    for run in list(_live.values()):
        run.end("preempted", None, SIGTERM_TIMEOUT_S)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
