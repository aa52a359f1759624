"""Staging folder of a journal: files that wait until they are published, with a limit on their bytes."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tracker.client.folder_packing import files_of, pack
from tracker.domain.errors import InvalidValue, JournalError
from tracker.domain.frames import Staged

MOST_WAITING = 16 * 1024**3
"""Bytes that may wait at most."""
DROPPED = ".dropped"
"""Suffix of an empty file that replaces one that need not be published any more."""
_CHUNK = 1024 * 1024
_WHY = "why"
"""File with the reason why files still wait."""


class Staging:
    """The staged files of one journal. Thread-safe: training adds files, the shipper settles them."""

    def __init__(self, folder: Path, *, most_bytes: int = MOST_WAITING) -> None:
        """`most_bytes` may wait, and no more than half of what the disk has free."""
        self.folder = folder
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._count = 0
        self._sizes: dict[str, int] = {}
        self._state = ""

    @property
    def waiting(self) -> int:
        """How many bytes of this process's files wait."""
        return sum(self._sizes.copy().values())

    def keep(self, source: Path | bytes, path: str) -> Staged:
        """Copy a file, or write bytes, to be published as `path`; JournalError if that fails or exceeds the limit.

        The copy is made now because the caller may overwrite or delete the file as soon as this returns.
        """
        target = self._new()
        try:
            size = len(source) if isinstance(source, bytes) else source.stat().st_size
            self._check_room(size, path)
            if isinstance(source, bytes):
                target.write_bytes(source)
            else:
                shutil.copyfile(source, target)
        except BaseException as error:
            self._give_up(target, error, path)
        return self._kept(target, path)

    def keep_checkpoint(self, source: Path, path: str, *, state: bool) -> Staged:
        """Copy a checkpoint, a file or a folder, as `keep` does, with its digest; it must not change meanwhile.

        InvalidValue if it changes while it is copied. Of the files of role `state` only the newest needs to be
        published: an older one is dropped if there is no room for both; otherwise call `supersede` once the new one is
        recorded.
        """
        target = self._new()
        try:
            size = sum(file.stat().st_size for file in (files_of(source) if source.is_dir() else [source]))
            older = self._state if state else ""
            if not self._has_room(size) and self._has_room(size, without=older):
                self.drop(older)
            self._check_room(size, path)
            digest = _pack(source, target) if source.is_dir() else _copy(source, target)
        except BaseException as error:
            self._give_up(target, error, path)
        return self._kept(target, path, digest)

    def supersede(self, name: str) -> None:
        """Drop the previous file of role `state`, since the one called `name` here is recorded."""
        older, self._state = self._state, name
        if older:
            self.drop(older)

    def drop(self, name: str) -> None:
        """Drop a file that need not be published. The mark for it survives the process, as its frame does."""
        with self._lock:
            if self._sizes.pop(name, None) is not None:
                with suppress(OSError):
                    (self.folder / f"{name}{DROPPED}").touch()
                    (self.folder / name).unlink(missing_ok=True)

    def dropped(self, name: str) -> bool:
        """Whether `drop` was called for the file, by this process or an earlier one."""
        return (self.folder / f"{name}{DROPPED}").exists()

    def find(self, name: str) -> Path | None:
        """The staged file of this name; None if it is gone or is a link, which could lead to any file."""
        path = self.folder / name
        with suppress(OSError):
            if stat.S_ISREG(path.lstat().st_mode) and not self.folder.is_symlink():
                return path
        return None

    def settle(self, name: str) -> None:
        """Remove a file that is published and whose row is committed."""
        with self._lock:
            self._sizes.pop(name, None)
            with suppress(OSError):
                (self.folder / name).unlink(missing_ok=True)

    def set_aside(self, name: str) -> None:
        """Stop waiting for a file that can never be stored; it stays in the folder."""
        with self._lock:
            self._sizes.pop(name, None)

    def explain(self, why: str) -> None:
        """Write down for users why files still wait."""
        with suppress(OSError):
            (self.folder / _WHY).write_text(why)

    @property
    def count(self) -> int:
        """How many of this process's files wait."""
        return len(self._sizes)

    def _new(self) -> Path:
        with self._lock:
            self._count += 1
            return self.folder / f"{self._count:06d}"

    def _kept(self, target: Path, path: str, digest: str = "") -> Staged:
        size = target.stat().st_size
        with self._lock:
            self._sizes[target.name] = size
        return Staged(name=target.name, path=path, size=size, sha256=digest)

    def _has_room(self, size: int, *, without: str = "") -> bool:
        self.folder.mkdir(exist_ok=True)
        waiting, goes = self.waiting, self._sizes.get(without, 0)
        return waiting - goes + size <= min(self._most_bytes, (shutil.disk_usage(self.folder).free + waiting) // 2)

    def _check_room(self, size: int, path: str) -> None:
        if not self._has_room(size):
            raise JournalError(
                f"cannot keep {_shown(path)}: with its {size} bytes more would wait to be published than the disk of "
                f"{self.folder} has room for ({self.waiting} bytes wait already; at most half of what is free may, "
                f"and {self._most_bytes} bytes)"
            )

    def _give_up(self, target: Path, error: BaseException, path: str) -> None:
        with suppress(OSError):
            target.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise JournalError(f"cannot keep {_shown(path)} in {self.folder}: {error.strerror or error}") from error
        raise error


def left_in(folder: Path) -> tuple[int, int, str]:
    """How many files wait in a journal's staging folder, their bytes, and the reason, if `explain` wrote one."""
    sizes = []
    for one in folder.glob("[0-9]*"):
        with suppress(FileNotFoundError):  # stored meanwhile
            sizes += [] if one.name.endswith(DROPPED) else [one.stat().st_size]
    why = folder / _WHY
    return len(sizes), sum(sizes), why.read_text() if why.is_file() else ""


def _shown(path: str) -> str:
    """`path` for messages: a digest in it is not known yet."""
    return path.replace("{sha256}", "…")


def _copy(source: Path, target: Path) -> str:
    import hashlib

    digest = hashlib.sha256()
    with source.open("rb") as read, target.open("wb") as write:
        # fstat of the open file: another file may take its name meanwhile.
        before = os.fstat(read.fileno())
        while chunk := read.read(_CHUNK):
            digest.update(chunk)
            write.write(chunk)
        _check_same(source, [before], [os.fstat(read.fileno())])
    return digest.hexdigest()


def _pack(source: Path, target: Path) -> str:
    import hashlib

    before = files_of(source)
    looks = [file.stat() for file in before]
    pack(source, target)
    after = files_of(source)
    _check_same(source, looks, [file.stat() for file in after] if after == before else [])
    with target.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_same(source: Path, before: Sequence[os.stat_result], after: Sequence[os.stat_result]) -> None:
    looks = [[(one.st_ino, one.st_size, one.st_mtime_ns) for one in some] for some in (before, after)]
    if looks[0] != looks[1]:
        raise InvalidValue("checkpoint", f"{str(source)!r} changed while it was copied, so it is not kept")
