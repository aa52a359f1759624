"""One journal's way to the store: read, publish files, cut a batch, send, go on. The shipper and `sync` both use it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from msgspec.structs import replace

from tracker.client.batches import make_batch
from tracker.client.journal import Journal
from tracker.client.journal_reader import JournalReader
from tracker.domain.errors import RunNotFound, StoreError, StoreUnavailable, TrackerError
from tracker.domain.frames import Ack, ArtifactLogged, Batch, CheckpointLogged, Frame, Item
from tracker.domain.ports import ArtifactHome, Transport

log = logging.getLogger("tracker")

READ_BYTES = 512 * 1024
"""How much of the journal goes into one transaction."""
PUBLISH_ATTEMPTS = 5
"""How often a file is tried before it is left beside the journal and the rest goes on."""


class Delivery:
    """Delivers a journal in order. `delivered_points` counts the metric points that are stored and committed."""

    def __init__(
        self, journal: Journal, run_id: str, writer: str, transport: Transport, artifacts: ArtifactHome
    ) -> None:
        self._journal = journal
        self._reader = JournalReader(journal.fd, journal.start)
        self._run_id = run_id
        self._writer = writer
        self._transport = transport
        self._artifacts = artifacts
        self._waiting: list[tuple[int, Frame]] = []
        self._published: dict[int, Item | None] = {}
        self._failed_puts = 0
        self.delivered_points = 0
        self.acknowledged = 0
        self.refused = 0
        self.stop_requested = False

    @property
    def garbage(self) -> int:
        """Bytes of the journal that were no frame, and frames of an unknown kind."""
        return self._reader.garbage + self._reader.undecodable

    @property
    def complete(self) -> bool:
        """Whether all that was written to the journal is in the store."""
        return not self._waiting and self._reader.last_number >= self._journal.last_number

    def renew(self) -> None:
        """Renew the run's lease. Raises StoreError while the store is away."""
        self._heed(self._transport.send(Batch(run_id=self._run_id, writer=self._writer, first=0, last=0)))

    def deliver(self) -> bool:
        """Deliver the next piece; False if there is none. Raises StoreError while the store is away: call again."""
        if not self._waiting:
            self._waiting = self._reader.read(READ_BYTES)
        if not self._waiting:
            return False
        self._send(self._waiting)
        self._waiting = []
        self._published.clear()
        return True

    def skip_known(self) -> None:
        """Ask how far the store has this journal already, so that what is stored is not sent again."""
        try:
            known = self._transport.send(Batch(run_id=self._run_id, writer=self._writer, first=0, last=0)).last
        except RunNotFound:
            known = 0
        while self._reader.last_number < known and (frames := self._reader.read(READ_BYTES)):
            seen = [(number, frame) for number, frame in frames if number <= known]
            self._waiting = frames[len(seen) :]
            self.delivered_points += make_batch(self._run_id, self._writer, seen).points
        self.acknowledged = known

    def _send(self, frames: Sequence[tuple[int, Frame]]) -> None:
        batch = make_batch(self._run_id, self._writer, frames)
        self._publish_files(batch)
        try:
            ack = self._transport.send(batch)
        except StoreError:
            raise
        except TrackerError as error:
            self._send_apart(frames, error)
            return
        self._heed(ack)
        if batch.last > self.acknowledged:
            self.acknowledged = batch.last
            self.delivered_points += batch.points

    def _send_apart(self, frames: Sequence[tuple[int, Frame]], error: TrackerError) -> None:
        """Halve what the store refused until the frame at fault stands alone; the rest goes through."""
        if len(frames) > 1:
            middle = len(frames) // 2
            self._send(frames[:middle])
            self._send(frames[middle:])
            return
        self.refused += 1
        log.error("the store refused frame %d of %s: %s", frames[0][0], self._journal.path, error)

    def _heed(self, ack: Ack) -> None:
        self.stop_requested = self.stop_requested or ack.stop

    def _publish_files(self, batch: Batch) -> None:
        """Put the files that `batch` names into the artifact home; raises StoreUnavailable to be called again.

        Files are published before the rows that name them. One that cannot be published costs only its own frame.
        """
        for index in range(len(batch.items) - 1, -1, -1):
            number, item = batch.items[index]
            if isinstance(item, ArtifactLogged | CheckpointLogged):
                if number not in self._published:
                    self._published[number] = self._publish(item)
                published = self._published[number]
                if published is None:
                    del batch.items[index]
                else:
                    batch.items[index] = (number, published)

    def _publish(self, item: ArtifactLogged | CheckpointLogged) -> Item | None:
        """The item once its file is published; None if the file was given up."""
        try:
            uri, digest = self._artifacts.put(self._run_id, item.file.path, self._journal.files / item.file.name)
        except TrackerError as error:
            self._failed_puts += 1
            if self._failed_puts < PUBLISH_ATTEMPTS:
                raise StoreUnavailable(str(error)) from error
            self._failed_puts = 0
            self.refused += 1
            log.error(
                "%s of run %s was not published and stays in %s: %s",
                item.file.path, self._run_id, self._journal.files, error,
            )  # fmt: skip
            return None
        self._failed_puts = 0
        return replace(item, uri=uri, sha256=digest) if isinstance(item, CheckpointLogged) else item
