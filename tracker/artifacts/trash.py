"""Trash for folders that are removed for good: a rename sets them aside first, so that it can be undone.

The process that removes a run sets its folder aside, commits the removal of its rows, and empties the trash. If it is
killed midway, the next process sees from the rows whether the folder is to be removed or put back.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tracker.domain.errors import ArtifactError

FORSAKEN_S = 24 * 3600.0
"""Seconds without a write after which an incomplete file counts as abandoned."""
_TRASH = ".removed"
_INCOMING = ".incoming"
_PART = ".part-"
_MOST_NAMED = 3
_DIGEST = re.compile(r"[0-9a-f]{64}(?![0-9a-f])")


@dataclass(frozen=True, slots=True)
class Amount:
    """A number of files, and their bytes."""

    files: int = 0
    bytes: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.files + other.files, self.bytes + other.bytes)


class Trash:
    """The folders that are set aside below `root`, a local folder. One process at a time may use it, see `opened`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folder = root / _TRASH

    @contextmanager
    def opened(self) -> Iterator[Self]:
        """Lock the trash during the block; ArtifactError while another process has it."""
        if not self.root.is_dir():
            yield self
            return
        with _file_errors(f"cannot remove anything below {self.root}"):
            handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ArtifactError(f"another process is removing files below {self.root} just now") from error
            yield self
            with suppress(OSError):
                self._folder.rmdir()
        finally:
            os.close(handle)

    def names(self) -> list[str]:
        """The names of the folders in the trash."""
        with suppress(FileNotFoundError):
            return sorted(os.listdir(self._folder))
        return []

    def set_aside(self, name: str) -> None:
        """Move the folder `name` of the root into the trash, synced to disk; a missing one is ignored."""
        if not os.path.lexists(self.root / name):
            return
        with _file_errors(f"cannot remove {self.root / name}"):
            self._folder.mkdir(exist_ok=True)
            os.rename(self.root / name, self._folder / name)
            for folder in (self.root, self._folder):
                _sync(folder)

    def put_back(self, name: str) -> None:
        """Move the folder `name` back, if it is in the trash, unless a new one has taken its place."""
        with _file_errors(f"cannot put {self.root / name} back"):
            if os.path.lexists(self._folder / name) and not os.path.lexists(self.root / name):
                os.rename(self._folder / name, self.root / name)

    def amount(self, name: str) -> Amount:
        """Files and bytes of the folder `name` in the trash."""
        return amount(self._folder / name)

    def empty(self, name: str) -> None:
        """Remove the folder `name` in the trash."""
        remove(self._folder / name)


def amount(path: Path) -> Amount:
    """Files and bytes at `path`, a file or a whole folder; links are neither counted nor followed."""
    total = Amount()
    with _file_errors(f"cannot look into {path}"), suppress(FileNotFoundError):
        state = os.lstat(path)
        if stat.S_ISREG(state.st_mode):
            return Amount(1, state.st_size)
        if not stat.S_ISDIR(state.st_mode):
            return total
        for folder, _, names in os.walk(path):
            for name in names:
                state = os.lstat(os.path.join(folder, name))
                if stat.S_ISREG(state.st_mode):
                    total += Amount(1, state.st_size)
    return total


def forsaken(root: Path, *, spared: Callable[[str], bool]) -> Iterator[Path]:
    """Abandoned incomplete files in the root's folder for uploads and in each of its runs' folders.

    Folders whose name is `spared` are skipped.
    """
    before = time.time() - FORSAKEN_S
    yield from (Path(file.path) for file in _files(root / _INCOMING) if _older(file, before))
    for folder in folders(root):
        if not spared(folder.name):
            yield from (
                Path(file.path) for file in _files(folder) if file.name.startswith(_PART) and _older(file, before)
            )


def folders(root: Path) -> list[Path]:
    """The folders of runs and logged models below the root, without links."""
    return [
        Path(one.path) for one in _files(root) if one.is_dir(follow_symlinks=False) and not one.name.startswith(".")
    ]


def others(folder: Path, expected: str) -> list[str]:
    """Some of the names in the folder besides `expected`; none if it is no folder."""
    return [file.name for file in _files(folder) if file.name != expected][:_MOST_NAMED]


def by_content(folder: Path) -> list[Path]:
    """Files in the folder that are named by the SHA-256 of their bytes, and are older than a day."""
    before = time.time() - FORSAKEN_S
    return [Path(file.path) for file in _files(folder) if _DIGEST.match(file.name) and _older(file, before)]


def unused(cache: Path, before_ms: int) -> Iterator[Path]:
    """Copies in the cache that were not used since `before_ms`, and abandoned incomplete ones."""
    for shelf in _files(cache):
        if not shelf.is_dir(follow_symlinks=False):
            continue
        copies: dict[str, list[os.DirEntry[str]]] = {}
        for one in _files(Path(shelf.path)):
            copies.setdefault(one.name if one.name.startswith(_PART) else one.name[:64], []).append(one)
        for name, some in copies.items():
            before = time.time() - FORSAKEN_S if name.startswith(_PART) else before_ms / 1000
            if all(_older(one, before) for one in some):
                yield from (Path(one.path) for one in some)


def remove(path: Path) -> None:
    """Remove a file or a whole folder; links are not followed. ArtifactError."""
    with _file_errors(f"cannot remove {path}"), suppress(FileNotFoundError):
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path)
        else:
            os.unlink(path)


def _files(folder: Path) -> list[os.DirEntry[str]]:
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as files:
        return sorted(files, key=lambda one: one.name)
    return []


def _older(file: os.DirEntry[str], before: float) -> bool:
    with suppress(FileNotFoundError):
        return file.stat(follow_symlinks=False).st_mtime < before
    return False


def _sync(folder: Path) -> None:
    """Sync the folder's names to disk, if the file system can."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _file_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArtifactError(f"{doing}: {error.strerror or error}") from error
