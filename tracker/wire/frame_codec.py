"""Encodes and decodes frames: the one codec of what clients write.

A frame on disk is a 16-byte little-endian header (payload length u32, CRC-32 u32, number u64) and a MessagePack
payload. The checksum covers the payload and is seeded with the number, so that a change of either is detected.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from zlib import crc32

import msgspec

from tracker.domain.frames import Frame
from tracker.domain.run_progress import Progress

MAX_PAYLOAD = 64 * 1024 * 1024
"""No frame is larger: a header that says so is not one."""
MAX_JUMP = 2**31
"""Numbers may skip lost frames. The checksum covers their low half only: a larger jump means damage."""


class JournalHeader(msgspec.Struct, tag="journal", array_like=True, frozen=True):
    """Frame 0 of every journal: its run and writer, and where its frames go. URLs are without passwords.

    `began` is the run's progress when its process opened it, None if that was not known.
    """

    run_id: str
    writer: str
    store: str
    artifacts: str
    created_ms: int
    pid: int
    host: str
    version: int = 1
    began: Progress | None = None


_HEADER = Struct("<IIQ")
HEADER_SIZE = _HEADER.size
_pack = _HEADER.pack
_unpack = _HEADER.unpack_from
_encode = msgspec.msgpack.Encoder().encode
_decode: Callable[[memoryview], Frame] = msgspec.msgpack.Decoder(Frame).decode
_decode_header = msgspec.msgpack.Decoder(JournalHeader).decode


def encode_frame(frame: Frame | JournalHeader) -> bytes:
    """The payload of `frame`."""
    return _encode(frame)


def seal(payload: bytes, number: int) -> bytes:
    """`payload` with its header, ready for one `write(2)`."""
    return _pack(len(payload), crc32(payload, number & 0xFFFFFFFF), number) + payload


def unseal(data: bytes | memoryview, position: int, after: int) -> tuple[int, int] | None:
    """(end, number) of the valid frame that begins at `position`; None if there is none with a number above `after`."""
    if position + HEADER_SIZE > len(data):
        return None
    length, checksum, number = _unpack(data, position)
    start = position + HEADER_SIZE
    end = start + length
    if not length or end > len(data) or not after < number <= after + MAX_JUMP:
        return None
    return (end, number) if crc32(memoryview(data)[start:end], number & 0xFFFFFFFF) == checksum else None


def claimed_end(data: bytes, position: int) -> int:
    """Where the frame at `position` would end if its header is valid."""
    return position + HEADER_SIZE + int(_unpack(data, position)[0])


def read_frames(data: bytes, position: int, after: int, frames: list[tuple[int, Frame]]) -> tuple[int, int, int]:
    """Append to `frames` the consecutive valid ones from `position` on, numbered above `after`.

    Returns where they end, the last number, and how many more there were of a kind that this version does not know.
    """
    view, size, unknown = memoryview(data), len(data), 0
    while position + HEADER_SIZE <= size:
        length, checksum, number = _unpack(data, position)
        start = position + HEADER_SIZE
        end = start + length
        payload = view[start:end]
        if end > size or not length or not after < number <= after + MAX_JUMP:
            break
        if crc32(payload, number & 0xFFFFFFFF) != checksum:
            break
        try:
            frames.append((number, _decode(payload)))
        except msgspec.MsgspecError:
            unknown += 1
        position, after = end, number
    return position, after, unknown


def read_header(data: bytes) -> tuple[JournalHeader, int] | None:
    """The header that `data` begins with, and where it ends; None if there is none."""
    found = unseal(data, 0, -1)
    if found is None or found[1] != 0:
        return None
    try:
        return _decode_header(data[HEADER_SIZE : found[0]]), found[0]
    except msgspec.MsgspecError:
        return None
