"""A file that takes another's place in one moment, without holding up who writes it for longer than writing takes."""

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
"""What was at a place before, as long as what is there now is not known to be on disk."""
_spares: dict[Path, Path | None] = {}
"""By place, where that is wanted: what was there before and is written over next. New pages of memory for a file cost
up to as much as writing it."""


@contextmanager
def replacing(path: Path, *, keeps_spare: bool = False) -> Iterator[Path]:
    """A place beside `path`, with its ending, whose file takes the place of `path` as the block ends without an error.

    At every moment the old file is there whole, or the new one, whenever the process is killed. The old one is deleted
    behind the caller's back, once the new one is forced to disk: both take as long as writing it did.

    With `keeps_spare` it is kept instead, hidden, until `release`, to be written over by the file after next, if nobody
    has it open and it has no other name.
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
    """No file will take the place of `path` soon: delete the spare one."""
    with _lock:
        spare = _spares.pop(path, None)
    if spare is not None:
        delete(spare)


def sweep(folder: Path) -> None:
    """Remove what killed processes of this host left in the middle of `replacing`."""
    for left in folder.glob(f".*{_mark()}*"):
        pid = left.name.rpartition(_mark())[2].partition("-")[0]
        if not _lives(pid):
            delete(left)


def delete(path: str | Path) -> None:
    """Delete a file; that it cannot be is said on the log."""
    try:
        os.remove(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        log.warning("ModelCheckpoint could not delete %s: %s", path, error)


def _settle(path: Path) -> None:
    """Force to disk what is at `path`, and delete what was there before, until nothing else is put there meanwhile."""
    while True:
        with _lock:
            if not (old := _replaced[path]):
                del _replaced[path]
                return
            _replaced[path] = []
        with suppress(OSError):  # it may have been deleted again; on some disks nothing can be forced
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
    """Whether the file has no other name, and nobody reads it: Linux grants a lease for writing only then."""
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
    """In a forked child, whose they are not."""
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
    """Swap two files in one step; False where that cannot be, for one because `other` is not there.

    `os.replace` would do. But ext4 then writes all of the new file before it returns, longer than the save itself.
    """
    rename = _renameat2()
    return rename is not None and rename(_AT_FDCWD, bytes(one), _AT_FDCWD, bytes(other), _RENAME_EXCHANGE) == 0


@functools.cache
def _renameat2() -> Callable[..., Any] | None:
    """Linux' own call, which Python does not offer; None elsewhere."""
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
