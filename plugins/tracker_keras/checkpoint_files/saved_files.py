"""A ModelCheckpoint's ledger: its best value and files, stored next to them so that a later process can continue."""

from __future__ import annotations

import hashlib
import json
import os
import string
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tracker.domain.goals import Goal
from tracker_keras.checkpoint_files import pending_copies
from tracker_keras.checkpoint_files.atomic_replace import delete

_PROCESS = uuid.uuid4().hex
"""Identifies this process, unlike a pid also among earlier ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedFile:
    """A written file; `value` is the monitored metric's, None if there was none. `path` is absolute."""

    path: str
    value: float | None
    size: int
    mtime_s: int

    @classmethod
    def at(cls, path: Path, value: float | None) -> SavedFile:
        """A record of the file at `path` as it is now."""
        found = path.stat()
        return cls(path=str(path), value=value, size=found.st_size, mtime_s=int(found.st_mtime))

    def is_there(self) -> bool:
        """Whether the file was neither deleted nor overwritten since."""
        try:
            found = os.stat(self.path)
        except OSError:
            return False
        return (found.st_size, int(found.st_mtime)) == (self.size, self.mtime_s)


@dataclass(slots=True, kw_only=True)
class Ledger:
    """The best value and the files of one path pattern: `.<pattern>.saved.json` next to the files, replaced atomically.

    A ledger with another metric, goal or shape of model is ignored.
    """

    home: Path
    monitor: str
    goal: Goal | None
    shape: str
    best: float | None = None
    files: list[SavedFile] = field(default_factory=list)

    @staticmethod
    def home_of(pattern: str) -> Path:
        """The ledger's path: in the deepest folder whose path has no placeholder."""
        parts = Path(os.path.abspath(pattern)).parts
        fixed = next(index for index, part in enumerate(parts) if index == len(parts) - 1 or fields_of(part))
        return Path(*parts[:fixed]) / f".{'_'.join(parts[fixed:])}.saved.json"

    def load(self, *, even_own: bool, with_files: bool) -> float | None:
        """Load the ledger on disk, if it matches, and return its best; `even_own`: even if this process wrote it.

        The best is dropped if its file was deleted or overwritten. `with_files` also loads the files, to be pruned.
        """
        try:
            found = json.loads(self.home.read_text())
            fits = [found[key] for key in ("monitor", "goal", "shape")] == [self.monitor, self.goal, self.shape]
            files = [SavedFile(**{**one, "path": str(self.home.parent / one["path"])}) for one in found["files"]]
            best, is_own = found["best"], found["process"] == _PROCESS
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if fits and (even_own or not is_own):
            there = [one for one in files if one.is_there()]
            self.files = there if with_files else []
            self.best = best if best is not None and any(one.value == best for one in there) else None
        return self.best

    def add(self, path: Path, value: float | None) -> None:
        """Add a file that was just written."""
        self.files = [one for one in self.files if one.path != str(path)]
        self.files.append(SavedFile.at(path, value))

    def prune(self, last: int | None, best: int | None) -> None:
        """Delete files that are not among the `last` last or `best` best; the newest and the best are always kept."""
        if last is None and best is None:
            return
        judged = [(one.value, one.path) for one in self.files if one.value is not None and self.goal is not None]
        ranked = [path for _, path in sorted(judged, key=lambda one: one[0], reverse=self.goal == "max")]
        kept = {*(one.path for one in self.files[-(last or 1) :]), *ranked[: best or 1]}
        for file in self.files:
            if file.path not in kept and file.is_there():
                pending_copies.wait_for(file.path)
                delete(file.path)
        self.files = [one for one in self.files if one.path in kept]

    def write(self) -> None:
        """Replace the ledger on disk, atomically."""
        text = json.dumps(
            {
                "monitor": self.monitor,
                "goal": self.goal,
                "shape": self.shape,
                "best": self.best,
                "process": _PROCESS,
                "files": [asdict(one) | {"path": os.path.relpath(one.path, self.home.parent)} for one in self.files],
            }
        )
        beside = self.home.with_suffix(f".{os.getpid()}")
        beside.write_text(text)
        os.replace(beside, self.home)


def fields_of(pattern: str) -> set[str]:
    """The names of the placeholders in a path pattern."""
    return {name.split(".")[0].split("[")[0] for _, name, _, _ in string.Formatter().parse(pattern) if name}


def shape_of(weights: Iterable[Any]) -> str:
    """A digest of the weights' shapes, to recognise a model of another architecture."""
    shapes = " ".join(str(tuple(weight.shape)) for weight in weights)
    return hashlib.sha256(shapes.encode()).hexdigest()[:16]
