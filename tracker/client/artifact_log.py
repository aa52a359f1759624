"""Logs artifacts: copies their bytes next to the journal, then writes their frames. Nothing here raises."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tracker.client.clock import now_ms
from tracker.client.validation import Validation, as_path, as_text
from tracker.domain.errors import InvalidValue
from tracker.domain.frames import ArtifactLogged, Frame, Staged
from tracker.domain.limits import check_artifact_path

Stage = Callable[[bytes | str, str], Staged | None]
"""Copies bytes, or the file at a local path, to be published under a name; None if nothing is recorded."""


class ArtifactLog:
    """Logs a run's artifacts, from any thread; those that cannot be copied are refused, logged and counted."""

    def __init__(self, validation: Validation, stage: Stage, write: Callable[[Frame], None]) -> None:
        self._validation = validation
        self._stage = stage
        self._write = write

    def text(self, text: str, path: str) -> None:
        """Log a text as a UTF-8 file."""
        self._validation.checked(lambda: self.file(as_text("text", text).encode("utf-8", "backslashreplace"), path))

    def tree(self, local_path: str | os.PathLike[str], path: str | None) -> None:
        """Log a file, or each file of a folder, under `path` (default: its own name)."""

        def keep() -> None:
            source = Path(as_path("local_path", local_path))
            target = source.resolve().name if path is None else path
            if not source.exists():
                raise InvalidValue("artifact", f"{str(source)!r} does not exist")
            if source.is_dir():
                for file in sorted(p for p in source.rglob("*") if p.is_file()):
                    self.file(str(file), f"{target}/{file.relative_to(source).as_posix()}")
            else:
                self.file(str(source), target)

        self._validation.checked(keep)

    def file(self, source: str | bytes, path: str) -> None:
        """Log the file at a local path, or bytes."""

        def keep() -> None:
            staged = self._stage(source, check_artifact_path(path))
            if staged is not None:
                self._write(ArtifactLogged(ms=now_ms(), file=staged))

        self._validation.checked(keep)
