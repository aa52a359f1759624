"""Describes arrays of any library: shape, dtype, and a digest of a bounded sample, the same for every library."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

ROWS = 1024
BYTES = 256 * 1024
"""Limits of a data set's sample: rows of each array, and bytes of all arrays."""
LEAVES = 64
_ROWS_AT_LEAST = 8

Sample = Callable[[], "np.ndarray[Any, Any] | None"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayInfo:
    """An array of a data set; a dimension of its shape is None if it differs between batches.

    `sample` returns some of its rows and may be slow: data that can change meanwhile was copied. None: no sample can be
    taken without side effects.
    """

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str
    sample: Sample | None = None

    @property
    def rows(self) -> int | None:
        """The number of samples."""
        return self.shape[0] if self.shape else None


def leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The arrays of a structure of mappings, lists and tuples, by their paths (`x`, `x.image`, `x.0`)."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from leaves(f"{name}.{key}" if name else str(key), one)
    elif isinstance(value, (list, tuple)):
        for index, one in enumerate(value):
            yield from leaves(f"{name}.{index}" if name else str(index), one)
    elif value is not None:
        yield name, value


def describe_arrays(arrays: Iterable[tuple[str, Any]]) -> list[ArrayInfo]:
    """Describe arrays, by name; a few rows of those that can change during training are copied now."""
    some = [found for found, _ in zip(arrays, range(LEAVES), strict=False)]
    return [_describe(name, array, BYTES // len(some)) for name, array in some]


def digest(arrays: Iterable[ArrayInfo]) -> str | None:
    """32 hex digits of BLAKE2b over names, shapes, dtypes and samples; None if one of them has no sample."""
    whole = blake2b(digest_size=16)
    for one in arrays:
        sample = one.sample() if one.sample is not None else None
        if sample is None:
            return None
        whole.update(json.dumps([one.name, one.shape, one.dtype, sample.shape]).encode())
        whole.update(_canonical(sample))
    return whole.hexdigest()


def _describe(name: str, array: Any, budget: int) -> ArrayInfo:
    kind = type(array).__module__.partition(".")[0]
    shape = _shape(array)
    dtype = _dtype(array)
    sample: Sample | None = None
    if shape and None not in shape:
        rows = _rows(shape, _item_size(array), budget)
        if isinstance(array, np.ndarray):
            sample = _of_numpy(array, rows, budget)
        elif kind == "pandas" and hasattr(array, "iloc"):
            sample = _taken(np.asarray(array.iloc[rows].to_numpy()), budget)
        elif kind == "tensorflow" and _is_eager_tensor(array):
            sample = lambda: _thin(np.asarray(sys.modules["tensorflow"].gather(array, rows).numpy()), budget)  # noqa: E731
        elif kind in ("jax", "jaxlib") and getattr(array, "is_fully_addressable", False):
            sample = lambda: _thin(_of_jax(array, rows), budget)  # noqa: E731
        elif kind == "torch" and hasattr(array, "detach"):
            sample = _taken(array.detach()[rows].cpu().numpy(), budget)
    return ArrayInfo(name=name, shape=shape, dtype=dtype, sample=sample)


def _of_numpy(array: np.ndarray[Any, Any], rows: np.ndarray[Any, Any], budget: int) -> Sample:
    """A sample of a NumPy array: copied now from memory, or later from a file, which may be slow."""
    if _is_file(array):
        return lambda: _thin(np.asarray(array[rows]), budget)
    return _taken(_thin(array, budget, rows), budget)


def _taken(sample: np.ndarray[Any, Any], budget: int) -> Sample:
    thin = _thin(sample, budget)
    return lambda: thin


def _of_jax(array: Any, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    on_host = all(device.platform == "cpu" for device in array.devices())
    return np.asarray(array)[rows] if on_host else np.asarray(array[rows])


def _rows(shape: tuple[int | None, ...], item: int, budget: int) -> np.ndarray[Any, Any]:
    """The sampled rows of an array of this shape: evenly spaced, with the first and the last."""
    total, *sides = (side or 0 for side in shape)
    row = max(int(np.prod(sides, dtype=np.int64)) * item, 1)
    count = min(total, ROWS, max(budget // row, _ROWS_AT_LEAST))
    return np.arange(count) * (total - 1) // max(count - 1, 1)


def _thin(array: np.ndarray[Any, Any], budget: int, rows: np.ndarray[Any, Any] | None = None) -> np.ndarray[Any, Any]:
    """Copy these rows, or all; of rows that are too large every second, fourth … slice, preferably of outer dimensions.

    Contiguous memory is read many times faster than scattered elements.
    """
    sides, steps = list(array.shape[1:]), [1] * (array.ndim - 1)
    limit = max(budget // _ROWS_AT_LEAST // max(array.dtype.itemsize, 1), 1)
    while sides and int(np.prod(sides, dtype=np.int64)) > limit:
        outer = sides[:-1] if max(sides[:-1], default=1) > 1 else sides
        longest = outer.index(max(outer))
        steps[longest] *= 2
        sides[longest] = -(-array.shape[1 + longest] // steps[longest])
    if any(step > 1 for step in steps):
        array = array[(slice(None), *(slice(None, None, step) for step in steps))]
    return np.array(array if rows is None else array[rows])


def _canonical(sample: np.ndarray[Any, Any]) -> bytes:
    """The same bytes for the same values on every machine; strings as UTF-8, separated by zero bytes."""
    if sample.dtype.kind in "OUST":
        return b"\0".join(one if isinstance(one, bytes) else str(one).encode() for one in sample.ravel().tolist())
    return sample.astype(sample.dtype.newbyteorder("<"), copy=False).tobytes()


def _shape(array: Any) -> tuple[int | None, ...] | None:
    try:
        return tuple(None if side is None else int(side) for side in array.shape)
    except (AttributeError, TypeError, ValueError):
        return None


def _dtype(array: Any) -> str:
    """NumPy's name of the dtype; `str` for strings, `object` for mixed columns, the class if there is no dtype."""
    found = getattr(array, "dtype", None)
    if found is None and hasattr(array, "dtypes"):
        kinds = {str(one) for one in array.dtypes}
        return kinds.pop() if len(kinds) == 1 else "object"
    if found is None:
        return type(array).__name__
    if getattr(found, "kind", None) in ("U", "S", "T") or str(found) in ("<dtype: 'string'>", "string"):
        return "str"
    return str(getattr(found, "name", None) or found).removeprefix("torch.")


def _item_size(array: Any) -> int:
    size = getattr(getattr(array, "dtype", None), "itemsize", None) or getattr(getattr(array, "dtype", None), "size", 8)
    return int(size) if isinstance(size, int) and size > 0 else 8


def _is_file(array: np.ndarray[Any, Any]) -> bool:
    base: Any = array
    while base is not None:
        if isinstance(base, np.memmap):
            return True
        base = getattr(base, "base", None)
    return False


def _is_eager_tensor(array: Any) -> bool:
    """Whether `array` is an immutable TensorFlow tensor with values (not a Variable)."""
    tensorflow = sys.modules["tensorflow"]
    return isinstance(array, tensorflow.Tensor) and hasattr(array, "numpy")
