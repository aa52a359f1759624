"""Ends open runs at exit, on a signal, and in children of multiprocessing.

Nothing is installed before the first run starts, and the previous handlers are restored after the last. A forked child
leaves its parent's runs to the parent.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from functools import partial
from types import FrameType

from tracker.client import deferred_work, exits
from tracker.client.ending import status_after
from tracker.client.interrupts import EXIT_TIMEOUT_S, SIGNAL_TIMEOUT_S, uninterrupted
from tracker.client.journal import disown_all
from tracker.client.run import Run, end_of
from tracker.client.signals import Signals, is_leaving, waits_for_a_task
from tracker.client.values import described
from tracker.domain.vocabulary import RunStatus

log = logging.getLogger("tracker")

_live: dict[int, Run] = {}
_opened_by: dict[int, int] = {}
_died: dict[int, tuple[RunStatus, BaseException | Mapping[str, str]]] = {}
"""By run: status and error, if the thread that opened it, or a task of a pool, ended with an exception."""
_hooked = False
_finalized_pid = 0


def watch(run: Run) -> None:
    """Record the final status of `run`, however this process ends."""
    global _hooked, _finalized_pid
    if not _hooked:
        _hooked = True
        atexit.register(_at_exit)
        os.register_at_fork(after_in_child=_in_forked_child)
    if exits.is_child() and _finalized_pid != os.getpid():
        from multiprocessing.util import Finalize

        _finalized_pid = os.getpid()
        Finalize(None, _at_end_of_child, exitpriority=0)
    exits.begin(_note)
    end_of(run).on_end = partial(_forget, id(run))
    _live[id(run)] = run
    _opened_by[id(run)] = threading.get_ident()
    _signals.install()


def _forget(key: int) -> None:
    """Stop watching a run that ended."""
    _live.pop(key, None)
    _opened_by.pop(key, None)
    _died.pop(key, None)
    if not _live:
        _signals.remove()
        exits.end()


def open_runs(thread: int | None = None) -> list[Run]:
    """The open runs of this process, or only those that `thread` opened, in the order of their start."""
    return [run for key, run in list(_live.items()) if thread is None or _opened_by.get(key) == thread]


def _note(error: BaseException) -> None:
    """Remember that this thread or its task ended with `error`, without a reference to its frames."""
    status = status_after(error)
    kept = (described(error) or {}) if status == "failed" else type(error)(0)
    for run in open_runs(threading.get_ident()):
        _died[id(run)] = status, kept


def _at_exit() -> None:
    if _live and exits.is_unknown():
        log.warning(
            "the process ends by a SystemExit that sys.exit() did not raise: its status cannot be known here. Runs "
            "whose last fit() returned count as finished; use sys.exit(), or open runs by `with`"
        )
    _end_process(exits.of_process())


def _at_end_of_child() -> None:
    """Called by multiprocessing while the exception that ends the child is being handled."""
    _end_process(sys.exception())


def _end_process(error: BaseException | None) -> None:
    status = status_after(error)
    try:
        _end_all(status, error, EXIT_TIMEOUT_S)
        deferred_work.wait()
    except KeyboardInterrupt:
        with uninterrupted():
            _end_all(status, error, 0.0)


def _end_all(status: RunStatus, error: BaseException | None, timeout: float) -> None:
    """End every run of this process, within `timeout` seconds for all of them; at once after Ctrl-C."""
    deadline = time.monotonic() + timeout
    for run in list(_live.values()):
        ending: RunStatus = status
        why: BaseException | Mapping[str, str] | None = error
        if id(run) in _died:  # its thread or task ended before the process
            ending, why = _died[id(run)]
        elif status == "finished" and error is None:
            ending = _end_of_fit(run)
        try:
            end_of(run).end(ending, why, max(deadline - time.monotonic(), 0.0))
        except KeyboardInterrupt:
            deadline = 0.0
        except Exception:
            log.exception("run %s did not end as it should; its journal is kept", run.id)


def _end_of_fit(run: Run) -> RunStatus:
    """Status of a run if Python knows no error: failed or interrupted if its last fit did not return."""
    if not end_of(run).has_open_fit:
        return "finished"
    error = exits.reported() if exits.is_interactive() else None
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"


def _in_forked_child() -> None:
    for run in list(_live.values()):
        end_of(run).disown()
    disown_all()
    _live.clear()
    _opened_by.clear()
    _died.clear()
    _signals.remove()
    exits.end()


def _on_signal(frame: FrameType | None) -> None:
    if is_leaving(frame):
        error = sys.exception()  # the exception that ends the child, if any
        _end_all(status_after(error), error, SIGNAL_TIMEOUT_S)
    else:
        _end_all("finished" if waits_for_a_task(frame) else "preempted", None, SIGNAL_TIMEOUT_S)


def _on_survived_signal(frame: FrameType | None) -> None:
    """Mark the runs as preempted, even if the process goes on and ends normally."""
    if not waits_for_a_task(frame) and not is_leaving(frame):
        for run in list(_live.values()):
            end_of(run).preempted = True


_signals = Signals(_on_signal, _on_survived_signal)
