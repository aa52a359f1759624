"""Folders of files that are removed for good: set aside by one rename first, so that it can be taken back.

Who removes what a folder belongs to sets the folder aside, commits that its owner is gone, and empties the trash. If
it is killed between the two, whoever looks next knows by the owner whether the folder goes or comes back.
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
"""After so long without a byte, nobody writes to what was on its way."""
_TRASH = ".removed"
_INCOMING = ".incoming"
_PART = ".part-"
_DIGEST = re.compile(r"[0-9a-f]{64}(?![0-9a-f])")


@dataclass(frozen=True, slots=True)
class Amount:
    """How many files, and how many bytes they have."""

    files: int = 0
    bytes: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.files + other.files, self.bytes + other.bytes)


class Trash:
    """What is set aside below `root`, a local folder. One process at a time has it, see `opened`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folder = root / _TRASH

    @contextmanager
    def opened(self) -> Iterator[Self]:
        """Have it for the length of the block; ArtifactError while another process does."""
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
        """What is in it."""
        with suppress(FileNotFoundError):
            return sorted(os.listdir(self._folder))
        return []

    def set_aside(self, name: str) -> None:
        """Put the folder `name` of the root into it, for good when this returns; nothing if there is none."""
        if not os.path.lexists(self.root / name):
            return
        with _file_errors(f"cannot remove {self.root / name}"):
            self._folder.mkdir(exist_ok=True)
            os.rename(self.root / name, self._folder / name)
            for folder in (self.root, self._folder):
                _sync(folder)

    def put_back(self, name: str) -> None:
        """Take the folder `name` out again, if it is there, unless there is one in its place."""
        with _file_errors(f"cannot put {self.root / name} back"):
            if os.path.lexists(self._folder / name) and not os.path.lexists(self.root / name):
                os.rename(self._folder / name, self.root / name)

    def amount(self, name: str) -> Amount:
        """How much the folder `name` in it holds."""
        return amount(self._folder / name)

    def empty(self, name: str) -> None:
        """Remove the folder `name` in it."""
        remove(self._folder / name)


def amount(path: Path) -> Amount:
    """How much there is at `path`, a file or a folder with all below; links count as nothing and are not followed."""
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
    """Files below the root, and below each of its folders, that were on their way and that nobody writes any more.

    Folders whose name is `spared` are not looked into.
    """
    before = time.time() - FORSAKEN_S
    yield from (Path(file.path) for file in _files(root / _INCOMING) if _older(file, before))
    for folder in folders(root):
        if not spared(folder.name):
            yield from (
                Path(file.path) for file in _files(folder) if file.name.startswith(_PART) and _older(file, before)
            )


def folders(root: Path) -> list[Path]:
    """The folders of runs and logged models below the root, links left out."""
    return [
        Path(one.path) for one in _files(root) if one.is_dir(follow_symlinks=False) and not one.name.startswith(".")
    ]


def by_content(folder: Path) -> list[Path]:
    """Files in the folder that are named by the SHA-256 of their bytes, and are a day old."""
    before = time.time() - FORSAKEN_S
    return [Path(file.path) for file in _files(folder) if _DIGEST.match(file.name) and _older(file, before)]


def unused(cache: Path, before_ms: int) -> Iterator[Path]:
    """Copies in the cache that nobody asked for since that moment, and what was left on its way."""
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
    """Remove a file, or a folder with all below; links are not followed. ArtifactError."""
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
    """The names in the folder to disk, where there is a way."""
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
