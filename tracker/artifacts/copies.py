"""Copies of checkpoints on this machine: verified before anybody reads them, and whole or not there at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from tracker.artifacts import folder_archive
from tracker.domain.errors import ArtifactError
from tracker.domain.limits import check_format, check_run_id, check_sha256
from tracker.domain.ports import ArtifactHome
from tracker.domain.records import Checkpoint

_CACHE = "cache"
_ENDINGS = (".keras", ".weights.h5", ".h5", ".hdf5")

Told = Callable[[int], None] | None


def cache_of(store: str, home: Path) -> Path:
    """The folder in TRACKER_HOME for copies that nobody asked to have elsewhere, by the SHA-256 of their bytes.

    `store` is the store's URL without its password. Each has a folder of its own, so that `tracker gc` of one leaves
    the copies of others alone.
    """
    import hashlib

    return home / _CACHE / hashlib.sha256(store.encode()).hexdigest()[:16]


def place(checkpoint: Checkpoint, run_id: str, to: str | os.PathLike[str]) -> Path:
    """Where a copy goes that is wanted at `to`: there, or in it if that is a folder."""
    path = Path(to).absolute()
    is_folder = path.is_dir() or os.fspath(to).endswith(os.sep)
    return path / file_name(checkpoint, run_id) if is_folder else path


def file_name(checkpoint: Checkpoint, run_id: str) -> str:
    """What a copy is called in a folder: the run, the epoch, and the ending by which Keras knows the format.

    InvalidValue if the record, which comes from a store that others may have written, would name another place.
    """
    state = "-state" if checkpoint.role == "state" else ""
    return f"{check_run_id(run_id)}-epoch-{checkpoint.epoch:d}{state}{_ending(checkpoint)}"


def copy(home: ArtifactHome, checkpoint: Checkpoint, target: Path, told: Told = None) -> Path:
    """The checkpoint as `target`, replacing what is there; `told` hears how many bytes there are so far.

    A folder that was kept as an archive is one again. ArtifactError if the bytes are gone or not those recorded.
    """
    if not folder_archive.is_archive(checkpoint.format):
        return home.fetch(checkpoint.uri, target, sha256=checkpoint.sha256, size=checkpoint.size, told=told)
    handle, name = _temporary(target.parent)
    os.close(handle)
    try:
        home.fetch(checkpoint.uri, Path(name), sha256=checkpoint.sha256, size=checkpoint.size, told=told)
        return folder_archive.unpack(Path(name), target)
    finally:
        Path(name).unlink(missing_ok=True)


def cached(home: ArtifactHome, checkpoint: Checkpoint, cache: Path, told: Told = None) -> Path:
    """The checkpoint as a file, or a folder, below `cache`: fetched unless it is there with the bytes recorded.

    InvalidValue as `file_name` says.
    """
    archive = folder_archive.is_archive(checkpoint.format)
    digest = check_sha256("sha256", checkpoint.sha256)
    file = cache / digest[:2] / f"{digest}{checkpoint.format if archive else _ending(checkpoint)}"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if _digest(file) == digest:
            os.utime(file)  # `tracker gc` goes by it
        else:
            home.fetch(checkpoint.uri, file, sha256=digest, size=checkpoint.size, told=told)
    except OSError as error:
        raise ArtifactError(
            f"cannot keep a copy in {file.parent}: {error.strerror or error}; name a place with to="
        ) from error
    return folder_archive.unpack(file, file.with_name(f"{digest}{_ending(checkpoint)}")) if archive else file


def is_folder(checkpoint: Checkpoint) -> bool:
    """Whether a copy of it is a folder."""
    return folder_archive.is_archive(checkpoint.format)


def suits(checkpoint: Checkpoint, path: Path) -> bool:
    """Whether Keras, which goes by the name's ending, would read the checkpoint's format at `path`."""
    ending = _ending(checkpoint)
    return ending not in _ENDINGS or path.name.endswith(ending)


def _ending(checkpoint: Checkpoint) -> str:
    ending = check_format("format", checkpoint.format)
    return ending.removesuffix(folder_archive.ENDING) if folder_archive.is_archive(ending) else ending


def _digest(file: Path) -> str | None:
    import hashlib

    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def _temporary(folder: Path) -> tuple[int, str]:
    try:
        return tempfile.mkstemp(prefix=".part-", dir=folder)
    except OSError as error:
        raise ArtifactError(f"cannot write in {folder}: {error.strerror or error}") from error
