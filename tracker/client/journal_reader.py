"""Reader of journals: yields frames in order, in bounded memory, and skips bytes that are not frames."""

from __future__ import annotations

import os

from tracker.domain.frames import Frame
from tracker.wire.frame_codec import HEADER_SIZE, MAX_PAYLOAD, claimed_end, read_frames, unseal

_WINDOW = HEADER_SIZE + MAX_PAYLOAD


class JournalReader:
    """Reads a journal from its beginning to what is written so far; each call of `read` continues.

    Invalid bytes are skipped and counted in `garbage` once a valid frame follows them. At the end of the file they are
    the torn last write of a dead process, or a write in progress: they stay unread. `undecodable` counts whole frames
    of a kind that this version does not know.
    """

    def __init__(self, fd: int, offset: int) -> None:
        """`offset` is the end of the journal's header."""
        self._fd = fd
        self._offset = offset
        self.last_number = 0
        self.garbage = 0
        self.undecodable = 0

    def read(self, size: int) -> list[tuple[int, Frame]]:
        """The next (number, frame) pairs, about `size` bytes of them; empty when no more are written yet."""
        window = size
        while True:
            data = os.pread(self._fd, window, self._offset)
            at_end = len(data) < window
            frames, used = self._parse(data, at_end)
            self._offset += used
            if frames or (at_end and not used):
                return frames
            window = size if used else self._widen(window)

    def left_over(self) -> int:
        """How many bytes follow the last whole frame."""
        return os.fstat(self._fd).st_size - self._offset

    def torn(self) -> bool:
        """Whether the bytes left over are the beginning of a frame, whose writer died during the write."""
        head = os.pread(self._fd, HEADER_SIZE, self._offset)
        return len(head) < HEADER_SIZE or self.left_over() < claimed_end(head, 0) <= _WINDOW

    def _widen(self, size: int) -> int:
        if size < _WINDOW:
            return min(size * 4, _WINDOW)
        # The largest frame would have fitted: no frame begins in the first half.
        self.garbage += size // 2
        self._offset += size // 2
        return size

    def _parse(self, data: bytes, at_end: bool) -> tuple[list[tuple[int, Frame]], int]:
        """The frames in `data` and how many bytes were used up."""
        frames: list[tuple[int, Frame]] = []
        position, self.last_number, unknown = read_frames(data, 0, self.last_number, frames)
        self.undecodable += unknown
        if position + HEADER_SIZE > len(data):
            return frames, position
        if not at_end and len(data) < claimed_end(data, position) <= position + _WINDOW:
            return frames, position  # the frame is longer than what was read
        # Only up to the next frame: the window may have been widened in search of it.
        if found := self._next_frame(data, position + 1):
            self.garbage += found - position
            position = found
        return frames, position

    def _next_frame(self, data: bytes, start: int) -> int:
        """The offset of the next valid frame at or after `start`; 0 if there is none in `data`."""
        for offset in range(start, len(data) - HEADER_SIZE + 1):
            if unseal(data, offset, self.last_number) is not None:
                return offset
        return 0
