"""The journal: one append-only file a (run, writer), numbered and checksummed frames, one `write(2)` a frame.

The file is locked (flock) by the process that writes it for as long as that process lives, so anybody can tell a dead
owner's journal from a live one's. Files to publish wait in a folder beside it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from weakref import WeakSet

from tracker.client.staging import Staging
from tracker.domain.errors import InvalidValue, JournalError
from tracker.domain.frames import Frame
from tracker.wire.frames import HEADER_SIZE, MAX_PAYLOAD, JournalHeader, encode_frame, read_header, seal

SUFFIX = ".journal"
REFUSED = ".refused"
VERSION = 2
"""The newest format that we read and the one that we write."""
HAS_SECOND_FRAMES = 2
"""From which version on a frame says that a file is stored; before, its row went with the frames around it."""
PENDING_BYTES = 8 * 1024 * 1024
"""How much is kept in memory while the disk takes nothing; twice as much of what carries no points."""
HEADER_BYTES = 64 * 1024
"""No header is longer."""
CLOSE_S = 0.2
"""How long closing waits for a log call that is just being written."""

_open: WeakSet[Journal] = WeakSet()


def folder(home: Path) -> Path:
    """Where the journals of `home` live."""
    return home / "journals"


class Journal:
    """The writing end, and the only one: it holds the file's lock until `close`."""

    def __init__(self, path: Path, fd: int, start: int) -> None:
        """`start` is where the header ends and the frames begin."""
        self.path = path
        self.fd = fd
        self.start = start
        self.last_number = 0
        self.points = 0
        self.dropped = 0
        self.disk_error: OSError | None = None
        self.on_refusal: Callable[[Exception], None] = lambda error: None
        # Re-entrant: a signal handler that logs or ends the run may interrupt an append of the same thread.
        self._lock = threading.RLock()
        self._pending: deque[bytes] = deque()
        self._pending_bytes = 0
        self.staging = Staging(self.files)
        _open.add(self)

    @classmethod
    def create(cls, home: Path, header: JournalHeader) -> Journal:
        """A new journal in `home`; JournalError if it cannot be made there."""
        path = folder(home) / f"{header.run_id}.{header.writer}{SUFFIX}"
        unborn = path.with_suffix(".new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(unborn, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalError(
                f"cannot create a journal in {path.parent}: {error.strerror}; "
                "set TRACKER_HOME to a folder that can be written"
            ) from error
        sealed = seal(encode_frame(header), 0)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.write(fd, sealed) != len(sealed):
                raise _disk_full()
            # It gets its name only now: whoever looks for dead owners' journals never meets one half made.
            unborn.rename(path)
        except OSError as error:
            os.close(fd)
            unborn.unlink(missing_ok=True)
            raise JournalError(f"cannot write {path}: {error.strerror}; set TRACKER_HOME to another disk") from error
        return cls(path, fd, len(sealed))

    @property
    def files(self) -> Path:
        """The folder of files that wait to be published."""
        return self.path.with_suffix(".files")

    @property
    def refused_path(self) -> Path:
        """What the file is called once it is kept for what the store refused."""
        return self.path.with_name(self.path.name + REFUSED)

    def append(self, frame: Frame, points: int = 0) -> bool:
        """Write `frame`, of so many metric points, under the next number; never raises.

        True once it survives the death of this process. False if it cannot be encoded, or if the disk did not take it:
        then it is kept in memory up to a bound and tried again, or `dropped` is counted up. `on_refusal` hears of it.
        """
        try:
            payload = encode_frame(frame)
        except Exception as error:
            return self._refuse(error)
        with self._lock:
            if self._pending or len(payload) > MAX_PAYLOAD:
                return self._append_slowly(payload, points)
            number = self.last_number + 1
            data = seal(payload, number)
            # A signal handler that logs may have taken the number meanwhile. From here to the write none comes between,
            # as CPython calls them only after calls and at loops: numbers stand in the file in their order.
            if number <= self.last_number:
                return self.append(frame, points)
            self.last_number = number
            self.points += points
            try:
                written = os.write(self.fd, data)
            except OSError as error:
                return self._hold(data, error)
            if written == len(data):
                return True
            self.cut(written)
            return self._hold(data, _disk_full())

    def retry_pending(self) -> bool:
        """Write what the disk refused before; True when nothing waits in memory any more."""
        if not self._pending:
            return True
        # Not waited for: whoever holds the lock may be waiting for us, in a signal handler that interrupted an append.
        if not self._lock.acquire(blocking=False):
            return False
        try:
            return self._write_pending()
        finally:
            self._lock.release()

    @property
    def pending(self) -> int:
        """How many log calls are in memory only, because the disk does not take them."""
        return len(self._pending)

    def _append_slowly(self, payload: bytes, points: int) -> bool:
        if len(payload) > MAX_PAYLOAD:
            return self._refuse(InvalidValue("log", f"{len(payload)} bytes in one call", limit=f"{MAX_PAYLOAD} bytes"))
        if not self._write_pending() and self._pending_bytes > PENDING_BYTES * (1 if points else 2):
            self.dropped += 1
            return self._refuse(self.disk_error or _disk_full())
        self.last_number += 1
        self.points += points
        self._pending.append(seal(payload, self.last_number))
        self._pending_bytes += len(self._pending[-1])
        return self._write_pending() or self._refuse(self.disk_error or _disk_full())

    def _hold(self, data: bytes, error: OSError) -> bool:
        if self.fd < 0:
            return self._refuse(JournalError("something was logged while the run ended; it is not recorded"))
        self.disk_error = error
        self._pending.append(data)
        self._pending_bytes += len(data)
        return self._refuse(error)

    def _write_pending(self) -> bool:
        while self._pending:
            data = self._pending[0]
            try:
                written = os.write(self.fd, data)
            except OSError as error:
                self.disk_error = error
                return False
            if written != len(data):
                self.cut(written)
                return False
            self._pending.popleft()
            self._pending_bytes -= len(data)
        self.disk_error = None
        return True

    def _refuse(self, error: Exception) -> bool:
        self.on_refusal(error)
        return False

    def sync(self) -> None:
        """Force what was written to the disk itself."""
        os.fdatasync(self.fd) if hasattr(os, "fdatasync") else os.fsync(self.fd)

    def cut(self, torn: int) -> None:
        """Cut off the last `torn` bytes, which are no whole frame, so that what follows stays readable."""
        with suppress(OSError):  # then the reader skips them
            os.ftruncate(self.fd, os.fstat(self.fd).st_size - torn)

    def upgrade(self, header: JournalHeader) -> None:
        """Write into the file's header that it is of the newest version, so that no earlier one ships it.

        Raises JournalError; the header is whole in any case.
        """
        try:
            # Not by our own end of the file, which appends wherever it is told to write.
            fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            try:
                payload = os.pread(fd, self.start, 0)[HEADER_SIZE:]
                if payload[-1] == header.version:  # the last field of an earlier version's, a number below 128
                    os.pwrite(fd, seal(payload[:-1] + bytes([VERSION]), 0), 0)
                    os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise JournalError(f"cannot write {self.path}: {error.strerror}") from error

    def finish(self, *, keep: bool) -> None:
        """Everything is stored: delete the file and its folder and give up the lock.

        With `keep` some of it was refused: both are renamed to end in `.refused`, so that nothing is lost.
        """
        try:
            if keep:
                if self.files.exists():
                    self.files.rename(self.files.with_name(self.files.name + REFUSED))
                self.path.rename(self.refused_path)
            else:
                shutil.rmtree(self.files, ignore_errors=True)
                self.path.unlink(missing_ok=True)
        finally:
            self.close()

    def close(self) -> None:
        """Give up the lock. The file stays."""
        # Another thread's write must not meet the number of a file that was closed and, by now, is somebody else's.
        # A signal handler that waits for us may have interrupted that write: then the file stays open.
        if self._lock.acquire(timeout=CLOSE_S):
            try:
                self.disown()
            finally:
                self._lock.release()

    def disown(self) -> None:
        """Close our end, which in a forked child leaves the lock to the parent."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def disown_all() -> None:
    """In a forked child: let go of every journal, so that the parent's lock ends with the parent."""
    for journal in list(_open):
        journal.disown()


def adopt(path: Path) -> tuple[Journal, JournalHeader] | None:
    """Take over a dead owner's journal; None while the owner lives, or if somebody else was faster.

    Raises JournalError if the file is no journal, OSError if it cannot be opened or locked.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Who shipped it before we had the lock removed or renamed it.
        if not os.path.samestat(os.fstat(fd), path.stat()):
            raise FileNotFoundError(path)
        header, start = header_of(path, os.pread(fd, HEADER_BYTES, 0))
        return Journal(path, fd, start), header
    except BaseException as error:
        os.close(fd)
        if isinstance(error, BlockingIOError | FileNotFoundError):
            return None
        raise


def header_of(path: Path, data: bytes) -> tuple[JournalHeader, int]:
    """The journal's header and where it ends, from the file's first `HEADER_BYTES`; JournalError if it has none."""
    found = read_header(data)
    if found is None:
        raise JournalError(
            f"{path} does not begin as a journal does; nothing of it was shipped, and it was left as it is"
        )
    if found[0].version > VERSION:
        raise JournalError(f"{path} was written by a newer Tracker; upgrade callback-tracker here to ship it")
    return found


def _disk_full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
