"""Encodes a long history in pieces, as `tracker.wire.record_codec` encodes a short one."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from tracker.domain.vocabulary import Axis
from tracker.wire.record_codec import array_to_bytes, array_to_list

if TYPE_CHECKING:
    from numpy.typing import NDArray

AT_ONCE = 8192
"""Points in a piece: some hundred kilobytes, encoded in a few milliseconds."""
_SIZES = {"steps": 8, "ms": 8, "values": 8, "fits": 8, "superseded": 1}


class Columns(Protocol):
    """A history by columns: `count` points, which can be read in parts."""

    key: str
    axis: Axis
    count: int

    @property
    def columns(self) -> Sequence[str]:
        """The names of the columns."""
        ...

    def column(self, name: str, start: int = 0, end: int | None = None) -> NDArray[Any]:
        """The points from the `start`th to before the `end`th."""
        ...


def history_as_json(history: Columns) -> Iterator[bytes]:
    """The history as `to_json` encodes it, in pieces."""
    encode = msgspec.json.encode
    yield b'{"key":%b,"axis":%b' % (encode(history.key), encode(history.axis))
    for name in _SIZES:
        if name not in history.columns:
            yield b',"%b":null' % name.encode()
            continue
        yield b',"%b":[' % name.encode()
        for first in range(0, history.count, AT_ONCE):
            piece = encode(array_to_list(history.column(name, first, first + AT_ONCE)))[1:-1]
            yield b"," + piece if first else piece
        yield b"]"
    yield b"}"


def history_as_msgpack(history: Columns) -> Iterator[bytes]:
    """The history as `to_msgpack` encodes it, in pieces, but with lengths of four bytes; readers accept both."""
    encode = msgspec.msgpack.encode
    yield bytes([0x80 | (2 + len(_SIZES))])
    yield encode("key") + encode(history.key) + encode("axis") + encode(history.axis)
    for name, size in _SIZES.items():
        if name not in history.columns:
            yield encode(name) + encode(None)
            continue
        yield encode(name) + struct.pack(">BI", 0xC6, size * history.count)
        for first in range(0, history.count, 4 * AT_ONCE):
            yield array_to_bytes(history.column(name, first, first + 4 * AT_ONCE))
