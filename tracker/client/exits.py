"""Finds the exception that ended a process, a thread or a task of a pool, where no `with` block sees it.

Python keeps the exception that it reported last. For the other cases some functions of the standard library are wrapped
while runs are open; each wrapper calls the original function, and is removed after the last run.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_PACKED = (
    ("multiprocessing.pool", "ExceptionWithTraceback"),
    ("concurrent.futures.process", "_ExceptionWithTraceback"),
    ("joblib.externals.loky.process_executor", "_ExceptionWithTraceback"),
    ("loky.process_executor", "_ExceptionWithTraceback"),
)
"""Classes that a pool's worker calls with a task's exception, to send it to the process that submitted the task."""
_code = vars(SystemExit)["code"]
_last_exit: BaseException | None = None
_at_start: BaseException | None = None
_wrappers: list[_Wrapper] = []
_outermost: FrameType | None = None
"""The main thread's first frame: that of the script, whose variables live as long as the process, so no leak."""


class _Exit(SystemExit):
    """SystemExit of `sys.exit` in the main thread while runs are open; it detects that it ends the process.

    The interpreter reads `code` when the exception was not caught, and only then there is no calling Python frame.
    """

    @property
    def code(self) -> Any:
        global _last_exit
        try:
            sys._getframe(1)
        except ValueError:
            _last_exit = self
        return _code.__get__(self)

    @code.setter
    def code(self, code: Any) -> None:
        _code.__set__(self, code)

    def __reduce__(self) -> tuple[Any, ...]:
        return SystemExit, self.args


_Exit.__name__ = _Exit.__qualname__ = "SystemExit"  # for tracebacks and `repr`
_Exit.__module__ = "builtins"


class _Wrapper:
    """Replaces a function by `make(before)` until `remove` is called."""

    def __init__(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        self._owner, self._name, self._before = owner, name, getattr(owner, name)
        self._ours = make(self._before)
        setattr(owner, name, self._ours)

    def remove(self) -> None:
        """Restore the original function, unless other code has wrapped ours since: then ours only calls it."""
        if getattr(self._owner, self._name) is self._ours:
            setattr(self._owner, self._name, self._before)


def begin(note: Callable[[BaseException], None]) -> None:
    """Call `note`, in the same thread, for each exception that ends a thread or a task of a pool's worker."""
    global _at_start, _outermost
    if _wrappers:
        return
    _at_start = reported()
    if threading.current_thread() is threading.main_thread():
        _outermost = _first_frame()
    _wrappers.append(_Wrapper(sys, "exit", _exiting))
    if (site := sys.modules.get("_sitebuiltins")) is not None:
        _wrappers.append(_Wrapper(site.Quitter, "__call__", _exiting))  # the builtins `exit` and `quit`

    def of_thread(before: Callable[[Any], None]) -> Callable[[Any], None]:
        def hook(args: threading.ExceptHookArgs) -> None:
            if _wrappers and isinstance(args.exc_value, BaseException):
                note(args.exc_value)
            before(args)

        return hook

    def of_task(before: Callable[..., Any]) -> Callable[..., Any]:
        def packed(error: BaseException, *rest: Any) -> Any:
            if _wrappers:
                note(error)
            return before(error, *rest)

        return packed

    _wrappers.append(_Wrapper(threading, "excepthook", of_thread))
    if is_child():
        for module, name in _PACKED:
            if hasattr(sys.modules.get(module), name):
                _wrappers.append(_Wrapper(sys.modules[module], name, of_task))


def end() -> None:
    """Remove the wrappers."""
    while _wrappers:
        _wrappers.pop().remove()


def is_child() -> bool:
    """Whether multiprocessing started this process: it runs that module's finalizers, perhaps no atexit handlers."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None


def reported() -> BaseException | None:
    """The exception that the interpreter reported last.

    It is set before `sys.excepthook` is called, so other hooks and their order do not matter.
    """
    error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    return error if isinstance(error, BaseException) else None


def of_process() -> BaseException | None:
    """The exception that ends this process, called at exit; None for a normal end, or if it is not known.

    In an interactive session a reported exception does not end the process.
    """
    if _last_exit is not None:
        return _last_exit
    error = reported()
    return None if error is _at_start or is_interactive() else error


def is_unknown() -> bool:
    """Whether the process ends by a SystemExit that `of_process` does not know, one not raised by `sys.exit`.

    Called at exit. Then the script's frame did not stop at a return instruction.
    """
    script = _outermost
    if script is None or of_process() is not None or is_interactive() or script is _first_frame():
        return False
    import dis

    return not dis.opname[script.f_code.co_code[script.f_lasti]].startswith("RETURN")


def is_interactive() -> bool:
    """Whether this is a console or a notebook, in which the process survives exceptions."""
    return hasattr(sys, "ps1")


def _first_frame() -> FrameType:
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
    return frame


def _exiting(before: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(before)
    def exit(*args: Any, **named: Any) -> Any:
        # In other threads Python recognises SystemExit by its exact class.
        if not _wrappers or threading.current_thread() is not threading.main_thread():
            return before(*args, **named)
        try:
            return before(*args, **named)
        except SystemExit as error:
            raised = error if type(error) is not SystemExit else _Exit(*error.args)
        raise raised

    return exit
