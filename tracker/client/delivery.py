"""One journal's way to the store: read, publish files, cut a batch, send, go on. The shipper and `sync` both use it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from urllib.parse import quote

from msgspec.structs import replace

from tracker.client.batches import make_batch
from tracker.client.journal import Journal
from tracker.client.journal_reader import JournalReader
from tracker.domain.errors import ArtifactError, FileRemoved, RunNotFound, StoreError, StoreUnavailable, TrackerError
from tracker.domain.frames import Ack, ArtifactLogged, Batch, CheckpointLogged, Frame, Item
from tracker.domain.ports import ArtifactHome, Transport
from tracker.domain.words import HEARTBEAT_MS
from tracker.query.spans import size

log = logging.getLogger("tracker")

READ_BYTES = 1024 * 1024
"""How much of the journal goes into one transaction."""
LARGE_BYTES = 8 * 1024 * 1024
"""A file of this size does not hold up what was written before it, and the lease is renewed while it is sent."""
PUBLISH_ATTEMPTS = 5
"""How often a file is tried before it is left beside the journal and the rest goes on."""


class Delivery:
    """Delivers a journal in order.

    `delivered_points` counts the metric points that are stored and committed; `settled` is the last frame number that
    is stored, or refused for good.
    """

    def __init__(
        self, journal: Journal, run_id: str, writer: str, transport: Transport, artifacts: ArtifactHome
    ) -> None:
        self._journal = journal
        self._reader = JournalReader(journal.fd, journal.start)
        self._run_id = run_id
        self._writer = writer
        self._transport = transport
        self._artifacts = artifacts
        # What was read and is not settled, in order: one part, unless the store refused something in it.
        self._parts: deque[Sequence[tuple[int, Frame]]] = deque()
        self._published: dict[int, Item | None] = {}
        self._failed_puts = 0
        self._renamed = False
        self._again = False
        self._removal_failed = ""
        self._over_budget_said = False
        self.delivered_points = 0
        self.settled = 0
        self.refused = 0
        self.refused_points = 0
        self.garbage = 0
        self.stop_requested = False

    def renew(self) -> None:
        """Renew the run's lease. Raises StoreError while the store is away."""
        try:
            self._heed(self._transport.send(self._empty_batch()))
        except RunNotFound as error:
            self._begin_anew(error)

    def deliver(self) -> bool:
        """Deliver the next piece; False if there is none. Raises StoreError while the store is away: call again.

        RunNotFound if the store does not know the run and the journal does not start it.
        """
        if not self._parts:
            self._published.clear()
            self._parts.extend(_apart(self._reader.read(READ_BYTES)))
        if not self._parts:
            return False
        frames = self._parts[0]
        try:
            self._send(frames)
        except StoreError:
            raise
        except RunNotFound as error:
            self._begin_anew(error)
            return True
        except TrackerError as error:
            if isinstance(error, FileRemoved) and not self._renamed:
                self._published.clear()
                self._renamed = True
                return True
            self._parts.popleft()
            self._parts.extendleft(reversed(self._split(frames, error)))
        else:
            self._parts.popleft()
        self._renamed = False
        return True

    def skip_known(self) -> None:
        """Ask how far the store has this journal already, so that what is stored is not sent again."""
        try:
            known = self._transport.send(self._empty_batch()).last
        except RunNotFound:
            return
        while self._reader.last_number < known and (frames := self._reader.read(READ_BYTES)):
            seen = [(number, frame) for number, frame in frames if number <= known]
            if len(seen) < len(frames):
                self._parts.append(frames[len(seen) :])
            for _, frame in seen:
                self._settle(frame)
            if seen:
                self.delivered_points += make_batch(self._run_id, self._writer, seen).points
        self.settled = known

    def finish(self) -> None:
        """Everything is stored: remove the journal, or set it aside if some of it could not be."""
        self.garbage = self._reader.garbage + self._reader.undecodable + self._reader.left_over()
        if keep := bool(self.refused or self.garbage):
            log.error(
                "run %s: %d frames were refused by the store, %d bytes of its journal were no frames; it is kept as %s",
                self._run_id, self.refused, self.garbage, self._journal.refused_path,
            )  # fmt: skip
        self._transport.close()
        self._journal.finish(keep=keep)

    def _empty_batch(self) -> Batch:
        return Batch(run_id=self._run_id, writer=self._writer, first=0, last=0)

    def _begin_anew(self, error: RunNotFound) -> None:
        """The store knew the run and does not any more (somebody replaced it): tell it everything again."""
        if not self.settled:
            raise error
        log.warning("run %s is not in the store any more; it is shipped again from its beginning", self._run_id)
        self._reader = JournalReader(self._journal.fd, self._journal.start)
        self._parts.clear()
        self._published.clear()
        self._again = True
        self.settled = self.delivered_points = self.refused = self.refused_points = 0

    def _send(self, frames: Sequence[tuple[int, Frame]]) -> None:
        batch = make_batch(self._run_id, self._writer, frames)
        self._publish_files(batch)
        ack = self._transport.send(batch)
        self._heed(ack)
        self.settled = batch.last
        self.delivered_points += batch.points
        for _, item in batch.items:
            self._settle(item)
        if ack.pruned:
            self._remove_pruned()

    def _settle(self, frame: Frame) -> None:
        if isinstance(frame, ArtifactLogged | CheckpointLogged):
            self._journal.staging.settle(frame.file.name)

    def _remove_pruned(self) -> None:
        """Let the files go that retention does not keep; what stays is tried again when the next checkpoint comes."""
        try:
            self._transport.remove_pruned(self._run_id, self._artifacts)
            self._removal_failed = ""
        except Exception as error:
            if str(error) != self._removal_failed:
                log.warning("run %s: files of pruned checkpoints stay for now: %s", self._run_id, error)
            self._removal_failed = str(error)

    def _split(self, frames: Sequence[tuple[int, Frame]], error: TrackerError) -> Sequence[Sequence[tuple[int, Frame]]]:
        """Halve what the store refused, until the frame at fault stands alone; the rest goes through."""
        if len(frames) > 1:
            middle = len(frames) // 2
            return frames[:middle], frames[middle:]
        self.settled = frames[0][0]
        self.refused_points += make_batch(self._run_id, self._writer, frames).points
        self._refuse(f"frame {self.settled} of {self._journal.path.name}", error)
        return ()

    def _refuse(self, what: str, error: TrackerError) -> None:
        self.refused += 1
        if self.refused == 1:
            log.error("%s was refused (said once, then counted): %s", what, error)

    def _heed(self, ack: Ack) -> None:
        self.stop_requested = self.stop_requested or ack.stop
        if ack.over_budget is not None and not self._over_budget_said:
            self._over_budget_said = True
            log.warning(
                "run %s: its checkpoints have more bytes than TRACKER_CHECKPOINT_BUDGET (%s): the oldest versions of "
                "files that were written over go, but for the newest, the best and tagged ones; their rows stay, as "
                "pruned. Said once; run.keep_checkpoints says how many to keep instead",
                self._run_id,
                size(ack.over_budget),
            )

    def _publish_files(self, batch: Batch) -> None:
        """Put the files that `batch` names into the artifact home; raises StoreUnavailable to be called again.

        Files are published before the rows that name them. One that cannot be published costs only its own frame.
        """
        for index in range(len(batch.items) - 1, -1, -1):
            number, item = batch.items[index]
            if isinstance(item, ArtifactLogged | CheckpointLogged):
                if number not in self._published:
                    self._published[number] = self._publish(number, item)
                published = self._published[number]
                if published is None:
                    del batch.items[index]
                else:
                    batch.items[index] = (number, published)

    def _publish(self, number: int, item: ArtifactLogged | CheckpointLogged) -> Item | None:
        """The item once its file is published; None if the file was given up, or need not be published."""
        source = self._journal.files / item.file.name
        if self._journal.staging.dropped(item.file.name):
            return None
        path = item.file.path
        if self._renamed and isinstance(item, CheckpointLogged):
            path = f"checkpoints/{{sha256}}-{self._writer}-{number}{item.format}"
        try:
            if not source.exists() and (before := self._published_before(item)) is not None:
                return before
            if not source.is_file() or source.stat().st_size != item.file.size:
                self._failed_puts = PUBLISH_ATTEMPTS  # another attempt will not bring it back
                raise ArtifactError(f"{source} is gone or damaged")
            with self._alive(item.file.size):
                uri, digest = self._artifacts.put(self._run_id, path, source, final=True)
            if item.file.sha256 not in ("", digest):
                self._failed_puts = PUBLISH_ATTEMPTS
                raise ArtifactError(
                    f"{source} is damaged: its SHA-256 is {digest}, when it was copied {item.file.sha256}"
                )
        except StoreError:
            raise  # away, for as long as it takes: no fault of the file
        except TrackerError as error:
            if self._journal.staging.dropped(item.file.name):
                self._failed_puts = 0
                return None  # while it was on its way
            self._failed_puts += 1
            if self._failed_puts < PUBLISH_ATTEMPTS:
                raise StoreUnavailable(str(error)) from error
            self._failed_puts = 0
            self._refuse(f"{item.file.path} of run {self._run_id}", error)
            return None
        self._failed_puts = 0
        return replace(item, uri=uri, sha256=digest) if isinstance(item, CheckpointLogged) else item

    @contextmanager
    def _alive(self, size: int) -> Iterator[None]:
        """Renew the lease while a large file is on its way, which may take longer than the lease lasts."""
        if size < LARGE_BYTES:
            yield
            return
        over = threading.Event()

        def renew() -> None:
            while not over.wait(HEARTBEAT_MS / 1000):
                with suppress(TrackerError):
                    self._heed(self._transport.send(self._empty_batch()))

        beside = threading.Thread(target=renew, name="tracker-lease", daemon=True)
        beside.start()
        try:
            yield
        finally:
            over.set()
            beside.join()

    def _published_before(self, item: ArtifactLogged | CheckpointLogged) -> Item | None:
        """The item if its file, which does not wait any more, lies where it belongs: its row is told once more."""
        path = item.file.path.replace("{sha256}", item.file.sha256)
        known = isinstance(item, CheckpointLogged) and item.file.sha256
        if not (known or self._again) or path not in self._artifacts.list(self._run_id):
            return None
        if isinstance(item, ArtifactLogged):
            return item
        return replace(item, uri=f"{self._artifacts.uri(self._run_id)}/{quote(path)}", sha256=item.file.sha256)


def _apart(frames: Sequence[tuple[int, Frame]]) -> Iterator[Sequence[tuple[int, Frame]]]:
    """`frames` in parts, each of which begins with what names a large file, so that all before it goes first."""
    begin = 0
    for index, (_, frame) in enumerate(frames):
        if isinstance(frame, ArtifactLogged | CheckpointLogged) and frame.file.size >= LARGE_BYTES and index > begin:
            yield frames[begin:index]
            begin = index
    if begin < len(frames):
        yield frames[begin:]
