"""Ports, the interfaces between Tracker's parts: every implementation inherits the tests in `tests/contracts`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from tracker.domain.frames import Ack, Batch

if TYPE_CHECKING:
    from tracker.domain.records import (
        Checkpoint,
        Entry,
        Epoch,
        Event,
        Experiment,
        Fit,
        Histogram,
        History,
        Removed,
        Run,
        RunPage,
        Series,
    )
    from tracker.domain.run_progress import Progress


class Transport(Protocol):
    """Sends a journal's batches to a store."""

    def send(self, batch: Batch) -> Ack:
        """Deliver `batch`; return once its frames are committed to disk.

        Raises StoreError if it is unknown whether the batch arrived: send it again, frames that were applied are
        skipped. Any other TrackerError means that the store will never accept this batch.
        """
        ...

    def remove_pruned(self, run_id: str, artifacts: ArtifactHome) -> None:
        """Remove the files of the run's pruned checkpoints, unless a tracking server does it itself.

        Raises TrackerError; the next call tries again.
        """
        ...

    def close(self) -> None:
        """Release connections. A closed transport opens again at the next `send`."""
        ...


class ArtifactHome(Protocol):
    """A place that keeps the files of runs. `path` is relative, of `/`-separated names, below the run's own root.

    Every method but `uri`, which needs no connection, raises StoreError while the home does not answer: call again.
    """

    def uri(self, run_id: str) -> str:
        """The root of the run's files."""
        ...

    def put(self, run_id: str, path: str, source: Path, *, final: bool = False) -> tuple[str, str]:
        """Store the bytes of `source` as `path`, whole or not at all; return (uri, SHA-256 in hex).

        Storing the same bytes again is no error, other bytes replace the old. With `final`, `source` does not change
        any more, so it need not be copied. Raises InvalidValue if a file of this name can never be stored here (one of
        its folders is a file, it is a folder itself, or the file system does not allow such names); ArtifactError if
        this file cannot be stored now (no room, a source that cannot be read).
        """
        ...

    def fetch(
        self,
        uri: str,
        target: Path,
        *,
        sha256: str | None = None,
        size: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> Path:
        """Copy the file at `uri` to `target`, whole or not at all; `on_progress` gets the number of bytes so far.

        ArtifactError if it does not exist, is not a file, or its digest is not `sha256`, or it has more than `size`
        bytes: then reading stops.
        """
        ...

    def list(self, run_id: str) -> Sequence[str]:
        """The paths of all files of the run, sorted."""
        ...


@runtime_checkable
class Folders(Protocol):
    """An artifact home that can list folders and remove files."""

    def entries(self, run_id: str, path: str = "") -> Sequence[Entry]:
        """The files and folders directly in a folder, "" for the run's root, by path; empty if there is no such folder.

        Symbolic links are left out.
        """
        ...

    def delete(self, run_id: str, path: str = "") -> None:
        """Remove a file, or a folder with all its contents; a missing one is no error.

        Symbolic links are removed, not followed. Raises ArtifactError.
        """
        ...


class RunReader(Protocol):
    """The read side of a store. Every method raises StoreUnavailable while the store does not answer.

    A `run_id` that is not in the store raises RunNotFound. Superseded data is left out unless said otherwise.
    """

    url: str

    def experiments(self) -> Sequence[Experiment]:
        """All experiments that are not deleted, by id."""
        ...

    def search_runs(
        self,
        filter: str = "",
        *,
        experiments: Iterable[str] | None = None,
        order_by: Iterable[str] = (),
        limit: int = 100,
        page_token: str | None = None,
    ) -> RunPage:
        """Runs that are not deleted and match `filter`, newest first unless `order_by` says otherwise.

        `order_by` takes terms like `metrics.val_loss.best ASC`; runs without the value come last, NaN before them.
        Ties go newest first. Raises InvalidFilter, InvalidPageToken, InvalidValue (limit: 1 to 50 000).
        """
        ...

    def get_run(self, run_id: str) -> Run:
        """The run, deleted or not."""
        ...

    def find_runs(self, text: str, *, limit: int = 10, deleted: bool = False) -> Sequence[Run]:
        """Runs whose id is or begins with `text`, or whose name is `text`, newest first; for input by people.

        With `deleted` only runs that are deleted, else only others; a whole id finds its run either way.
        """
        ...

    def progress(self, run_id: str) -> Progress:
        """The run's progress, for a client that continues it."""
        ...

    def params(self, run_id: str) -> Mapping[str, Any]:
        """Parameters by key, with their JSON types."""
        ...

    def tags(self, run_id: str) -> Mapping[str, str]:
        """Tags by key."""
        ...

    def metrics(self, run_id: str) -> Mapping[str, Series]:
        """Summaries of the run's series by key."""
        ...

    def history(
        self,
        run_id: str,
        key: str,
        *,
        max_points: int | None = None,
        raw: bool = False,
        first_step: int | None = None,
        last_step: int | None = None,
    ) -> History:
        """The series' points in step order, each step once; SeriesNotFound if the run has no such metric.

        Those of the steps from `first_step` to `last_step`, both included. With `max_points` at most that many (at
        least 4): the first, the last and every bucket's minimum and maximum. With `raw` every point ever written, in
        order of step and then of arrival. Unnumbered points of one step are all included.
        """
        ...

    def fits(self, run_id: str) -> Sequence[Fit]:
        """Fits by number."""
        ...

    def epochs(self, run_id: str) -> Sequence[Epoch]:
        """Epochs by number, each once, with their metrics."""
        ...

    def events(self, run_id: str) -> Sequence[Event]:
        """Events by time."""
        ...

    def checkpoints(self, run_id: str) -> Sequence[Checkpoint]:
        """Checkpoints, oldest first, pruned ones included."""
        ...

    def histograms(self, run_id: str, key: str | None = None) -> Sequence[Histogram]:
        """Histograms in order of key and step."""
        ...


@runtime_checkable
class RunStore(RunReader, Protocol):
    """A store of runs: journals write to it by `append`. Usable from many threads and processes at once."""

    def append(self, batch: Batch) -> Ack:
        """Apply `batch` in one transaction; return once it is committed to disk.

        Frames whose number was applied before are skipped, so that sending twice stores once. Series summaries, the
        best epoch and supersession are updated in the same transaction, and the run's lease is renewed. Raises
        StoreUnavailable if nothing was applied and a retry may succeed; RunNotFound if the run does not exist and the
        batch does not start it; StoreRestored if the store has less than `batch.after`; InvalidValue if the batch can
        never be applied.
        """
        ...

    def ready(self) -> None:
        """Return if a write would be accepted now; raises StoreUnavailable within seconds if not."""
        ...

    def request_stop(self, run_id: str) -> None:
        """Ask the run's training to stop; recorded as the event `stop_requested`."""
        ...

    def delete_run(self, run_id: str) -> None:
        """Hide the run from every list; its rows stay."""
        ...

    def restore_run(self, run_id: str) -> None:
        """Show a deleted run again."""
        ...

    def tag_checkpoint(self, run_id: str, checkpoint_id: int, tag: str | None) -> None:
        """Tag a checkpoint, so that retention keeps it; None removes the tag, and retention may prune it at once.

        CheckpointNotFound; InvalidValue for a tag that cannot be one, or a checkpoint that was pruned.
        """
        ...

    def close(self) -> None:
        """Release connections."""
        ...


@runtime_checkable
class Pruner(Protocol):
    """A store that can remove the files of pruned checkpoints from an artifact home."""

    def remove_pruned(self, home: ArtifactHome, run_id: str | None = None) -> Removed:
        """Remove the files of pruned checkpoints, of one run or of all, that are in `home` and that no row needs.

        Safe with concurrent writers, and if killed at any moment: the next call removes what is left. Such files in
        other homes, and in one that is no `Folders`, stay.
        """
        ...
