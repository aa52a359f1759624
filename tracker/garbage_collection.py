"""Garbage collection: removes deleted runs, pruned checkpoints and partial uploads for good.

Each item is removed by itself, rows and files together, so that a process killed midway leaves nothing half done.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tracker.artifacts import trash
from tracker.artifacts.local import LocalArtifacts, path_of
from tracker.artifacts.trash import Amount, Trash
from tracker.domain.errors import ArtifactError
from tracker.domain.identity import now_ms
from tracker.domain.ports import ArtifactHome

if TYPE_CHECKING:
    from tracker.store.removal import Deleted
    from tracker.store.store import SqlRunStore

_CHECKPOINTS = "checkpoints"
Kind = Literal["run", "model", "experiment", "checkpoint", "file", "copy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """One item that was removed, or would be: `files` files of `bytes` bytes, deleted by a user at `since_ms`.

    `kind`: a deleted run, logged model or experiment, with its rows; the file of a pruned checkpoint, whose row stays;
    a file of an upload that was never completed; a copy in this machine's cache. `kept` says why it was not removed.
    """

    kind: Kind
    id: str
    name: str
    since_ms: int | None = None
    files: int = 0
    bytes: int = 0
    kept: str | None = None


def collect(
    store: SqlRunStore, root: str, *, older_than_ms: int, cache: Path | None = None, dry_run: bool = False
) -> Iterator[Collected]:
    """Remove what was deleted longer ago than `older_than_ms`, and files that no row needs; yield each removed item.

    `root` is the URI below which the store's artifacts are. Running runs keep everything. With `dry_run` nothing is
    changed. Raises ArtifactError while another process does the same, and StoreError.
    """
    store.sweep()  # marks runs whose lease has expired as lost
    before_ms = now_ms() - older_than_ms
    with _Places(store, root, dry_run=dry_run) as places:
        deleted = store.removal.deleted(before_ms)
        for one in deleted:
            if found := places.remove(one, before_ms):
                yield found
        for experiment in store.removal.deleted_experiments(before_ms):
            if dry_run or store.removal.remove_experiment(experiment.id, before_ms):
                yield Collected(
                    kind="experiment", id=str(experiment.id), name=experiment.name, since_ms=experiment.deleted_ms
                )
        yield from places.pruned({one.id for one in deleted})
        yield from places.forsaken()
    if cache is not None:
        for path in trash.unused(cache, before_ms):
            yield _file("copy", path, dry_run)


class _Places:
    """The folders with files of a store's runs, on this machine; as a context manager it locks them."""

    def __init__(self, store: SqlRunStore, root: str, *, dry_run: bool) -> None:
        self._store = store
        self._root = path_of(root)
        self._home = LocalArtifacts(self._root)
        self._dry_run = dry_run
        self._stack = ExitStack()
        self._trashes: dict[Path, Trash] = {}

    def __enter__(self) -> _Places:
        with self._stack:
            self._trash(self._root)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def remove(self, one: Deleted, before_ms: int) -> Collected | None:
        """Remove the rows and files of a run or model; None if it was restored meanwhile."""
        place = self._place(one)
        if place is None:
            return _deleted(
                one, Amount(), f"its files are in {one.artifact_uri}, outside of {self._home.root.as_uri()}"
            )
        folder, name = place
        if folder != self._root and (others := trash.others(folder / name, "artifacts")):
            problem = f"{folder / name} has more than files of this {one.kind}: {', '.join(others)}; remove it yourself"
            return _deleted(one, Amount(), problem)
        if self._dry_run:
            return _deleted(one, trash.amount(folder / name))
        aside = self._trash(folder)
        try:
            if not self._store.removal.remove(one, before_ms, lambda: aside.set_aside(name)):
                return None
        except ArtifactError as error:
            return _deleted(one, Amount(), str(error))
        finally:
            amount = aside.amount(name)
            self._settle(aside, [name])
        return _deleted(one, amount)

    def pruned(self, without: Container[str]) -> Iterator[Collected]:
        """Remove files of pruned checkpoints that no row needs, but those of the runs `without`, removed as a whole.

        Safe while runs are running.
        """
        found = [one for one in self._pruned_files() if one.id not in without]
        if not found:
            return
        if not self._dry_run:
            self._store.remove_pruned(self._home)
        left = set() if self._dry_run else {one.name for one in self._pruned_files()}
        for one in found:
            yield replace(one, kept="it cannot be removed now") if one.name in left else one

    def _pruned_files(self) -> list[Collected]:
        home: ArtifactHome = self._home
        return [
            Collected(kind="checkpoint", id=run_id, name=uri, files=1, bytes=size)
            for run_id, uri, size in self._store.removal.pruned_files()
            if uri.startswith(f"{home.uri(run_id)}/")
        ]

    def forsaken(self) -> Iterator[Collected]:
        """Remove uploads that were not completed for a day, and checkpoint files without a row.

        A writer that died between file and row still has both in its journal, and they are shipped from there.
        """
        removal = self._store.removal
        alive = removal.alive()
        for path in trash.forsaken(self._root, spared=alive.__contains__):
            yield _file("file", path, self._dry_run)
        found = {folder.name: trash.by_content(folder / _CHECKPOINTS) for folder in trash.folders(self._root)}
        for run_id in sorted(removal.known(name for name, files in found.items() if files) - alive):
            # Compared by name: another path to the same folder would give other addresses.
            named = {uri.rpartition("/")[2] for uri in removal.checkpoint_uris(run_id)}
            for path in found[run_id]:
                if path.name not in named:
                    yield _file("file", path, self._dry_run)

    def _place(self, one: Deleted) -> tuple[Path, str] | None:
        """Parent folder and name of the folder with the files; None if they are outside of the store's folders."""
        if one.artifact_uri == self._home.uri(one.id):
            return self._root, one.id
        if one.location is not None and one.location.startswith("file:"):
            inner = one.location.rstrip("/") + ("/models" if one.kind == "model" else "")
            if one.artifact_uri == f"{inner}/{one.id}/artifacts":
                return path_of(inner), one.id
        if not one.artifact_uri.startswith("file:"):
            return None
        path = path_of(one.artifact_uri)
        return (self._root, one.id) if path.parent.is_dir() and not path.exists() else None  # it has none

    def _trash(self, folder: Path) -> Trash:
        """The trash of a folder, after settling what a killed process left in it."""
        if folder not in self._trashes:
            found = Trash(folder)
            if not self._dry_run:
                self._stack.enter_context(found.opened())
                self._settle(found, found.names())
            self._trashes[folder] = found
        return self._trashes[folder]

    def _settle(self, found: Trash, names: list[str]) -> None:
        """Put back the folders whose run or model still has rows, and remove the others."""
        known = self._store.removal.known(names)
        for name in names:
            if name in known:
                found.put_back(name)
            else:
                found.empty(name)


def _deleted(one: Deleted, amount: Amount, kept: str | None = None) -> Collected:
    return Collected(
        kind=one.kind,
        id=one.id,
        name=one.name,
        since_ms=one.deleted_ms,
        files=amount.files,
        bytes=amount.bytes,
        kept=kept,
    )


def _file(kind: Kind, path: Path, dry_run: bool) -> Collected:
    amount, kept = trash.amount(path), None
    if not dry_run:
        try:
            trash.remove(path)
        except ArtifactError as error:
            kept = str(error)
    return Collected(kind=kind, id=path.name, name=str(path), files=amount.files, bytes=amount.bytes, kept=kept)
