"""Local copies of checkpoints: verified before use, and created atomically."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from tracker.artifacts import folder_unpacking
from tracker.domain.errors import ArtifactError
from tracker.domain.limits import check_format, check_run_id, check_sha256, excerpt
from tracker.domain.ports import ArtifactHome
from tracker.domain.records import Checkpoint

_CACHE = "cache"
_ENDINGS = (".keras", ".weights.h5", ".h5", ".hdf5")

OnProgress = Callable[[int], None] | None


def cache_of(store: str, home: Path) -> Path:
    """The cache folder of a store in TRACKER_HOME, for copies named by the SHA-256 of their bytes.

    `store` is the store's URL without its password. Each store has its own folder, so that `tracker gc` of one does not
    remove the copies of others.
    """
    import hashlib

    return home / _CACHE / hashlib.sha256(store.encode()).hexdigest()[:16]


def place(checkpoint: Checkpoint, run_id: str, to: str | os.PathLike[str]) -> Path:
    """The path of a copy to `to`: this path, or a file in it if it is a folder."""
    path = Path(to).absolute()
    is_folder = path.is_dir() or os.fspath(to).endswith(os.sep)
    return path / file_name(checkpoint, run_id) if is_folder else path


def file_name(checkpoint: Checkpoint, run_id: str) -> str:
    """The name of a copy in a folder: the run, the epoch, and the suffix by which Keras recognises the format.

    InvalidValue if the record, which is from a store that others can write to, would give a path elsewhere.
    """
    state = "-state" if checkpoint.role == "state" else ""
    return f"{check_run_id(run_id)}-epoch-{checkpoint.epoch:d}{state}{_ending(checkpoint)}"


def fetch(
    home: ArtifactHome, checkpoint: Checkpoint, run_id: str, target: Path, on_progress: OnProgress = None
) -> Path:
    """Fetch the checkpoint's file to `target`, verified; `on_progress` gets the number of bytes so far.

    ArtifactError if the bytes are missing, differ from those recorded, or would not be read from the run's own folder:
    the address is from a store that others can write to.
    """
    parts = unquote(checkpoint.uri).split("/")
    # Next to its journal a file is in the folder `<run id>.<writer>.files`.
    if ".." in parts or not any(part.partition(".")[0] == run_id for part in parts):
        raise ArtifactError(
            f"{excerpt(checkpoint.uri)} is not an address of a file of run {run_id}, so nothing is read from there"
        )
    digest = check_sha256("sha256", checkpoint.sha256)
    return home.fetch(checkpoint.uri, target, sha256=digest, size=checkpoint.size, on_progress=on_progress)


def copy(home: ArtifactHome, checkpoint: Checkpoint, run_id: str, target: Path, on_progress: OnProgress = None) -> Path:
    """`fetch`, to a `target` that is replaced; the archive of a folder is unpacked."""
    if not folder_unpacking.is_archive(checkpoint.format):
        return fetch(home, checkpoint, run_id, target, on_progress)
    handle, name = _temporary(target.parent)
    os.close(handle)
    try:
        fetch(home, checkpoint, run_id, Path(name), on_progress)
        return folder_unpacking.unpack(Path(name), target)
    finally:
        Path(name).unlink(missing_ok=True)


def cached(
    home: ArtifactHome, checkpoint: Checkpoint, run_id: str, cache: Path, on_progress: OnProgress = None
) -> Path:
    """The checkpoint as a file or folder below `cache`: fetched unless it is there with the recorded bytes.

    InvalidValue as in `file_name`.
    """
    archive = folder_unpacking.is_archive(checkpoint.format)
    digest = check_sha256("sha256", checkpoint.sha256)
    file = cache / digest[:2] / f"{digest}{checkpoint.format if archive else _ending(checkpoint)}"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if _digest(file) == digest:
            os.utime(file)  # `tracker gc` removes copies by their time of last use
        else:
            fetch(home, checkpoint, run_id, file, on_progress)
    except OSError as error:
        raise ArtifactError(
            f"cannot keep a copy in {file.parent}: {error.strerror or error}; name a place with to="
        ) from error
    return folder_unpacking.unpack(file, file.with_name(f"{digest}{_ending(checkpoint)}")) if archive else file


def is_folder(checkpoint: Checkpoint) -> bool:
    """Whether a copy of the checkpoint is a folder."""
    return folder_unpacking.is_archive(checkpoint.format)


def suits(checkpoint: Checkpoint, path: Path) -> bool:
    """Whether the suffix of `path` is the one by which Keras recognises the checkpoint's format."""
    ending = _ending(checkpoint)
    return ending not in _ENDINGS or path.name.endswith(ending)


def _ending(checkpoint: Checkpoint) -> str:
    ending = check_format("format", checkpoint.format)
    return ending.removesuffix(folder_unpacking.ENDING) if folder_unpacking.is_archive(ending) else ending


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
