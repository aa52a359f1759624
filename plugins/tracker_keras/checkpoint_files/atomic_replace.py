"""Atomic replacement of a file, which takes its caller no longer than writing the file."""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import functools
import itertools
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

log = logging.getLogger("tracker")

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_numbers = itertools.count()
_lock = threading.Lock()
_replaced: dict[Path, list[Path]] = {}
"""By path: replaced files, kept until the new file is synced to disk."""
_spares: dict[Path, Path | None] = {}
"""By path, with `keeps_spare`: the replaced file, to be overwritten next. Allocating new pages for a file takes up to
as long as writing it."""


@contextmanager
def replacing(path: Path, *, keeps_spare: bool = False) -> Iterator[Path]:
    """Yield a temporary path next to `path`, with its suffix; its file replaces `path` if the block does not raise.

    At every moment either the old file or the new one is complete, even if the process is killed. The old one is
    deleted in the background, once the new one is synced to disk: both take as long as writing it did.

    With `keeps_spare` the old file is kept instead, hidden, until `release`. It is overwritten by the file after next,
    if no process has it open and it has no other name.
    """
    with _lock:
        spare = _spares.pop(path, None)
        if keeps_spare:
            _spares[path] = None
    beside = _temporary(path) if spare is None or not _is_ours_alone(spare) else spare
    if spare is not None and spare != beside:
        delete(spare)
    try:
        yield beside
        with suppress(FileNotFoundError):
            beside.chmod(path.stat().st_mode & 0o7777)
        if not _exchange(beside, path):
            os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    with _lock:
        is_settling = path in _replaced
        _replaced.setdefault(path, []).append(beside)
    if not is_settling:
        threading.Thread(target=_settle, args=(path,), name="tracker-settle").start()


def release(path: Path) -> None:
    """Delete the spare file of `path`, since no replacement will follow soon."""
    with _lock:
        spare = _spares.pop(path, None)
    if spare is not None:
        delete(spare)


def sweep(folder: Path) -> None:
    """Remove temporary files that killed processes of this host left in `folder`."""
    for left in folder.glob(f".*{_mark()}*"):
        pid = left.name.rpartition(_mark())[2].partition("-")[0]
        if not _lives(pid):
            delete(left)


def delete(path: str | Path) -> None:
    """Delete a file; a failure is logged."""
    try:
        os.remove(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        log.warning("ModelCheckpoint could not delete %s: %s", path, error)


def _settle(path: Path) -> None:
    """Sync `path` to disk and delete the files that it replaced, until it is not replaced meanwhile."""
    while True:
        with _lock:
            if not (old := _replaced[path]):
                del _replaced[path]
                return
            _replaced[path] = []
        with suppress(OSError):  # the file may have been deleted, or the file system cannot sync
            file = os.open(path, os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)
        with _lock:
            if path in _spares and _spares[path] is None and old[-1].exists():
                _spares[path] = old.pop()
        for one in old:
            delete(one)


def _temporary(path: Path) -> Path:
    suffix = "".join(path.suffixes[-2:])
    name = f"{path.name.removesuffix(suffix).lstrip('.')}{_mark()}{os.getpid()}-{next(_numbers)}"
    return path.with_name(f".{name}{suffix}")


def _is_ours_alone(path: Path) -> bool:
    """Whether the file has no other name and is not open elsewhere: Linux grants a write lease only then."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            return os.fstat(file).st_nlink == 1
        finally:
            os.close(file)
    except (OSError, AttributeError):
        return False


def _forget_spares() -> None:
    """In a forked child: forget the parent's spare files."""
    global _lock
    _lock = threading.Lock()
    _spares.clear()
    _replaced.clear()


def _delete_spares() -> None:
    for path in list(_spares):
        release(path)


os.register_at_fork(after_in_child=_forget_spares)
atexit.register(_delete_spares)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two files atomically; False if that is not possible, for example if `other` does not exist.

    `os.replace` would also work, but on ext4 it writes the whole new file to disk first, longer than the save itself.
    """
    rename = _renameat2()
    return rename is not None and rename(_AT_FDCWD, bytes(one), _AT_FDCWD, bytes(other), _RENAME_EXCHANGE) == 0


@functools.cache
def _renameat2() -> Callable[..., Any] | None:
    """Linux' system call, which Python does not offer; None on other systems."""
    try:
        call = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return call


def _mark() -> str:
    return f".saving-{os.uname().nodename}-"


def _lives(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
