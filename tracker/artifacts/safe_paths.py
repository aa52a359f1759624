"""File access below a local root with untrusted paths: no symbolic link is followed.

Each part of a path is opened relative to the folder before it, so that no part can be swapped meanwhile.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from tracker.domain.errors import InvalidValue
from tracker.domain.limits import check_run_id, check_safe_path
from tracker.domain.records import Entry

_INCOMING = ".incoming"
"""The folder of incomplete uploads; no run's id begins with a dot."""
_FORSAKEN_S = 24 * 3600.0
"""Seconds without a write after which an upload counts as abandoned."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def incoming(root: Path) -> Path:
    """The folder for incomplete uploads below `root`, on the same disk; abandoned files in it are removed."""
    folder = root / _INCOMING
    folder.mkdir(parents=True, exist_ok=True)
    forsaken = time.time() - _FORSAKEN_S
    with os.scandir(folder) as files:
        for file in files:
            with suppress(FileNotFoundError):
                if file.stat(follow_symlinks=False).st_mtime < forsaken:
                    os.unlink(file.path)
    return folder


def adopt(root: Path, run_id: str, path: str, part: Path) -> str:
    """Rename `part`, which is synced to disk, to the run's file at `path`; return its URI.

    An existing file is replaced. When this returns the new name is on disk too. OSError; InvalidValue for links.
    """
    names = _names(run_id, path)
    with _folder(root, names[:-1], make=True) as folder:
        _refuse_link(folder, names[-1])
        os.chmod(part, 0o644)
        os.replace(part, names[-1], dst_dir_fd=folder)
        _sync(folder)
    return root.joinpath(*names).as_uri()


def open_file(root: Path, run_id: str, path: str) -> BinaryIO:
    """Open the run's file at `path` for reading. OSError such as FileNotFoundError; InvalidValue for links."""
    names = _names(run_id, path)
    with _folder(root, names[:-1]) as folder:
        _refuse_link(folder, names[-1])
        handle = os.open(names[-1], _FILE, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise IsADirectoryError(f"{path!r} is no file")
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def check(root: Path, run_id: str, path: str) -> None:
    """Raise InvalidValue if an existing part of the run's `path` is a link."""
    names = _names(run_id, path)
    with suppress(FileNotFoundError), _folder(root, names[:-1]) as folder:
        _refuse_link(folder, names[-1])


def _names(run_id: str, path: str) -> list[str]:
    return [check_run_id(run_id), *check_safe_path(path).split("/")]


@contextmanager
def _folder(root: Path, names: Sequence[str], *, make: bool = False) -> Iterator[int]:
    """Yield a descriptor of the folder at `names`; with `make` missing folders are created."""
    if make:
        root.mkdir(parents=True, exist_ok=True)
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names:
            inner = _enter(handle, name, make)
            os.close(handle)
            handle = inner
        yield handle
    finally:
        os.close(handle)


def _enter(folder: int, name: str, make: bool) -> int:
    _refuse_link(folder, name)
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except FileNotFoundError:
        if not make:
            raise
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=folder)
    _sync(folder)
    return os.open(name, _FOLDER, dir_fd=folder)


def _sync(folder: int) -> None:
    """Sync the folder's names to disk, if the file system can."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise


def _refuse_link(folder: int, name: str) -> None:
    """Raise a clear error for a link; O_NOFOLLOW is what prevents that it is followed."""
    with suppress(FileNotFoundError):
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise InvalidValue("path", f"{name!r} is a symbolic link, which may lead anywhere", limit="none")


def entries(root: Path, run_id: str, path: str) -> list[Entry]:
    """The entries of the run's folder at `path` ("" for its root), sorted by path; links are left out."""
    names = _names(run_id, path) if path else [check_run_id(run_id)]
    found: list[Entry] = []
    try:
        with _folder(root, names) as folder, os.scandir(folder) as files:
            for file in files:
                state = file.stat(follow_symlinks=False)
                if not file.name.startswith(".part-") and (stat.S_ISREG(state.st_mode) or stat.S_ISDIR(state.st_mode)):
                    is_dir = stat.S_ISDIR(state.st_mode)
                    inner = f"{path}/{file.name}" if path else file.name
                    found.append(Entry(path=inner, is_dir=is_dir, size=None if is_dir else state.st_size))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(found, key=lambda entry: entry.path)


def remove(root: Path, run_id: str, path: str) -> None:
    """Remove the run's file or folder at `path`, "" for all; a missing one is ignored. Links are not followed."""
    *above, name = _names(run_id, path) if path else [check_run_id(run_id)]
    with suppress(FileNotFoundError, NotADirectoryError), _folder(root, above) as folder:
        try:
            os.unlink(name, dir_fd=folder)
        except (IsADirectoryError, PermissionError):
            shutil.rmtree(name, dir_fd=folder)
        _sync(folder)
