"""Unpacks the zip archives of checkpoint folders, safely: only files and folders below a new folder are created."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from tracker.domain.errors import ArtifactError, InvalidValue
from tracker.domain.limits import check_safe_path
from tracker.domain.vocabulary import FOLDER_ARCHIVE, ORBAX_ARCHIVE

ENDING = ".zip"
"""Suffix of the formats of checkpoint folders: `.orbax.zip`, `.dir.zip`."""
_PART = ".part-"


def is_archive(format: str) -> bool:
    """Whether a checkpoint of this format is an archived folder."""
    return format in (ORBAX_ARCHIVE, FOLDER_ARCHIVE)


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack `archive` as `folder`, atomically; an existing folder is replaced unless it already has the same content.

    ArtifactError for an archive that is damaged, has a path outside of it or a special file, or needs too much space.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = list(_members(opened))
            if not _is_unpacked(opened, members, folder):
                _unpack(opened, members, folder)
    except (OSError, zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise ArtifactError(f"cannot unpack {archive} as {folder}: {error}") from error
    return folder


def _members(opened: zipfile.ZipFile) -> Iterator[tuple[zipfile.ZipInfo, str]]:
    """The files and empty folders in the archive, each with its path below the folder."""
    for one in opened.infolist():
        kind = stat.S_IFMT(one.external_attr >> 16)
        try:
            path = check_safe_path(one.filename.rstrip("/"))
        except InvalidValue as error:
            raise ArtifactError(f"{opened.filename} has a file at {one.filename!r}: {error}") from error
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ArtifactError(f"{opened.filename} has something at {path!r} that is neither a file nor a folder")
        yield one, path


def _unpack(opened: zipfile.ZipFile, members: list[tuple[zipfile.ZipInfo, str]], folder: Path) -> None:
    needed = sum(one.file_size for one, _ in members)
    if needed > shutil.disk_usage(folder.parent).free:
        raise ArtifactError(f"no room for the {needed} bytes in {opened.filename} as {folder}")
    new = Path(tempfile.mkdtemp(prefix=_PART, dir=folder.parent))
    try:
        for one, path in members:
            target = new / path
            if one.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with opened.open(one) as read, target.open("xb") as write:
                shutil.copyfileobj(read, write)
        new.chmod(0o755)
        _publish(new, folder, lambda: _is_unpacked(opened, members, folder))
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _publish(new: Path, folder: Path, is_there: Callable[[], bool]) -> None:
    """Rename `new` to `folder`, removing an existing one, unless another process has unpacked the same meanwhile."""
    while True:
        try:
            return os.rename(new, folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
        if is_there():
            return shutil.rmtree(new)
        old = Path(tempfile.mkdtemp(prefix=_PART, dir=folder.parent))
        with suppress(FileNotFoundError):
            os.rename(folder, old / "old")
        shutil.rmtree(old)


def _is_unpacked(opened: zipfile.ZipFile, members: list[tuple[zipfile.ZipInfo, str]], folder: Path) -> bool:
    """Whether `folder` has exactly the files of the archive, with the same bytes."""
    wanted = {path: one for one, path in members if not one.is_dir()}
    with suppress(FileNotFoundError, NotADirectoryError):  # another process may be replacing it
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
        return folder.is_dir() and found == set(wanted) and all(_same(opened, wanted[p], folder / p) for p in wanted)
    return False


def _same(opened: zipfile.ZipFile, one: zipfile.ZipInfo, file: Path) -> bool:
    if file.is_symlink() or file.stat().st_size != one.file_size:
        return False
    with opened.open(one) as ours, file.open("rb") as theirs:
        while chunk := ours.read(1 << 20):
            if theirs.read(len(chunk)) != chunk:
                return False
    return True
