"""Encodes points of metrics from arrays as MLflow's JSON."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any

import msgspec

from tracker.domain.limits import number_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PIECE = 2048
"""Points encoded at a time: other threads, such as the event loop's, can run in between."""


class _Point(msgspec.Struct, gc=False):
    """MLflow's Metric message, as in the responses of metrics/get-history."""

    key: str
    value: Any
    timestamp: int
    step: int


class _PointOfRun(_Point, gc=False):
    """The same in responses about several runs."""

    run_id: str


def encode_metrics(
    key: str,
    steps: NDArray[np.int64],
    ms: NDArray[np.int64],
    values: NDArray[np.float64],
    run_id: str | None = None,
) -> bytes:
    """The JSON array of the points: `[{"key":…,"value":…,"timestamp":…,"step":…}, …]`, with `run_id` if it is given.

    `steps`, `ms` and `values` are (n,). NaN and the infinities are the strings that MLflow's JSON has for them.
    """
    encode = msgspec.json.Encoder().encode
    pieces = []
    for at in range(0, len(steps), _PIECE):
        piece = slice(at, at + _PIECE)
        columns = (repeat(key), _numbers(values[piece]), ms[piece].tolist(), steps[piece].tolist())
        if run_id is None:
            pieces.append(encode(list(map(_Point, *columns)))[1:-1])
        else:
            pieces.append(encode(list(map(_PointOfRun, *columns, repeat(run_id))))[1:-1])
    return b"[%b]" % b",".join(pieces)


def _numbers(values: NDArray[np.float64]) -> list[Any]:
    import numpy as np

    numbers: list[Any] = values.tolist()
    for index in np.flatnonzero(~np.isfinite(values)).tolist():
        numbers[index] = number_text(numbers[index])
    return numbers
