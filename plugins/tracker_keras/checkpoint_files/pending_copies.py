"""Pending copies of checkpoint files, which must be made before the files are overwritten.

Copies are made in the background. Keras' own callbacks overwrite or delete the file that they saved last; the wrappers
around them wait here first until the copy is made. Any fit of this process may overwrite a file, so the pending copies
are global.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_futures
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger("tracker")

LONGEST_WAIT_S = 30.0
"""After that the training goes on, and the copy is lost."""

Work = Callable[[], None]

_pending: dict[Path, set[Future[None]]] = {}
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Stamp:
    """Identifies the version of a file or folder, to detect that it was replaced or overwritten."""

    device: int
    inode: int
    size: int
    changed_ns: int

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Stamp | None:
        """The stamp of the file or folder at `path`; None if it does not exist or is not a local path."""
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            return None
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def keep(path: Path, work: Work, in_background: Callable[[Work], Future[None]]) -> None:
    """Start `work`, which copies the file or folder at `path`, in the background; `wait_for` waits for it."""
    done = in_background(work)
    with _lock:
        _pending.setdefault(path, set()).add(done)
    done.add_done_callback(lambda _: _forget(path, done))


def wait_for(path: str | os.PathLike[str], longest_s: float = LONGEST_WAIT_S) -> bool:
    """Wait until every copy of the file, or of files in the folder, is made; False if it took too long.

    A timeout is logged; the copy then finds that the file has changed.
    """
    if not _pending:
        return True
    place = Path(os.path.realpath(path))
    with _lock:
        waiting = [one for kept, those in _pending.items() if kept.is_relative_to(place) for one in those]
    if not waiting:
        return True
    began = time.monotonic()
    unfinished = wait_for_futures(waiting, longest_s).not_done
    if unfinished:
        log.warning(
            "the copy of %s for the run was not made within %.0f s; training goes on and may write over it",
            path,
            longest_s,
        )
    else:
        log.debug("waited %.3f s for the copy of %s", time.monotonic() - began, path)
    return not unfinished


def _forget(path: Path, done: Future[None]) -> None:
    with _lock:
        if those := _pending.get(path):
            those.discard(done)
            if not those:
                del _pending[path]


def _disown() -> None:
    """In a forked child, which has no thread that makes the copies: forget them."""
    global _lock
    _lock = threading.Lock()
    _pending.clear()


os.register_at_fork(after_in_child=_disown)
