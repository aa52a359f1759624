"""Artifacts in a local folder: `<root>/<run id>/<path>`. A file is there whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote, urlsplit

from tracker.domain.errors import ArtifactError, InvalidValue
from tracker.domain.limits import check_artifact_path, check_run_id

if TYPE_CHECKING:
    from tracker.domain.records import Entry

_CHUNK = 1024 * 1024
_NAME_AT_FAULT = frozenset(
    {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL,
     errno.ELOOP}
)  # fmt: skip


def is_name_at_fault(error: BaseException | None) -> bool:
    """Whether a file system that fails so will never take a file of this name, however often it is asked.

    A file stands where a folder would have to be, or a folder where the file would; or it has no such names.
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
            finally:  # also where both are names of one file already: then nothing was replaced
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
        told: Callable[[int], None] | None = None,
    ) -> Path:
        source = path_of(uri)
        try:
            part, digest = _copy(source, target.parent, told, size)
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
    """Give `part` the name `target`; it is gone if that cannot be. OSError."""
    try:
        os.replace(part, target)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _link(source: Path, folder: Path) -> tuple[Path, str] | None:
    """Give `source` another name in `folder`, as `_copy` makes a copy; None where there can be no link."""
    import hashlib
    import secrets

    part = folder / f"{_PART}{secrets.token_hex(8)}"
    try:
        os.link(source, part, follow_symlinks=False)
    except OSError:
        return None  # another disk, or one that has no links
    try:
        with open(part, "rb") as read:
            digest = hashlib.file_digest(read, "sha256").hexdigest()
            os.fsync(read.fileno())
        os.utime(part)  # its age as a file of this folder, which is what a collection of forsaken ones looks at
        os.chmod(part, 0o644)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return part, digest


def _copy(
    source: Path, folder: Path, told: Callable[[int], None] | None = None, size: int | None = None
) -> tuple[Path, str]:
    """Copy `source` to a new file in `folder`, on disk when this returns; return it and the SHA-256 of its bytes.

    OSError, ArtifactError if it is no regular file, or has more than `size` bytes.
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
                if told is not None:
                    told(write.tell())
            write.flush()
            os.fsync(write.fileno())
        os.chmod(name, 0o644)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name), digest.hexdigest()


def _regular(path: Path) -> BinaryIO:
    """The file at `path`, opened to be read. OSError; ArtifactError for what has no end, or makes its reader wait."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ArtifactError(f"{path} is no file")
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def path_of(uri: str) -> Path:
    """The local path that a `file:` URI names; ArtifactError for any other."""
    parts = urlsplit(uri)
    if parts.scheme != "file":
        raise ArtifactError(f"{uri!r} is not a file: URI")
    return Path(unquote(parts.path))
