"""Encodes and decodes records: MessagePack for our own client, JSON for everybody.

MessagePack is exact: floats are floats, and a history's arrays are little-endian bytes (int64, float64, bool as one
byte). JSON has lists instead, and strings for the numbers that it cannot write: "NaN", "Infinity", "-Infinity".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec

from tracker.domain.errors import InvalidValue
from tracker.domain.limits import number_text
from tracker.domain.records import History, RunPage
from tracker.domain.vocabulary import Axis
from tracker.wire.batch_codec import invalid

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _PackedHistory:
    """A History whose arrays are bytes."""

    key: str
    axis: Axis
    steps: bytes
    ms: bytes
    values: bytes
    fits: bytes | None = None
    superseded: bytes | None = None


def to_msgpack(obj: Any) -> bytes:
    """`obj`, of records of `tracker.domain.records` in lists and mappings, as MessagePack."""
    return _msgpack.encode(obj)


def to_json(obj: Any) -> bytes:
    """`obj`, of records of `tracker.domain.records` in lists and mappings, as JSON."""
    # Long answers with floats in known places need no search for those that JSON has no number for.
    if type(obj) is History:
        return _json.encode(obj)
    if type(obj) is RunPage and all(run.best_value is None or math.isfinite(run.best_value) for run in obj.runs):
        return _json.encode(obj)
    return msgspec.json.encode(_finite(msgspec.to_builtins(obj, enc_hook=array_to_list)))


def from_msgpack(data: bytes, type: type[T]) -> T:
    """The `type` that `to_msgpack` encoded as `data`. InvalidValue if `data` is something else."""
    if type is History:
        return _unpacked(_decode(data, _PackedHistory))  # type: ignore[return-value]
    return _decode(data, type)


def _decode(data: bytes, type: type[T]) -> T:
    try:
        return cast(T, _decoder(type).decode(data))  # type: ignore[arg-type]
    except msgspec.ValidationError as error:
        raise invalid(error, "answer") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidValue(
            "answer", f"{len(data)} bytes that are not a record: {error}", limit="MessagePack"
        ) from error


@cache
def _decoder(type: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(type)


def array_to_bytes(value: Any) -> bytes:
    """An array's bytes, little-endian."""
    if not hasattr(value, "astype"):
        raise TypeError(f"no wire form for {type(value).__name__}")
    kind = {"b": "u1", "i": "<i8", "f": "<f8"}[value.dtype.kind]
    return bytes(value.astype(kind, copy=False).tobytes())


def array_to_list(value: Any) -> Any:
    """An array's items, with texts in place of the floats that JSON has no number for."""
    if not hasattr(value, "tolist"):
        raise TypeError(f"no wire form for {type(value).__name__}")
    items = value.tolist()
    if value.dtype.kind == "f":
        import numpy as np

        for index in np.flatnonzero(~np.isfinite(value)).tolist():
            items[index] = number_text(items[index])
    return items


_json = msgspec.json.Encoder(enc_hook=array_to_list)
_msgpack = msgspec.msgpack.Encoder(enc_hook=array_to_bytes)


def _finite(value: Any) -> Any:
    """`value` with texts in place of the floats that JSON has no number for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else number_text(value)
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        if value and all(type(one) is int for one in value):
            return value
        return [_finite(one) for one in value]
    return value


def _unpacked(packed: _PackedHistory) -> History:
    import numpy as np

    def numbers(field: str, data: bytes, kind: str) -> NDArray[Any]:
        if len(data) != size * np.dtype(kind).itemsize:
            raise InvalidValue(field, f"{len(data)} bytes", limit=f"those of {size} points")
        return np.frombuffer(data, dtype=kind).astype(kind[-2:] if kind != "u1" else np.bool_)

    size = len(packed.steps) // 8
    return History(
        key=packed.key,
        axis=packed.axis,
        steps=numbers("steps", packed.steps, "<i8"),
        ms=numbers("ms", packed.ms, "<i8"),
        values=numbers("values", packed.values, "<f8"),
        fits=None if packed.fits is None else numbers("fits", packed.fits, "<i8"),
        superseded=None if packed.superseded is None else numbers("superseded", packed.superseded, "u1"),
    )
