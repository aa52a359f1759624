"""Artifact home in a local folder: `<root>/<run id>/<path>`. Files are created atomically."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote, urlsplit

from tracker.domain.errors import ArtifactError, InvalidValue
from tracker.domain.limits import check_artifact_path, check_run_id, excerpt

if TYPE_CHECKING:
    from tracker.domain.records import Entry

_CHUNK = 1024 * 1024
_NAME_AT_FAULT = frozenset(
    {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL,
     errno.ELOOP}
)  # fmt: skip


def is_name_at_fault(error: BaseException | None) -> bool:
    """Whether this error means that the file system will never accept a file of this name, so retries are useless.

    A file exists where a folder would have to be, or a folder in place of the file, or the name is not allowed.
    """
    return isinstance(error, UnicodeError) or (isinstance(error, OSError) and error.errno in _NAME_AT_FAULT)


class LocalArtifacts:
    """The artifact home of the embedded store."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def uri(self, run_id: str) -> str:
        return (self.root / check_run_id(run_id)).as_uri()

    def put(self, run_id: str, path: str, source: Path, *, final: bool = False) -> tuple[str, str]:
        folder = self.root / check_run_id(run_id)
        check_artifact_path(path.replace("{sha256}", "0" * 64))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            part, digest = (_link(source, folder) if final else None) or _copy(source, folder)
            try:
                target = folder / path.replace("{sha256}", digest)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(part, target)
            finally:  # if both already name the same file, `os.replace` does nothing and keeps `part`
                part.unlink(missing_ok=True)
        except (OSError, UnicodeError) as error:
            problem = f"cannot store {path!r} in {folder}: {getattr(error, 'strerror', None) or error}"
            raise InvalidValue("path", problem) if is_name_at_fault(error) else ArtifactError(problem) from error
        return target.as_uri(), digest

    def fetch(
        self,
        uri: str,
        target: Path,
        *,
        sha256: str | None = None,
        size: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> Path:
        source = path_of(uri)
        try:
            part, digest = _copy(source, target.parent, on_progress, size)
            if sha256 is not None and digest != sha256:
                part.unlink(missing_ok=True)
                raise ArtifactError(f"{source} is damaged: its SHA-256 is {digest}, recorded was {sha256}")
            _replace(part, target)
        except OSError as error:
            raise ArtifactError(f"cannot copy {source} to {target}: {error.strerror or error}") from error
        return target

    def list(self, run_id: str) -> Sequence[str]:
        folder = self.root / check_run_id(run_id)
        return sorted(
            file.relative_to(folder).as_posix()
            for file in folder.rglob("*")
            if file.is_file() and not file.name.startswith(_PART)
        )

    def entries(self, run_id: str, path: str = "") -> Sequence[Entry]:
        from tracker.artifacts import safe_paths

        return safe_paths.entries(self.root, run_id, path)

    def delete(self, run_id: str, path: str = "") -> None:
        from tracker.artifacts import safe_paths

        try:
            safe_paths.remove(self.root, run_id, path)
        except OSError as error:
            raise ArtifactError(f"cannot remove {path!r} of run {run_id}: {error.strerror or error}") from error


_PART = ".part-"


def _replace(part: Path, target: Path) -> None:
    """Rename `part` to `target`; if that fails `part` is removed. OSError."""
    try:
        os.replace(part, target)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _link(source: Path, folder: Path) -> tuple[Path, str] | None:
    """Hard-link `source` into `folder`, in place of `_copy`; None if that is not possible."""
    import hashlib
    import secrets

    part = folder / f"{_PART}{secrets.token_hex(8)}"
    try:
        os.link(source, part, follow_symlinks=False)
    except OSError:
        return None  # another file system, or one without hard links
    try:
        with open(part, "rb") as read:
            digest = hashlib.file_digest(read, "sha256").hexdigest()
            os.fsync(read.fileno())
        os.utime(part)  # garbage collection removes abandoned files by their age in this folder
        os.chmod(part, 0o644)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return part, digest


def _copy(
    source: Path, folder: Path, on_progress: Callable[[int], None] | None = None, size: int | None = None
) -> tuple[Path, str]:
    """Copy `source` to a new file in `folder`, synced to disk; return its path and the SHA-256 of its bytes.

    OSError; ArtifactError if it is not a regular file, or has more than `size` bytes.
    """
    import hashlib
    import tempfile

    digest = hashlib.sha256()
    handle, name = tempfile.mkstemp(prefix=_PART, dir=folder)
    try:
        with os.fdopen(handle, "wb") as write, _regular(source) as read:
            while chunk := read.read(_CHUNK):
                if size is not None and write.tell() + len(chunk) > size:
                    raise ArtifactError(f"{source} is damaged: it has more than the {size} bytes that were recorded")
                digest.update(chunk)
                write.write(chunk)
                if on_progress is not None:
                    on_progress(write.tell())
            write.flush()
            os.fsync(write.fileno())
        os.chmod(name, 0o644)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name), digest.hexdigest()


def _regular(path: Path) -> BinaryIO:
    """Open the regular file at `path` for reading. OSError; ArtifactError for devices, pipes and the like."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ArtifactError(f"{path} is no file")
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def path_of(uri: str) -> Path:
    """The local path of a `file:` URI; ArtifactError for any other URI."""
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise ArtifactError(f"{excerpt(uri)} is not a file: URI: {error}") from None
    path = unquote(parts.path)
    if parts.scheme != "file" or not path.startswith("/") or "\0" in path:
        raise ArtifactError(f"{excerpt(uri)} is not a file: URI of an absolute path")
    return Path(path)
