"""Describes a `tf.data.Dataset` without running it: nothing is read, and no generator, shuffle or map starts.

A sample by iteration would run the user's pipeline a second time during the training: generators have side effects,
shuffle buffers fill, random maps give other values each time. The steps and sources are known without that.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tracker_keras.inputs.samples import leaves

_DEPTH = 64
_ONE_TO_ONE = frozenset(
    {"TensorSlice", "Zip", "Shuffle", "Map", "ParallelMap", "Prefetch", "Cache", "Options", "Model"}
)
_BATCHING = frozenset({"Batch", "ParallelBatch"})
_MAKERS = frozenset({"FlatMap", "Interleave", "ParallelInterleave"})
"""Steps that make new elements from others: the sources are then seeds, file names or counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """A pipeline: its steps from the source on, the arrays that it slices, and its size.

    `samples` is known if each element comes from one row of the source; `batches` if TensorFlow knows it.
    """

    steps: tuple[str, ...]
    sources: tuple[tuple[str, Any], ...] = ()
    samples: int | None = None
    batches: int | None = None
    is_infinite: bool = False
    elements: tuple[tuple[str, Any], ...] = field(default=())


def is_pipeline(value: Any) -> bool:
    """Whether `value` is a `tf.data.Dataset`; does not import TensorFlow."""
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(value, tensorflow.data.Dataset)


def read_pipeline(dataset: Any) -> Pipeline:
    """The description of `dataset`, from its structure alone."""
    chain = list(_upstream(dataset))
    steps = tuple(dict.fromkeys(name for name, _ in reversed(chain)))
    origins = [
        one for _, one in chain if hasattr(one, "_tensors") and (_name(one) == "TensorSlice" or not _MAKERS & {*steps})
    ]
    structures = [_structure(one) for one in origins]
    named = structures[0] if len(structures) == 1 else structures
    sources = tuple(arrays_of(named)) if structures else ()
    cardinality = int(dataset.cardinality())
    return Pipeline(
        steps=steps,
        sources=sources,
        samples=_samples(dataset, steps, sources, cardinality),
        batches=cardinality if cardinality >= 0 else None,
        is_infinite=cardinality == -1,
        elements=tuple(arrays_of(dataset.element_spec)),
    )


def arrays_of(value: Any) -> Iterator[tuple[str, Any]]:
    """The arrays of a single data argument of `fit()`: (x,), (x, y), or (x, y, sample_weight)."""
    if isinstance(value, tuple) and 1 <= len(value) <= 3:
        for name, one in zip(("x", "y", "sample_weight"), value, strict=False):
            yield from leaves(name, one)
    else:
        yield from leaves("x", value)


def _upstream(dataset: Any) -> Iterator[tuple[str, Any]]:
    """`dataset` and all its inputs, by name, itself first."""
    waiting = [dataset]
    for _ in range(_DEPTH):
        if not waiting:
            return
        one = waiting.pop()
        yield _name(one), one
        inputs = getattr(one, "_inputs", None)
        waiting.extend(inputs() if callable(inputs) else ())


def _name(dataset: Any) -> str:
    """The step's name: `_ParallelMapDataset` is "ParallelMap"."""
    return type(dataset).__name__.strip("_").partition("Dataset")[0] or "Dataset"


def _structure(origin: Any) -> Any:
    return sys.modules["tensorflow"].nest.pack_sequence_as(origin.element_spec, origin._tensors)


def _samples(
    dataset: Any, steps: tuple[str, ...], sources: tuple[tuple[str, Any], ...], cardinality: int
) -> int | None:
    if cardinality < 0 or not _BATCHING & {*steps}:
        return cardinality if cardinality >= 0 and sources and {*steps} <= _ONE_TO_ONE else None
    sides = {spec.shape[0] for _, spec in arrays_of(dataset.element_spec) if spec.shape.rank}
    if len(sides) == 1 and (batch := sides.pop()) is not None:
        return cardinality * int(batch)  # the batch size is fixed, so an incomplete batch is dropped
    if sources and {*steps} <= _ONE_TO_ONE | _BATCHING:
        return min(int(array.shape[0]) for _, array in sources)
    return None
