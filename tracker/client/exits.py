"""Exceptions that end a process, a thread or a task of a pool, and that no code of ours is called for.

Python keeps the exception that it reported last. For the rest some functions of the standard library are wrapped while
runs are open; each wrapper calls what was there before, and is removed after the last run.
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
"""What a pool's process calls with the exception of a task, to send it to the process that gave the task."""
_code = vars(SystemExit)["code"]
_last_exit: BaseException | None = None
_at_start: BaseException | None = None
_wrappers: list[_Wrapper] = []
_outermost: FrameType | None = None
"""The main thread's first frame: that of the script, whose variables live as long as the process anyway."""


class _Exit(SystemExit):
    """What `sys.exit` raises in the main thread while runs are open: it knows whether it ended the process.

    The interpreter asks for the code when nobody caught the exception, and is the only one who does so from no frame.
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


_Exit.__name__ = _Exit.__qualname__ = "SystemExit"  # as it is shown
_Exit.__module__ = "builtins"


class _Wrapper:
    """`make(before)` in the place of a function until it is removed."""

    def __init__(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        self._owner, self._name, self._before = owner, name, getattr(owner, name)
        self._ours = make(self._before)
        setattr(owner, name, self._ours)

    def remove(self) -> None:
        """Put back what was there; who wrapped ours since keeps it, and it only passes on."""
        if getattr(self._owner, self._name) is self._ours:
            setattr(self._owner, self._name, self._before)


def begin(note: Callable[[BaseException], None]) -> None:
    """From now on `note` hears, in its thread, of each exception that ends a thread, or a task in a pool's process."""
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
    """Whether this process was made by multiprocessing: it runs that module's finalizers, and perhaps no others."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None


def reported() -> BaseException | None:
    """The exception that the interpreter reported last.

    It is set before `sys.excepthook` is called, so it does not matter who else hooked that, or in what order.
    """
    error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    return error if isinstance(error, BaseException) else None


def of_process() -> BaseException | None:
    """The exception that ends this process, which is at its end; None for a normal end, and for one that is not known.

    In an interactive session an exception that was reported does not end the process.
    """
    if _last_exit is not None:
        return _last_exit
    error = reported()
    return None if error is _at_start or is_interactive() else error


def is_unknown() -> bool:
    """Whether the process, at its end, ends by a SystemExit that `of_process` does not know: raised, not by `sys.exit`.

    Then its script was left in the midst.
    """
    script = _outermost
    if script is None or of_process() is not None or is_interactive() or script is _first_frame():
        return False
    import dis

    return not dis.opname[script.f_code.co_code[script.f_lasti]].startswith("RETURN")


def is_interactive() -> bool:
    """Whether this is a session in which the process outlives its errors: a console or a notebook."""
    return hasattr(sys, "ps1")


def _first_frame() -> FrameType:
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
    return frame


def _exiting(before: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(before)
    def exit(*args: Any, **named: Any) -> Any:
        # In other threads Python tells SystemExit by its very class.
        if not _wrappers or threading.current_thread() is not threading.main_thread():
            return before(*args, **named)
        try:
            return before(*args, **named)
        except SystemExit as error:
            raised = error if type(error) is not SystemExit else _Exit(*error.args)
        raise raised

    return exit
