"""Format of histograms: n + 1 edges and n counts to bytes, and back bit for bit.

Edges that NumPy's `linspace` makes, as those of equally wide intervals are, take two numbers. Other edges and the
counts are packed as the columns of blocks are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tracker.domain.errors import InvalidRecord
from tracker.store.points.block_codec import decode_column, encode_column

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_COLUMN = "histograms.data"
_EVEN, _ANY = b"\x01=", b"\x01p"
"""How the edges are stored; the first byte is the version of the format."""
_LENGTH = 4
_MOST = 1_000_000
"""Most intervals of a histogram that is read."""
_MOST_COUNT = 2**63


def encode(edges: Sequence[float], counts: Sequence[int]) -> bytes | None:
    """The histogram's bytes; None for counts that do not fit 64 bits, or for none."""
    import numpy as np

    if not counts or max(counts) >= _MOST_COUNT or min(counts) < -_MOST_COUNT:
        return None
    size = len(counts).to_bytes(_LENGTH, "little")
    exact = np.array(edges, dtype="<f8")
    packed = encode_column(np.array(counts, dtype="<i8"))
    if exact.tobytes() == _even(exact[0], exact[-1], len(exact)).tobytes():
        return _EVEN + size + exact[[0, -1]].tobytes() + packed
    of_edges = encode_column(exact)
    return _ANY + size + len(of_edges).to_bytes(_LENGTH, "little") + of_edges + packed


def decode(data: bytes) -> tuple[list[float], list[int]]:
    """Edges and counts. InvalidRecord if the bytes are no histogram."""
    import numpy as np

    kind, count = data[:2], int.from_bytes(data[2:6], "little")
    if kind not in (_EVEN, _ANY) or not 0 < count <= _MOST or len(data) < 22:
        raise InvalidRecord(_COLUMN, "bytes", "they are no histogram that this release reads")
    if kind == _EVEN:
        first, last = np.frombuffer(data, "<f8", 2, 6)
        edges, rest = _even(first, last, count + 1), data[22:]
    else:
        end = 10 + int.from_bytes(data[6:10], "little")
        edges, rest = decode_column(data[10:end], "<f8", count + 1, _COLUMN), data[end:]
    return edges.tolist(), decode_column(rest, "<i8", count, _COLUMN).tolist()


def _even(first: float, last: float, count: int) -> NDArray[np.float64]:
    import numpy as np

    with np.errstate(all="ignore"):  # of the largest numbers
        return np.linspace(first, last, count, dtype="<f8")
