"""Delivery of one journal to the store: batches of frames in order, files separately. For shipper and `sync`."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from tracker.client.batch_builder import make_batch
from tracker.client.journal import Journal
from tracker.client.journal_reader import JournalReader
from tracker.client.uploads import FILE_FRAMES, SecondFrames, Uploads
from tracker.domain.errors import FileRemoved, RequestTooLarge, RunNotFound, StoreError, StoreRestored, TrackerError
from tracker.domain.frames import Ack, Batch, CheckpointLogged, Frame
from tracker.domain.ports import ArtifactHome, Transport
from tracker.query.quantity_format import size

log = logging.getLogger("tracker")

READ_BYTES = 1024 * 1024
"""Bytes of the journal in one transaction."""
SMALLEST_BYTES = 4 * 1024
"""Smallest number of such bytes, if a server or proxy refuses larger requests."""
_AGAIN_LARGER = 16
"""After so many smaller pieces the size is doubled: the limit may have been raised."""

Numbered = tuple[int, Frame]


class Delivery:
    """Delivers a journal: its frames in order, and its files, which delay only their own rows.

    `delivered_points` counts the metric points that are committed; `settled` is the number of the last frame that is
    stored, refused for good, or passed to `Uploads` as a file. A thread may call `upload_all` while another one calls
    `deliver_frames`.
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
        self._uploads = Uploads(journal, run_id, writer, artifacts)
        # Frames that were read and are not settled, in order: one part, unless the store refused one of them.
        self._parts: deque[Sequence[Numbered]] = deque()
        self._acknowledged = 0
        self._piece = READ_BYTES
        self._small_ones = 0
        self._removal_failed = ""
        self._over_budget_said = False
        self._refused = 0
        self.delivered_points = 0
        self.settled = 0
        self.refused_points = 0
        self.garbage = 0
        self.stop_requested = False

    @property
    def refused(self) -> int:
        """How many frames and files were refused for good."""
        return self._refused + self._uploads.refused

    @property
    def files(self) -> int:
        """How many files wait, of those whose frames were read."""
        return self._uploads.count

    @property
    def files_seen(self) -> int:
        """How many files' frames were read."""
        return self._uploads.seen

    @property
    def late(self) -> dict[str, str]:
        """Why files that were tried still wait, by their names in the journal's folder."""
        return self._uploads.late

    def on_stored(self, call: Callable[[], None]) -> None:
        """Set a function to call when a file's row can be delivered."""
        self._uploads.on_stored = call

    def is_done(self, number: int) -> bool:
        """Whether all frames up to `number` are settled, with their files and the files' rows."""
        return self.settled >= number and not self._uploads.waits(number)

    def renew(self) -> None:
        """Renew the run's lease. Raises StoreError while the store is away."""
        try:
            self._apply_ack(self._transport.send(self._empty_batch()))
        except (RunNotFound, StoreRestored) as error:
            self._restart(error)

    def deliver(self) -> bool:
        """Deliver the next piece, frames before files; False if nothing could be done now.

        Raises StoreError while the store or the artifact home is away: call again. RunNotFound if the store does not
        know the run and the journal does not start it. Only for a journal that no process writes to.
        """
        if self.deliver_frames():
            return True
        self._journal.last_number = max(self._journal.last_number, self._reader.last_number)
        return self._uploads.upload_all()

    def upload_all(self, *, at_once: bool = False) -> bool:
        """Store the files that wait, as `Uploads.upload_all` does; False if none made progress."""
        return self._uploads.upload_all(at_once=at_once, is_sparing=not at_once)

    def deliver_frames(self) -> bool:
        """Deliver the next frames; False if there are none. Raises what `deliver` does."""
        if not self._parts and (read := self._reader.read(self._piece)):
            self._parts.append(read)
        if not self._parts:
            return False
        frames = self._parts[0]
        try:
            self._send(frames)
        except RequestTooLarge:
            if len(frames) == 1:
                raise  # this frame and all later ones wait until larger requests are accepted
            self._piece, self._small_ones = max(self._piece // 2, SMALLEST_BYTES), 0
            self._parts.popleft()
            self._parts.extendleft(reversed(_halves(frames)))
        except StoreError:
            raise
        except (RunNotFound, StoreRestored) as error:
            self._restart(error)
        except TrackerError as error:
            self._parts.popleft()
            self._parts.extendleft(reversed(self._split(frames, error)))
        else:
            self._parts.popleft()
            self._went_through()
        return True

    def skip_known(self, answers: SecondFrames, *, is_earlier: bool = False) -> None:
        """Ask the store how much of this journal it has, so that stored frames are not sent again.

        `answers` are the second frames in the journal, which record stored files. `is_earlier`: the journal is of a
        version that wrote none and stored files together with the frames around them.
        """
        try:
            known = self._transport.send(self._empty_batch()).last
        except RunNotFound:
            known = 0
        if not known:
            self._uploads.restart()
            return
        self._uploads.know(answers)
        while self._reader.last_number < known and (frames := self._reader.read(READ_BYTES)):
            seen = [(number, frame) for number, frame in frames if number <= known]
            if len(seen) < len(frames):
                self._parts.append(frames[len(seen) :])
            for number, frame in seen:
                if is_earlier and isinstance(frame, FILE_FRAMES):
                    self._uploads.add_earlier(number, frame)
                else:
                    self._settle(number, frame)
            if seen:
                self.delivered_points += make_batch(self._run_id, self._writer, seen).points
        self.settled = self._acknowledged = known

    def finish(self) -> None:
        """Remove the journal when everything is stored, or rename it if some of it was refused."""
        self.garbage = self._reader.garbage + self._reader.undecodable + self._reader.left_over()
        if keep := bool(self.refused or self.garbage):
            log.error(
                "run %s: %d frames or files were refused, %d bytes of its journal were no frames; it is kept as %s",
                self._run_id, self.refused, self.garbage, self._journal.refused_path,
            )  # fmt: skip
        self._transport.close()
        self._journal.finish(keep=keep)

    def _empty_batch(self) -> Batch:
        return Batch(run_id=self._run_id, writer=self._writer, first=0, last=0, after=self._acknowledged)

    def _restart(self, error: RunNotFound | StoreRestored) -> None:
        """Send everything again: the store has less of the run than it had, since it was replaced or restored."""
        if not self.settled:
            raise error
        log.warning(
            "run %s is not in the store any more, or not all of it; it is shipped again from its beginning",
            self._run_id,
        )
        self._reader = JournalReader(self._journal.fd, self._journal.start)
        self._parts.clear()
        self._uploads.restart()
        self.settled = self.delivered_points = self._refused = self.refused_points = self._acknowledged = 0

    def _send(self, frames: Sequence[Numbered]) -> None:
        batch = make_batch(self._run_id, self._writer, frames)
        batch.items[:] = [one for one in batch.items if self._uploads.is_row(*one)]
        ack = Ack(last=batch.last)
        if batch.items or batch.blocks:
            ack = self._transport.send(replace(batch, after=self._acknowledged))
            self._acknowledged = ack.last
        self._apply_ack(ack)
        for number, frame in frames:
            if type(frame) in FILE_FRAMES:
                self._settle(number, frame)
        self.settled = batch.last
        self.delivered_points += batch.points
        if ack.pruned:
            self._remove_pruned()

    def _went_through(self) -> None:
        self._small_ones += 1
        if self._small_ones >= _AGAIN_LARGER and self._piece < READ_BYTES:
            self._piece, self._small_ones = 2 * self._piece, 0

    def _settle(self, number: int, frame: Frame) -> None:
        if isinstance(frame, FILE_FRAMES):
            if not frame.uri:
                self._uploads.add(number, frame)
            elif isinstance(frame, CheckpointLogged) and self._uploads.is_row(number, frame):
                self._uploads.row_stored(frame)

    def _remove_pruned(self) -> None:
        """Remove the files that retention does not keep; failures are tried again with the next checkpoint."""
        try:
            self._transport.remove_pruned(self._run_id, self._artifacts)
            self._removal_failed = ""
        except Exception as error:
            if str(error) != self._removal_failed:
                log.warning("run %s: files of pruned checkpoints stay for now: %s", self._run_id, error)
            self._removal_failed = str(error)

    def _split(self, frames: Sequence[Numbered], error: TrackerError) -> Sequence[Sequence[Numbered]]:
        """Halve the frames that the store refused, until the invalid frame is alone and the others are stored."""
        if len(frames) > 1:
            return _halves(frames)
        [(number, frame)] = frames
        if isinstance(frame, CheckpointLogged) and isinstance(error, FileRemoved):
            self._uploads.store_again(frame)
        else:
            self.refused_points += make_batch(self._run_id, self._writer, frames).points
            self._refuse(number, frame, error)
        self.settled = number
        return ()

    def _refuse(self, number: int, frame: Frame, error: TrackerError) -> None:
        self._refused += 1
        if isinstance(frame, CheckpointLogged):
            self._uploads.row_refused(frame)
        if self._refused == 1:
            log.error(
                "frame %d of %s was refused (logged once, then counted): %s", number, self._journal.path.name, error
            )

    def _apply_ack(self, ack: Ack) -> None:
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


def _halves(frames: Sequence[Numbered]) -> tuple[Sequence[Numbered], Sequence[Numbered]]:
    middle = len(frames) // 2
    return frames[:middle], frames[middle:]
