"""The reading end of a journal: frames in order, in bounded memory, past whatever is no frame."""

from __future__ import annotations

import os

import msgspec

from tracker.domain.frames import Frame
from tracker.wire import HEADER_SIZE, MAX_PAYLOAD, JournalHeader, decode_frame, is_sealed, unpack_header

_WINDOW = HEADER_SIZE + MAX_PAYLOAD
_JUMP = 2**32
"""Numbers may skip where frames were lost; a number further ahead than this is no number."""


class JournalReader:
    """Reads a journal from its beginning, as often as asked, as far as it is written.

    Bytes that are no frame are skipped and counted in `garbage` once a valid frame follows them. At the end of the
    file they are the torn last write of a dead process, or a write that is just happening: they stay unread.
    `undecodable` counts whole frames of a kind that this version does not know.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._offset = 0
        self.last_number = -1
        self.garbage = 0
        self.undecodable = 0

    def read(self, size: int) -> list[tuple[int, Frame]]:
        """The next (number, frame) pairs, about `size` bytes of them; empty when there are no more for now."""
        while True:
            data = os.pread(self._fd, size, self._offset)
            at_end = len(data) < size
            frames, used = self._parse(data, at_end)
            self._offset += used
            if frames or (at_end and not used):
                return frames
            if not used:
                size = self._widen(size)

    def torn_bytes(self) -> int:
        """How many bytes after the last whole frame are left over."""
        return os.fstat(self._fd).st_size - self._offset

    def _widen(self, size: int) -> int:
        if size < _WINDOW:
            return min(size * 4, _WINDOW)
        # The largest frame would have fitted: nothing that begins in the first half is one.
        self.garbage += size // 2
        self._offset += size // 2
        return size

    def _parse(self, data: bytes, at_end: bool) -> tuple[list[tuple[int, Frame]], int]:
        """The frames in `data` and how many bytes were used up."""
        frames: list[tuple[int, Frame]] = []
        view, position, end = memoryview(data), 0, len(data)
        while position + HEADER_SIZE <= end:
            length, checksum, number = unpack_header(data, position)
            start = position + HEADER_SIZE
            stop = start + length
            payload = view[start:stop]
            if stop <= end and number > self.last_number and is_sealed(payload, checksum, number):
                self._decode(number, payload, frames)
                position = stop
            elif stop > end and length <= MAX_PAYLOAD and not at_end:
                break
            elif found := self._next_frame(data, position + 1):
                self.garbage += found - position
                position = found
            else:
                break
        return frames, position

    def _decode(self, number: int, payload: memoryview, frames: list[tuple[int, Frame]]) -> None:
        self.last_number = number
        try:
            frame = decode_frame(payload)
        except msgspec.MsgspecError:
            self.undecodable += 1
            return
        if not isinstance(frame, JournalHeader):
            frames.append((number, frame))

    def _next_frame(self, data: bytes, start: int) -> int:
        """The offset of the next valid frame at or after `start`; 0 if there is none in `data`."""
        view, end, last = memoryview(data), len(data), self.last_number
        for offset in range(start, end - HEADER_SIZE + 1):
            length, checksum, number = unpack_header(data, offset)
            stop = offset + HEADER_SIZE + length
            plausible = length and stop <= end and last < number <= last + _JUMP
            if plausible and is_sealed(view[offset + HEADER_SIZE : stop], checksum, number):
                return offset
        return 0
