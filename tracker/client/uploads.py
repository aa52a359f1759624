"""Uploads the files of one journal to the artifact home, independently; a file delays only its own row.

A journal has a frame for each file in its staging folder. Once the file is stored, a second frame of the same name,
with the address (`uri`) filled in, is appended to the journal. The store gets this second frame, in the order of the
journal's numbers like all others: so a row is never stored before its bytes, and exactly once however long its file
took. A file whose second frame is in the journal is stored, whichever process died meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote

from msgspec.structs import replace

from tracker.client.journal import Journal
from tracker.domain.errors import ArtifactError, InvalidValue, RequestTooLarge, StoreError, TrackerError
from tracker.domain.frames import ArtifactLogged, CheckpointLogged, Frame, Item
from tracker.domain.ports import ArtifactHome
from tracker.wire.frame_checks import check_item

log = logging.getLogger("tracker")

FileFrame = ArtifactLogged | CheckpointLogged
FILE_FRAMES = (ArtifactLogged, CheckpointLogged)
_HOME_IS_AWAY = 2
"""After so many consecutive files for which the home did not answer, the others are not tried."""
PAUSE_S = (0.5, 30.0)
"""The first and the longest pause between attempts at one file."""
_SPARED_S = 30.0
"""Seconds that files of at least half the size wait after one whose request was too large."""
_EARLIER = "-"
"""The address of a file that an earlier version stored, whose real address is not known."""


@dataclass
class SecondFrames:
    """The second frames in a journal, by the names of their staged files.

    `rows`: numbers of the frames that are rows for the store; `stored`: files without a row, or whose row is stored.
    `void`: numbers of rows that are obsolete, since their file was to be stored again.
    """

    rows: dict[str, int] = field(default_factory=dict)
    stored: set[str] = field(default_factory=set)
    void: set[int] = field(default_factory=set)

    def add(self, number: int, frame: Frame) -> None:
        """Add the next frame of the journal."""
        if not isinstance(frame, FILE_FRAMES):
            return
        name = frame.file.name
        if name in self.rows:
            self.void.add(self.rows.pop(name))
        if isinstance(frame, ArtifactLogged) and frame.uri:
            self.stored.add(name)
        elif frame.uri:
            self.rows[name] = number


@dataclass(eq=False)
class Upload:
    """A file that waits: the number of its first frame, and this frame."""

    number: int
    item: FileFrame
    is_stored: bool = False
    """Whether its bytes are stored and its second frame is in the journal, but not yet in the store."""
    pause_s: float = 0.0
    """Seconds from its last failure to the next attempt, at `retry_at` of the monotonic clock."""
    retry_at: float = 0.0


class Uploads:
    """Stores the files of a journal. `add` and the methods after it are called in the order of the journal's frames.

    Safe for one thread that ships frames and another one that calls `upload_all`. `seen` counts the files that were
    added, `refused` those that can never be stored; `late` has the reason for each that could not be stored yet.
    """

    def __init__(self, journal: Journal, run_id: str, writer: str, home: ArtifactHome) -> None:
        self._journal = journal
        self._run_id = run_id
        self._writer = writer
        self._home = home
        self._lock = threading.Lock()
        self._waiting: dict[int, Upload] = {}
        self._answers = SecondFrames()
        self._void = 0
        self._spared_from, self._spared_until = 0, 0.0
        self.seen = 0
        self.refused = 0
        self.late: dict[str, str] = {}
        self.on_stored: Callable[[], None] = lambda: None
        """Called when the journal has a new row to deliver."""

    def know(self, answers: SecondFrames) -> None:
        """Set the second frames that an adopted journal already has."""
        self._answers = answers

    @property
    def count(self) -> int:
        """How many files wait to be stored, or for their rows."""
        return len(self._waiting)

    def waits(self, until: int) -> bool:
        """Whether a file waits whose frame's number is at most `until`."""
        return any(number <= until for number in self._waiting.copy())

    def is_row(self, number: int, frame: Item) -> bool:
        """Whether the frame is sent to the store: all but those of files without a row, or not stored yet."""
        if isinstance(frame, ArtifactLogged):
            return False
        if isinstance(frame, CheckpointLogged):
            return bool(frame.uri) and number > self._void and number not in self._answers.void
        return True

    def add(self, number: int, item: FileFrame) -> None:
        """Add a file, whose first frame is next in the journal."""
        if not self._names_a_file(number, item):
            return
        with self._lock:
            if isinstance(item, ArtifactLogged):
                self._replace(item.file.path)
            if (known := self._named(item)) is not None:
                known.item = item  # to be stored again, under another name
            elif item.file.name in self._answers.stored:
                self._journal.staging.settle(item.file.name)
            else:
                self._waiting[number] = Upload(number, item, is_stored=item.file.name in self._answers.rows)
                self.seen += 1

    def add_earlier(self, number: int, item: FileFrame) -> None:
        """Record that an earlier version, which wrote no second frames, stored the file and its row."""
        if not item.uri and item.file.name not in self._answers.stored and self._names_a_file(number, item):
            self._journal.append(ArtifactLogged(item.ms, item.file, _EARLIER))
            self._journal.staging.settle(item.file.name)

    def _names_a_file(self, number: int, item: FileFrame) -> bool:
        """Whether the frame names a staged file: in a forged journal it could name any file."""
        try:
            check_item(f"frame {number}", item)
        except InvalidValue as error:
            self.refused += 1
            log.error("run %s: a file of %s is refused: %s", self._run_id, self._journal.path.name, error)
            return False
        return True

    def row_stored(self, item: CheckpointLogged) -> None:
        """The row of the file is stored: remove it from the waiting files."""
        with self._lock:
            if (one := self._named(item)) is not None:
                self._done(one)

    def row_refused(self, item: CheckpointLogged) -> None:
        """The store refused the row for good: its file stays in the staging folder."""
        with self._lock:
            if (one := self._named(item)) is not None:
                del self._waiting[one.number]
                self._journal.staging.set_aside(item.file.name)

    def store_again(self, item: CheckpointLogged) -> None:
        """The stored file was removed before its row was stored: store it again, under another name."""
        with self._lock:
            if (one := self._named(item)) is not None:
                path = f"checkpoints/{{sha256}}-{self._writer}-{one.number}{item.format}"
                one.item = replace(item, uri="", file=replace(item.file, path=path))
                one.is_stored = False
                self.seen += 1
                self._journal.append(one.item)

    def _named(self, item: FileFrame) -> Upload | None:
        return next((one for one in self._waiting.values() if one.item.file.name == item.file.name), None)

    def _replace(self, path: str) -> None:
        """Drop waiting artifacts for `path`, since a newer one replaces them."""
        for one in list(self._waiting.values()):
            if isinstance(one.item, ArtifactLogged) and one.item.file.path == path:
                self._done(one)

    def restart(self) -> None:
        """Reset, since the journal is read again from its beginning for a store that has nothing of it."""
        with self._lock:
            self._void = self._journal.last_number
            self._answers = SecondFrames()
            self._waiting.clear()
            self.late.clear()
            self.refused = 0

    def upload_all(self, *, at_once: bool = False, is_sparing: bool = False) -> bool:
        """Try the files that wait, in order; True if any was stored or refused.

        A file that cannot be stored now delays no other: it stays in `late`, and is tried again after a pause, or with
        `at_once`. With `is_sparing`, after a file that is too large for a request others of similar size are not tried
        for some time. StoreError if the home is away.
        """
        came, away, now = False, 0, time.monotonic()
        waiting = [one for one in list(self._waiting.values()) if not one.is_stored]
        for one in sorted(waiting, key=lambda one: one.retry_at):
            if self._waiting.get(one.number) is not one or (one.retry_at > now and not at_once):
                continue  # replaced by a later one meanwhile, or late
            if is_sparing and one.item.file.size >= self._spared_from and time.monotonic() < self._spared_until:
                continue
            try:
                self._upload(one)
                came, away = True, 0
                if one.item.file.size >= self._spared_from:
                    self._spared_until = 0.0
            except RequestTooLarge as error:
                self._is_late(one, error)
                self._spared_from, self._spared_until = one.item.file.size // 2, time.monotonic() + _SPARED_S
                away = 0
            except StoreError as error:
                self._is_late(one, error)
                away += 1
                if away == _HOME_IS_AWAY:
                    raise
            except ArtifactError as error:
                self._is_late(one, error)
                away = 0
            except TrackerError as error:
                self._refuse(one, error)
                came, away = True, 0
            except Exception as error:  # a bug or a failing disk: must not stop the next files
                self._is_late(one, error)
                away = 0
        return came

    def _upload(self, one: Upload) -> None:
        """Store one file and write its second frame. Raises as `ArtifactHome.put` does."""
        item, staging = one.item, self._journal.staging
        if staging.dropped(item.file.name):
            self._finish(one, None)
            return
        try:
            self._finish(one, self._stored_before(item) or self._stored(one))
        except TrackerError:
            if not staging.dropped(item.file.name):
                raise
            self._finish(one, None)  # dropped during the upload

    def _stored(self, one: Upload) -> FileFrame:
        item = one.item
        source = self._journal.staging.find(item.file.name)
        if source is None or source.stat().st_size != item.file.size:
            raise InvalidValue("file", f"{self._journal.files / item.file.name} is gone or damaged")
        uri, digest = self._home.put(self._run_id, item.file.path, source, final=True)
        if item.file.sha256 not in ("", digest):
            raise InvalidValue(
                "file", f"{source} is damaged: its SHA-256 is {digest}, when it was copied {item.file.sha256}"
            )
        return _answer(item, item.file.path, digest, uri)

    def _stored_before(self, item: FileFrame) -> FileFrame | None:
        """The second frame of a file that is no longer staged but already in the artifact home, else None."""
        if (self._journal.files / item.file.name).exists():
            return None
        path = item.file.path.replace("{sha256}", item.file.sha256)
        if path not in self._home.list(self._run_id):
            return None
        return _answer(item, path, item.file.sha256, f"{self._home.uri(self._run_id)}/{quote(path)}")

    def _finish(self, one: Upload, answer: FileFrame | None) -> None:
        with self._lock:
            self.late.pop(one.item.file.name, None)
            if self._waiting.get(one.number) is not one:
                return  # replaced, or to be stored again
            if answer is not None:
                # False means that the disk accepts no writes now: the frame is in memory, and written later.
                self._journal.append(answer)
            if isinstance(answer, CheckpointLogged):
                one.is_stored = True
            else:
                self._done(one)
        if isinstance(answer, CheckpointLogged):
            self.on_stored()

    def _done(self, one: Upload) -> None:
        self._waiting.pop(one.number, None)
        self.late.pop(one.item.file.name, None)
        self._journal.staging.settle(one.item.file.name)

    def _is_late(self, one: Upload, error: Exception) -> None:
        if self._waiting.get(one.number) is not one:
            return  # replaced by a later one meanwhile
        if not self.late:
            log.warning(
                "run %s: the file %r is not stored yet (kept, will retry, only its own row waits for it): %s",
                self._run_id, one.item.file.path, error,
                exc_info=None if isinstance(error, TrackerError) else error,
            )  # fmt: skip
        first, longest = PAUSE_S
        one.pause_s = min(max(2 * one.pause_s, first), longest)
        one.retry_at = time.monotonic() + one.pause_s
        self.late[one.item.file.name] = str(error)

    def _refuse(self, one: Upload, error: TrackerError) -> None:
        with self._lock:
            if self._waiting.pop(one.number, None) is None:
                return
            self.late.pop(one.item.file.name, None)
            self._journal.staging.set_aside(one.item.file.name)
            self.refused += 1
        log.error("run %s: the file %r can never be stored: %s", self._run_id, one.item.file.path, error)


def _answer(item: FileFrame, path: str, digest: str, uri: str) -> FileFrame:
    file = replace(item.file, path=path.replace("{sha256}", digest))
    if isinstance(item, CheckpointLogged):
        return replace(item, file=file, uri=uri, sha256=digest)
    return replace(item, file=file, uri=uri)
