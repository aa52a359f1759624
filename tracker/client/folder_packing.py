"""Packs a checkpoint folder (such as Orbax') into one reproducible zip file: equal content gives equal bytes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tracker.domain.limits import check_safe_path
from tracker.domain.vocabulary import FOLDER_ARCHIVE, ORBAX_ARCHIVE

_MARKS = ("_CHECKPOINT_METADATA", "_METADATA", "checkpoint_metadata.json", "pytree.orbax-checkpoint")
"""Orbax writes one of these files into each of its folders."""
_DATE = (1980, 1, 1, 0, 0, 0)


def archive_format(folder: Path) -> str:
    """The checkpoint format of the folder's archive."""
    places = (folder, *folder.glob("[0-9]*"))  # one step, or the folder that holds the steps
    return ORBAX_ARCHIVE if any((place / name).exists() for place in places for name in _MARKS) else FOLDER_ARCHIVE


def files_of(folder: Path) -> list[Path]:
    """The regular files in and below the folder, sorted by path; links are left out."""
    found = [Path(place, name) for place, _, names in os.walk(folder) for name in names]
    return sorted((file for file in found if file.is_file() and not file.is_symlink()), key=lambda f: f.as_posix())


def pack(folder: Path, target: Path) -> None:
    """Write the files of `folder`, uncompressed, to the archive `target`. InvalidValue for invalid artifact names."""
    import zipfile

    empty = sorted(Path(place) for place, inner, names in os.walk(folder) if not inner and not names)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for place in empty:
            if place != folder:
                archive.writestr(zipfile.ZipInfo(f"{place.relative_to(folder).as_posix()}/", _DATE), b"")
        for file in files_of(folder):
            info = zipfile.ZipInfo(check_safe_path(file.relative_to(folder).as_posix()), _DATE)
            info.file_size = file.stat().st_size
            with file.open("rb") as read, archive.open(info, "w") as write:
                shutil.copyfileobj(read, write, 1024 * 1024)
