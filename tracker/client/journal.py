"""The journal: one append-only file for each run and writer, of numbered, checksummed frames, one `write(2)` a frame.

The process that writes the file locks it (flock) for as long as it lives, so any process can tell a dead owner's
journal from a live one's. Files to publish wait in a folder next to it.
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
from tracker.domain.limits import check_run_id, check_writer
from tracker.wire.frame_codec import HEADER_SIZE, MAX_PAYLOAD, JournalHeader, encode_frame, read_header, seal

SUFFIX = ".journal"
REFUSED = ".refused"
VERSION = 2
"""The format that is written, and the newest one that can be read."""
HAS_SECOND_FRAMES = 2
"""First version with a frame that records that a file is stored; before, its row was sent with the frames around it."""
PENDING_BYTES = 8 * 1024 * 1024
"""Bytes kept in memory while the disk accepts no writes; twice as many for frames without points."""
HEADER_BYTES = 64 * 1024
"""Largest size of a header."""
CLOSE_S = 0.2
"""Seconds that closing waits for a log call whose frame is being written."""

_open: WeakSet[Journal] = WeakSet()


def folder(home: Path) -> Path:
    """The folder of the journals of `home`."""
    return home / "journals"


class Journal:
    """The only writing end of a journal file; it holds the file's lock until `close`."""

    def __init__(self, path: Path, fd: int, start: int) -> None:
        """`start` is the offset at which the header ends and the frames begin."""
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
        """Create a journal in `home`; JournalError if that fails."""
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
            # Renamed only now, so that a search for dead owners' journals never finds an incomplete one.
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
        """The file's path after `finish` kept it because the store refused some of it."""
        return self.path.with_name(self.path.name + REFUSED)

    def append(self, frame: Frame, points: int = 0) -> bool:
        """Write `frame`, which has `points` metric points, under the next number; never raises.

        True once it survives the death of this process. False if it cannot be encoded, or if the disk did not take it:
        then it is kept in memory up to a limit and tried again, or `dropped` is counted up. `on_refusal` is called with
        the error.
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
            # A signal handler that logs may have taken the number meanwhile. From here to the write none can run, since
            # CPython runs handlers only after calls and at loops: numbers are in order in the file.
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
        """Write the frames that the disk refused before; True when none is left in memory."""
        if not self._pending:
            return True
        # No waiting: the holder of the lock may be waiting for us, in a signal handler that interrupted an append.
        if not self._lock.acquire(blocking=False):
            return False
        try:
            return self._write_pending()
        finally:
            self._lock.release()

    @property
    def pending(self) -> int:
        """How many frames are in memory only, because the disk does not accept them."""
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
        """Flush the file from the system's cache to disk."""
        os.fdatasync(self.fd) if hasattr(os, "fdatasync") else os.fsync(self.fd)

    def cut(self, torn: int) -> None:
        """Cut off the last `torn` bytes, an incomplete frame, so that later frames stay readable."""
        with suppress(OSError):  # the reader can skip them
            os.ftruncate(self.fd, os.fstat(self.fd).st_size - torn)

    def upgrade(self, header: JournalHeader) -> None:
        """Set the newest version in the file's header, so that no earlier version of Tracker ships the file.

        Raises JournalError; the header stays valid in any case.
        """
        try:
            # Not with `self.fd`: it is open for appending, so it ignores the offset of a write.
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
        """Delete the file and its folder, since everything is stored, and release the lock.

        With `keep`, when some of it was refused, both are renamed to end in `.refused`, so that nothing is lost.
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
        """Release the lock. The file stays."""
        # Another thread's write must not use the descriptor after it was closed and perhaps reused for another file.
        # A signal handler that waits here may have interrupted that write: then the file stays open.
        if self._lock.acquire(timeout=CLOSE_S):
            try:
                self.disown()
            finally:
                self._lock.release()

    def disown(self) -> None:
        """Close the descriptor; in a forked child the parent keeps the lock."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def disown_all() -> None:
    """In a forked child: close every journal, so that the parent's lock ends with the parent."""
    for journal in list(_open):
        journal.disown()


def adopt(path: Path) -> tuple[Journal, JournalHeader] | None:
    """Take over a dead owner's journal; None while the owner lives, or if another process took it first.

    Raises JournalError if the file is not a journal, OSError if it cannot be opened or locked.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Another process may have shipped, and so removed or renamed it, before we had the lock.
        if not os.path.samestat(os.fstat(fd), path.stat()):
            raise FileNotFoundError(path)
        _check_owner(path, fd)
        header, start = header_of(path, os.pread(fd, HEADER_BYTES, 0))
        return Journal(path, fd, start), header
    except BaseException as error:
        os.close(fd)
        if isinstance(error, BlockingIOError | FileNotFoundError):
            return None
        raise


def _check_owner(path: Path, fd: int) -> None:
    """JournalError for a journal of another user: it says to which folders files go, and which files they are."""
    owner = os.fstat(fd).st_uid
    if not is_own(owner, folder=path.parent.stat().st_uid, user=os.geteuid()):
        raise JournalError(
            f"{path} belongs to another user (id {owner}); only this user ships it: run `tracker sync` as this user"
        )


def is_own(owner: int, *, folder: int, user: int) -> bool:
    """Whether a journal of this owner is the user's; all are ids of users, `folder` that of the folder's owner.

    The owner of the folder counts as the user, who has another id on some network file systems.
    """
    return owner in (user, folder)


def header_of(path: Path, data: bytes) -> tuple[JournalHeader, int]:
    """The journal's header and its end offset, from the file's first `HEADER_BYTES`; JournalError if it has none."""
    found = read_header(data)
    if found is None:
        raise JournalError(
            f"{path} does not begin as a journal does; nothing of it was shipped, and it was left as it is"
        )
    try:
        check_run_id(found[0].run_id)
        check_writer(found[0].writer)
    except InvalidValue as error:
        raise JournalError(f"{path} is not a journal of Tracker: {error}; it was left as it is") from error
    if found[0].version > VERSION:
        raise JournalError(f"{path} was written by a newer Tracker; upgrade callback-tracker here to ship it")
    return found


def _disk_full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
