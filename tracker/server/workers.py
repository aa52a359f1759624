"""Several server processes on one socket: the parent starts them, replaces those that die, and ends them."""

from __future__ import annotations

import logging
import mmap
import os
import signal
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from tracker.domain.errors import TrackerError
from tracker.server.metrics import Counts

log = logging.getLogger("tracker.server")

_SLOT = 512 * 1024
_HEAD = struct.Struct("<II")
_GRACE_S = 40.0
"""Seconds that processes may take to end: longer than `serve` takes."""
_SOON_S = 2.0
_MOST_DEATHS = 5
"""After this many deaths within `_SOON_S` each, before any process was up for a second, the server gives up."""
_PAUSE_S = 0.3
"""Seconds by which the pause before a restart grows with each death, as the store may be unavailable."""


class WorkersDie(TrackerError):
    """The server's processes end as soon as they begin."""


class SharedCounts:
    """Shared memory of a parent and its children, with the last counts of each, readable by all."""

    def __init__(self, places: int) -> None:
        self.places = places
        self._memory = mmap.mmap(-1, places * _SLOT)

    def put(self, place: int, counts: Counts) -> None:
        """Store the counts of the process at `place`."""
        data = msgspec.msgpack.encode(counts)
        if len(data) <= _SLOT - _HEAD.size:
            begin = place * _SLOT
            self._memory[begin + _HEAD.size : begin + _HEAD.size + len(data)] = data
            self._memory[begin : begin + _HEAD.size] = _HEAD.pack(len(data), zlib.crc32(data))

    def get(self, place: int) -> Counts | None:
        """The last counts of the process at `place`; None if it has stored none yet."""
        begin = place * _SLOT
        for _ in range(10):  # the checksum is wrong while it is being written
            size, checksum = _HEAD.unpack(self._memory[begin : begin + _HEAD.size])
            data = self._memory[begin + _HEAD.size : begin + _HEAD.size + min(size, _SLOT)]
            if size and zlib.crc32(data) == checksum:
                return msgspec.msgpack.decode(data, type=Counts)
            if not size:
                return None
            time.sleep(0.001)
        return None


@dataclass(frozen=True, slots=True)
class WorkerSlot:
    """A process's slot among the server's processes."""

    board: SharedCounts
    index: int
    anew: bool = False
    """Whether it replaces a process that died."""

    def put(self, counts: Counts) -> None:
        """Store the counts of this process."""
        self.board.put(self.index, counts)

    def before(self) -> Counts | None:
        """The counts of the process that had this slot before, if one had."""
        return self.board.get(self.index)

    def others(self) -> Iterator[Counts]:
        """The counts of each of the other processes."""
        for index in range(self.board.places):
            if index != self.index and (found := self.board.get(index)) is not None:
                yield found


class Workers:
    """Runs `work` in `number` child processes. The parent must have no threads, and no connection to a database."""

    def __init__(self, number: int, work: Callable[[WorkerSlot], None]) -> None:
        self._board = SharedCounts(number)
        self._work = work
        self._children: dict[int, int] = {}
        self._ending = False
        self._deaths: list[float] = []
        self._failure: WorkersDie | None = None
        # Children see the end of this pipe when the parent is gone, however it ended.
        self._alive = os.pipe()

    def run(self) -> None:
        """Return when all have ended after SIGTERM or SIGINT. WorkersDie if they repeatedly end by themselves."""
        before = {number: signal.signal(number, self._end) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            for index in range(self._board.places):
                self._begin(WorkerSlot(self._board, index))
            self._watch()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(self._alive[0])
            os.close(self._alive[1])
        if self._failure is not None:
            raise self._failure

    def _watch(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, 0)
            place = self._children.pop(pid, None)
            if place is None or self._ending:
                continue
            now = time.monotonic()
            self._deaths = [at for at in self._deaths if now - at < _SOON_S * _MOST_DEATHS] + [now]
            how = os.waitstatus_to_exitcode(status)
            if len(self._deaths) > _MOST_DEATHS and not any(map(self._board.get, range(self._board.places))):
                self._failure = WorkersDie(f"its processes end as soon as they begin, the last with status {how}")
                self._end()
                continue
            log.warning("process %d of the server ended with status %d; another takes its place", pid, how)
            time.sleep(min(len(self._deaths) - 1, _MOST_DEATHS) * _PAUSE_S)
            self._begin(WorkerSlot(self._board, place, anew=True))

    def _begin(self, place: WorkerSlot) -> None:
        # A signal between the fork and the recording of the child's pid would miss the child.
        signals = (signal.SIGTERM, signal.SIGINT)
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        try:
            if self._ending:
                return
            pid = os.fork()
            if pid == 0:
                self._be(place, signals)
            self._children[pid] = place.index
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

    def _be(self, place: WorkerSlot, signals: tuple[signal.Signals, ...]) -> None:
        """Run the child's work; never returns."""
        code = 1
        try:
            for number in signals:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
            os.setpgid(0, 0)  # Ctrl-C in a terminal is for the parent, who tells the children
            os.close(self._alive[1])
            threading.Thread(target=self._end_with_parent, name="tracker-parent", daemon=True).start()
            self._work(place)
            code = 0
        except TrackerError as error:
            log.error("%s", error)
        except BaseException:
            log.exception("a process of the server failed")
        finally:
            os._exit(code)

    def _end_with_parent(self) -> None:
        with suppress(OSError):
            os.read(self._alive[0], 1)
        os.kill(os.getpid(), signal.SIGTERM)

    def _end(self, number: int = signal.SIGTERM, frame: object = None) -> None:
        """Signal all children to end; those that have not after a while are killed."""
        if not self._ending:
            self._ending = True
            signal.signal(signal.SIGALRM, self._kill)
            signal.setitimer(signal.ITIMER_REAL, _GRACE_S)
        self._signal(signal.SIGTERM)

    def _kill(self, number: int, frame: object) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        for pid in list(self._children):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
