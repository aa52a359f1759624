"""The transport of batches to a store, a database or a server, on the shipper's thread."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from tracker.domain.errors import InvalidStoreUrl, StoreUnavailable
from tracker.domain.frames import Ack, Batch, RunStarted
from tracker.domain.ports import ArtifactHome, Pruner, RunStore
from tracker.wire.frame_checks import check_batch


def at_home(batch: Batch, artifacts: ArtifactHome) -> Batch:
    """`batch` with the run's artifact address in `artifacts`."""
    if not any(isinstance(item, RunStarted) for _, item in batch.items):
        return batch
    root = artifacts.uri(batch.run_id)
    return replace(
        batch,
        items=[
            (number, replace(item, artifact_uri=root) if isinstance(item, RunStarted) else item)
            for number, item in batch.items
        ],
    )


class StoreTransport:
    """Transport that opens the store at the first batch, so that a run can start while its store is away.

    With `artifacts`, runs have their files there, whatever their first frames say.
    """

    def __init__(self, open_store: Callable[[], RunStore], artifacts: ArtifactHome | None = None) -> None:
        self._open_store = open_store
        self._artifacts = artifacts
        self._store: RunStore | None = None

    def send(self, batch: Batch) -> Ack:
        if self._store is None:
            try:
                self._store = self._open_store()
            except InvalidStoreUrl as error:
                # The URL was valid when the run began: its folder may reappear, and the frames are not at fault.
                raise StoreUnavailable(str(error)) from error
        check_batch(batch)
        return self._store.append(batch if self._artifacts is None else at_home(batch, self._artifacts))

    def remove_pruned(self, run_id: str, artifacts: ArtifactHome) -> None:
        if isinstance(self._store, Pruner):
            self._store.remove_pruned(artifacts, run_id)

    def close(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.close()
