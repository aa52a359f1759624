"""What schemathesis loads to write bodies in MessagePack."""

from __future__ import annotations

from typing import Any

import msgspec
import schemathesis


@schemathesis.serializer("application/msgpack")
def messagepack(context: Any, value: Any) -> bytes:
    """`value` as MessagePack; bytes that are none for what it has no form for."""
    if isinstance(value, bytes):
        return value
    try:
        return msgspec.msgpack.encode(value)
    except (OverflowError, TypeError, UnicodeEncodeError):
        return b"\xc1"
