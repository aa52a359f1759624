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
from pathlib import Path

from tracker.domain.errors import JournalError
from tracker.domain.frames import Frame, Staged
from tracker.wire import JournalHeader, encode_frame, read_header, seal

SUFFIX = ".journal"
REFUSED = ".refused"
PENDING_BYTES = 8 * 1024 * 1024
"""How much is kept in memory while the disk takes nothing."""


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
        self.on_refusal: Callable[[], None] = lambda: None
        # Re-entrant: a signal handler that ends the run may interrupt an append of the same thread.
        self._lock = threading.RLock()
        self._size = os.fstat(fd).st_size
        self._pending: deque[bytes] = deque()
        self._pending_bytes = 0
        self._staged = 0

    @classmethod
    def create(cls, home: Path, header: JournalHeader) -> Journal:
        """A new journal in `home`; JournalError if it cannot be made there."""
        path = folder(home) / f"{header.run_id}.{header.writer}{SUFFIX}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalError(
                f"cannot create a journal in {path.parent}: {error.strerror}; "
                "set TRACKER_HOME to a folder that can be written"
            ) from error
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        sealed = seal(encode_frame(header), 0)
        try:
            os.write(fd, sealed)
        except OSError as error:
            os.close(fd)
            raise JournalError(f"cannot write {path}: {error.strerror}; set TRACKER_HOME to another disk") from error
        return cls(path, fd, len(sealed))

    @property
    def files(self) -> Path:
        """The folder of files that wait to be published."""
        return self.path.with_suffix(".files")

    def append(self, frame: Frame, points: int = 0) -> bool:
        """Write `frame`, of so many metric points, under the next number.

        True once it survives the death of this process. False if the disk did not take it: then it is kept in memory
        up to a bound and tried again, or `dropped` is counted up, and `on_refusal` is called.
        """
        payload = encode_frame(frame)
        with self._lock:
            self.points += points
            # Counted up before the write: an interrupt between the two may skip a number, never repeat one.
            self.last_number = number = self.last_number + 1
            data = seal(payload, number)
            if self._pending:
                return self._append_after_pending(data)
            try:
                written = os.write(self.fd, data)
            except OSError as error:
                return self._keep(data, error)
            if written == len(data):
                self._size += written
                return True
            return self._keep(data, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    def retry_pending(self) -> bool:
        """Write what the disk refused before; True when nothing waits in memory any more."""
        with self._lock:
            return self._write_pending()

    def _append_after_pending(self, data: bytes) -> bool:
        if self._write_pending():
            try:
                if os.write(self.fd, data) == len(data):
                    self._size += len(data)
                    return True
            except OSError as error:
                return self._keep(data, error)
        return self._keep(data, self.disk_error or OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    def _keep(self, data: bytes, error: OSError) -> bool:
        # A partial write would leave a torn frame in the middle: cut it off, so that what follows stays readable.
        self._truncate()
        self.disk_error = error
        if self._pending_bytes + len(data) > PENDING_BYTES:
            self.dropped += 1
            self.last_number -= 1
        else:
            self._pending.append(data)
            self._pending_bytes += len(data)
        self.on_refusal()
        return False

    def _write_pending(self) -> bool:
        while self._pending:
            data = self._pending[0]
            try:
                written = os.write(self.fd, data)
            except OSError as error:
                self.disk_error = error
                return False
            if written != len(data):
                self._truncate()
                return False
            self._size += written
            self._pending.popleft()
            self._pending_bytes -= len(data)
        self.disk_error = None
        return True

    def _truncate(self) -> None:
        try:
            os.ftruncate(self.fd, self._size)
        except OSError:
            self._size = os.fstat(self.fd).st_size

    def stage(self, source: Path | bytes, path: str) -> Staged:
        """Copy a file, or write bytes, beside the journal to be published as `path`; JournalError if that fails.

        The copy is taken now because the caller may overwrite or delete the file the moment we return.
        """
        with self._lock:
            self._staged += 1
            name = f"{self._staged:06d}"
        target = self.files / name
        try:
            self.files.mkdir(exist_ok=True)
            if isinstance(source, bytes):
                target.write_bytes(source)
            else:
                shutil.copyfile(source, target)
        except OSError as error:
            target.unlink(missing_ok=True)
            raise JournalError(f"cannot keep {path} in {self.files}: {error.strerror or error}") from error
        return Staged(name=name, path=path, size=target.stat().st_size)

    def sync(self) -> None:
        """Force what was written to the disk itself."""
        os.fdatasync(self.fd) if hasattr(os, "fdatasync") else os.fsync(self.fd)

    def cut(self, torn: int) -> None:
        """Cut off the last `torn` bytes: what a dead owner had not finished to write."""
        if torn:
            self._size -= torn
            self._truncate()

    def finish(self, *, keep: bool) -> None:
        """Everything is stored: delete the file and its folder and give up the lock.

        With `keep` some of it was refused: both are renamed to end in `.refused`, so that nothing is lost.
        """
        if keep:
            for path in (self.path, self.files):
                if path.exists():
                    path.rename(path.with_name(path.name + REFUSED))
        else:
            self.path.unlink(missing_ok=True)
            shutil.rmtree(self.files, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Give up the lock. The file stays."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def adopt(path: Path) -> tuple[Journal, JournalHeader] | None:
    """Take over a dead owner's journal; None while the owner lives, or if somebody removed it meanwhile.

    Raises JournalError if the file is no journal.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise JournalError(f"cannot open {path}: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    if os.fstat(fd).st_nlink == 0:
        os.close(fd)
        return None
    found = read_header(os.pread(fd, 64 * 1024, 0))
    if found is None:
        os.close(fd)
        raise JournalError(
            f"{path} does not begin as a journal does; nothing of it was shipped, and it was left as it is"
        )
    header, start = found
    return Journal(path, fd, start), header
