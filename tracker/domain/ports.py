"""The seams. What each promises is said here, once; every implementation inherits the tests in `tests/contracts`."""

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
    """How a journal's batches reach a store."""

    def send(self, batch: Batch) -> Ack:
        """Deliver `batch`; return once its frames are committed to disk.

        Raises StoreError if it is unknown whether the batch arrived: send it again, frames that were seen are
        skipped. Any other TrackerError means that the store will never take this batch.
        """
        ...

    def remove_pruned(self, run_id: str, artifacts: ArtifactHome) -> None:
        """Remove the files of the run's pruned checkpoints, if nobody else does: a tracking server does it itself.

        Raises TrackerError; the next call tries again.
        """
        ...

    def close(self) -> None:
        """Release connections. A closed transport opens again at the next `send`."""
        ...


class ArtifactHome(Protocol):
    """Where files of runs live. `path` is relative, of `/`-separated names, below the run's own root.

    Every method but `uri`, which asks nobody, raises StoreError while the home is away: call again.
    """

    def uri(self, run_id: str) -> str:
        """The root of the run's files."""
        ...

    def put(self, run_id: str, path: str, source: Path, *, final: bool = False) -> tuple[str, str]:
        """Store the bytes of `source` as `path`, whole or not at all; return (uri, SHA-256 in hex).

        Putting the same bytes again is no error, other bytes replace the old. With `final` nobody writes to `source`
        any more, so it need not be copied. Raises InvalidValue if a file of this name can never be stored here (a
        file stands where one of its folders would be, a folder where it would be, the file system has no such names);
        ArtifactError if this file cannot be stored now (no room, a source that cannot be read).
        """
        ...

    def fetch(
        self,
        uri: str,
        target: Path,
        *,
        sha256: str | None = None,
        size: int | None = None,
        told: Callable[[int], None] | None = None,
    ) -> Path:
        """Copy the file at `uri` to `target`, whole or not at all; `told` hears how many bytes there are so far.

        ArtifactError if it is not there or no file, or its digest is not `sha256`, or it has more than `size` bytes:
        no more of it is read.
        """
        ...

    def list(self, run_id: str) -> Sequence[str]:
        """The paths of all files of the run, sorted."""
        ...


@runtime_checkable
class Folders(Protocol):
    """An artifact home whose folders can be looked into, and whose files can be removed."""

    def entries(self, run_id: str, path: str = "") -> Sequence[Entry]:
        """What lies directly in a folder, "" for the run's root, by path; nothing if there is no such folder.

        Symbolic links are left out.
        """
        ...

    def delete(self, run_id: str, path: str = "") -> None:
        """Remove a file, or a folder with all that is in it; what is not there is no error.

        Symbolic links are removed, not followed. Raises ArtifactError.
        """
        ...


class RunReader(Protocol):
    """The read side of a store. Every method raises StoreUnavailable while the store does not answer.

    A `run_id` that is not in the store raises RunNotFound. Unless said otherwise what is superseded is not shown.
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
        """Runs whose id is or begins with `text`, or whose name is `text`, newest first; for people who type.

        Runs that are deleted, with `deleted`, else those that are not; a whole id finds its run either way.
        """
        ...

    def progress(self, run_id: str) -> Progress:
        """Where the run stands, for who continues it."""
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
        order of step and then of arrival. Points that clients without a journal logged to one step are all there.
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
    """A store of runs: one way in, `append`, and the reads. Usable from many threads and processes at once."""

    def append(self, batch: Batch) -> Ack:
        """Apply `batch` in one transaction; return once it is committed to disk.

        Frames whose number was applied before are skipped, so that sending twice stores once. Series summaries, the
        best epoch and supersession are updated in the same transaction, and the run's lease is renewed. Raises
        StoreUnavailable if nothing was applied and a retry may succeed; RunNotFound if the run is not there and the
        batch does not start it; StoreRestored if less than `batch.after` is there; InvalidValue if the batch can never
        be applied.
        """
        ...

    def ready(self) -> None:
        """Return if a write would be taken now; raises StoreUnavailable within seconds if not."""
        ...

    def request_stop(self, run_id: str) -> None:
        """Ask the run to stop at its next convenience; recorded as the event `stop_requested`."""
        ...

    def delete_run(self, run_id: str) -> None:
        """Hide the run from every list; its rows stay."""
        ...

    def restore_run(self, run_id: str) -> None:
        """Show a deleted run again."""
        ...

    def tag_checkpoint(self, run_id: str, checkpoint_id: int, tag: str | None) -> None:
        """Tag a checkpoint, so that retention keeps it; None takes the tag off, and retention may prune it at once.

        CheckpointNotFound; InvalidValue for a tag that cannot be one, or a checkpoint that was pruned.
        """
        ...

    def close(self) -> None:
        """Release connections."""
        ...


@runtime_checkable
class Pruner(Protocol):
    """A store on whose side files of pruned checkpoints are removed by whoever has their artifact home."""

    def remove_pruned(self, home: ArtifactHome, run_id: str | None = None) -> Removed:
        """Remove the files of pruned checkpoints, of one run or of all, that lie in `home` and no row needs.

        Safe beside writers, and when killed at any moment: what is left is removed by the next call. Such files in
        other homes, and in one that is no `Folders`, stay.
        """
        ...
