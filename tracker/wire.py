"""Frames ↔ bytes: the one codec of what clients write.

A frame on disk is a 16-byte little-endian header (payload length u32, CRC-32 u32, number u64) and a MessagePack
payload. The checksum covers the payload and is seeded with the number, so that neither can change unseen.
"""

from __future__ import annotations

from struct import Struct
from zlib import crc32

import msgspec

from tracker.domain.frames import Frame

MAX_PAYLOAD = 64 * 1024 * 1024
"""No frame is larger: a header that says so is not one."""


class JournalHeader(msgspec.Struct, tag="journal", array_like=True, frozen=True):
    """Frame 0 of every journal: whose it is and where it is to go. URLs are without passwords."""

    run_id: str
    writer: str
    store: str
    artifacts: str
    created_ms: int
    pid: int
    host: str
    version: int = 1


_HEADER = Struct("<IIQ")
HEADER_SIZE = _HEADER.size
_pack = _HEADER.pack
unpack_header = _HEADER.unpack_from
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Frame | JournalHeader).decode


def encode_frame(frame: Frame | JournalHeader) -> bytes:
    """The payload of `frame`."""
    return _encode(frame)


def decode_frame(payload: bytes | memoryview) -> Frame | JournalHeader:
    """The frame in `payload`; msgspec.DecodeError or ValidationError if there is none."""
    return _decode(payload)


def seal(payload: bytes, number: int) -> bytes:
    """`payload` with its header, ready for one `write(2)`."""
    return _pack(len(payload), crc32(payload, number & 0xFFFFFFFF), number) + payload


def is_sealed(payload: bytes | memoryview, checksum: int, number: int) -> bool:
    """Whether `payload` is what was sealed under `number`."""
    return crc32(payload, number & 0xFFFFFFFF) == checksum
