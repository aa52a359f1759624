"""Format of blocks: columns of points to bytes, and back bit for bit, and the extremes of each 256 points.

A column is `pcodec` data, or one number if all are equal. What pcodec is good at, as measured for series of Keras
trainings, and what else was measured, is in ARCHITECTURE.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tracker.domain.errors import InvalidRecord
from tracker.domain.limits import shortened
from tracker.domain.vocabulary import UNNUMBERED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VERSION = 1
"""Version of the format; a block keeps the one that it was written with."""
CHUNK = 256
"""Points for which there is one minimum and one maximum."""
MOST = 65_536
"""Most points of a block that is read. Writers make much smaller ones."""
_COLUMN = "metric_blocks.data"
_LEVEL = 4
_CONSTANT, _PACKED = b"=", b"p"
_KINDS = ("<i8", "<i8", "<i8", "<i8", "<f8")
"""NumPy types of the columns of SeriesRows."""
_LENGTH = 4
"""Bytes of the length before each column."""
EXTREMES: list[tuple[str, str]] = [
    ("first_step", "<i8"),
    ("min_value", "<f8"), ("min_step", "<i8"), ("min_offset_ms", "<i8"),
    ("max_value", "<f8"), ("max_step", "<i8"), ("max_offset_ms", "<i8"),
]  # fmt: skip
"""Fields of the extremes of a chunk, as NumPy types. NaN is no extreme: of a chunk without numbers both are the first
point, with NaN."""


@dataclass(frozen=True, slots=True)
class SeriesRows:
    """Points of a series in order of step and take: int64 (n,), values float64 (n,) with NaN for NULL.

    `ms` are times in ms, since the epoch or the run's start as the function says that returns them.
    """

    steps: NDArray[np.int64]
    takes: NDArray[np.int64]
    fits: NDArray[np.int64]
    ms: NDArray[np.int64]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, which: slice | NDArray[Any]) -> SeriesRows:
        """A part of the points: a slice, indices (k,), or bool (n,)."""
        return SeriesRows(self.steps[which], self.takes[which], self.fits[which], self.ms[which], self.values[which])

    def since(self, started_ms: int) -> SeriesRows:
        """The same with `started_ms` added to all times."""
        return SeriesRows(self.steps, self.takes, self.fits, self.ms + started_ms, self.values)


def joined(parts: Sequence[SeriesRows]) -> SeriesRows:
    """All points of the parts, in order."""
    import numpy as np

    if not parts:
        parts = [SeriesRows(*(np.empty(0, kind) for kind in _KINDS))]
    rows = parts[0]
    if len(parts) > 1:
        rows = SeriesRows(*(np.concatenate([getattr(part, name) for part in parts]) for name in SeriesRows.__slots__))
    order = order_of(rows)
    return rows if order is None else rows[order]


def order_of(rows: SeriesRows) -> NDArray[np.int64] | None:
    """The indices of the points in order of step and take; None if they are in order."""
    import numpy as np

    steps, takes = rows.steps, rows.takes
    rising = steps[1:] > steps[:-1]
    if bool(rising.all()):
        return None
    rising |= (steps[1:] == steps[:-1]) & (takes[1:] > takes[:-1])
    return None if bool(rising.all()) else np.lexsort((takes, steps))


def encode(rows: SeriesRows) -> bytes:
    """All columns of the points."""
    parts = []
    for column in (rows.steps, rows.takes, rows.fits, rows.ms, rows.values):
        packed = encode_column(column)
        parts += [len(packed).to_bytes(_LENGTH, "little"), packed]
    return b"".join(parts)


def decode(data: bytes, version: int, count: int) -> SeriesRows:
    """The `count` points of a block of this version. InvalidRecord if the bytes are no such block."""
    if version != VERSION:
        raise InvalidRecord("metric_blocks.codec", str(version), f"this release reads version {VERSION}")
    if not 0 < count <= MOST:
        raise InvalidRecord("metric_blocks.count", str(count), f"a block has 1 to {MOST} points")
    at = 0
    columns: list[Any] = []
    for kind in _KINDS:
        end = at + _LENGTH + int.from_bytes(data[at : at + _LENGTH], "little")
        columns.append(decode_column(data[at + _LENGTH : end], kind, count, _COLUMN))
        at = end
    return SeriesRows(*columns)


def extremes(rows: SeriesRows) -> NDArray[Any]:
    """Minimum and maximum of each CHUNK of points, an array (ceil(n / CHUNK),) of the fields EXTREMES."""
    import numpy as np

    from tracker.query.thinning import first_of_each

    starts = np.arange(0, len(rows), CHUNK)
    low = first_of_each(rows.values, np.fmin.reduceat(rows.values, starts), starts)
    high = first_of_each(rows.values, np.fmax.reduceat(rows.values, starts), starts)
    found = np.empty(len(starts), dtype=EXTREMES)
    found["first_step"] = rows.steps[starts]
    for name, index in (("min", low), ("max", high)):
        found[f"{name}_value"] = rows.values[index]
        found[f"{name}_step"] = rows.steps[index]
        found[f"{name}_offset_ms"] = rows.ms[index]
    return found


def common_fit(rows: SeriesRows) -> int | None:
    """The fit of all points, if none of them hides another: numbered points at one step do."""
    fit = int(rows.fits[0])
    if not bool((rows.fits == fit).all()):
        return None
    return fit if fit == UNNUMBERED or bool((rows.steps[1:] > rows.steps[:-1]).all()) else None


def encode_column(column: NDArray[Any]) -> bytes:
    """Numbers of 64 bits (n,), n > 0, as bytes."""
    import numpy as np
    from pcodec import ChunkConfig, standalone

    bits = np.ascontiguousarray(column).view(np.int64)
    if bool((bits == bits[0]).all()):
        return _CONSTANT + bits[:1].astype("<i8").tobytes()
    packed: bytes = standalone.simple_compress(np.ascontiguousarray(column), ChunkConfig(compression_level=_LEVEL))
    return _PACKED + packed


def decode_column(packed: bytes, kind: str, count: int, where: str) -> NDArray[Any]:
    """The `count` numbers that `encode_column` packed. InvalidRecord, with the column `where`, for other bytes."""
    import numpy as np

    if packed[:1] == _CONSTANT and len(packed) == 9:
        return np.full(count, np.frombuffer(packed, "<i8", 1, 1)[0]).view(kind)
    if packed[:1] != _PACKED:
        raise InvalidRecord(where, "bytes", "they are no packed numbers")
    from pcodec import standalone

    column = np.empty(count, dtype=kind)
    try:
        progress = standalone.simple_decompress_into(packed[1:], column)
    except (RuntimeError, TypeError) as error:
        raise InvalidRecord(where, "bytes", shortened(str(error))) from error
    if progress.n_processed != count or not progress.finished:
        raise InvalidRecord(where, "bytes", f"they are not {count} numbers")
    return column
