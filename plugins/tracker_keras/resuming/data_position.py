"""Where a training stands in its data, and how a later process gets there without training on what was trained on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import keras

from tracker_keras.record.workers import is_alone

_NO_SEED = 87654321
"""What TensorFlow gives for the global seed where none was set, and one is asked for an operation."""


def obstacle(epoch_iterator: Any) -> str | None:
    """Why a training can only begin an epoch anew with this data; None if it can go on in the middle of one.

    It can where an epoch's batches come in an order that a later process has too. Of a `tf.data.Dataset` that is
    taken for granted.
    """
    if not is_alone():
        return "several workers would have to agree on the batch"
    adapter = getattr(epoch_iterator, "data_adapter", None)
    kind = type(adapter).__name__
    if kind == "TFDatasetAdapter":
        return None
    if kind != "ArrayDataAdapter":
        what = "a PyDataset" if kind == "PyDatasetAdapter" else "a generator" if "Generator" in kind else "this data"
        return f"the batches of {what} cannot be passed over"
    return _shuffled() if getattr(adapter, "_shuffle", True) else None


def _shuffled() -> str | None:
    """Why the order that `fit(shuffle=True)` gives arrays is not known to a later process."""
    backend = keras.backend.backend()
    if backend == "jax":
        return None  # it is drawn from NumPy's random numbers, which are kept
    tensorflow = sys.modules.get("tensorflow")
    if backend == "tensorflow" and tensorflow is not None and tensorflow.compat.v1.get_seed(1)[0] != _NO_SEED:
        return None  # each epoch, and each process, has the order that follows from the seed
    how = "keras.utils.set_random_seed(…), " if backend == "tensorflow" else ""
    return f"the order that shuffle=True drew is lost with the process ({how}shuffle=False or a tf.data.Dataset help)"


def handed_out(epoch_iterator: Any) -> int:
    """Batches that came, by the end of an epoch, from data that goes on in the next one; 0 where that begins anew.

    It goes on with `steps_per_epoch`. Of data without an end it is not asked: to pass over all that came would take
    too long.
    """
    if getattr(epoch_iterator, "steps_per_epoch", None) is None or not endless_is_known(epoch_iterator):
        return 0
    return int(getattr(epoch_iterator, "_steps_seen", 0))


def endless_is_known(epoch_iterator: Any) -> bool:
    """Whether the data is known to end."""
    return getattr(epoch_iterator, "_num_batches", None) is not None


def begin_at(epoch_iterator: Any, before: int, batch: int, then: Callable[[], None]) -> None:
    """Let the next epoch begin with `batch`, after `before` batches of epochs that the data was in already.

    `then` is called when those are passed over, before the first batch that is trained on.
    """
    enumerate_epoch = epoch_iterator._enumerate_iterator

    def rest() -> Iterator[tuple[int, int, Any]]:
        del epoch_iterator.__dict__["_enumerate_iterator"]
        if before:
            data = iter(epoch_iterator._get_iterator())
            _pass_over(data, before)
            epoch_iterator._current_iterator, epoch_iterator._steps_seen = data, before
        is_there = False
        for first, last, data in enumerate_epoch():
            if first < batch:
                _pass_over(data, last - first + 1)
                continue
            if not is_there:
                is_there = True
                then()
            yield first, last, data

    epoch_iterator._enumerate_iterator = rest


def _pass_over(data: Iterator[Any], batches: int) -> None:
    for _ in range(batches):
        next(data, None)


def build(model: Any, epoch_iterator: Any) -> None:
    """Make the model's, the metrics' and the optimizer's variables, as Keras does by the shapes of a batch.

    TensorFlow makes them with the first batch otherwise; the other backends have made them. No batch is taken: the
    data set says what its batches look like.
    """
    dataset = getattr(epoch_iterator, "_distributed_dataset", None)
    if dataset is not None and model._distribute_strategy is None:
        model._symbolic_build(data_batch=keras.tree.map_structure(_Likeness, dataset.element_spec))
    elif model.built and (optimizer := getattr(model, "optimizer", None)) is not None and not optimizer.built:
        optimizer.build(model.trainable_variables)


class _Likeness:
    """What a batch's tensor looks like; a batch may have any size, and Keras wants to know one."""

    def __init__(self, spec: Any) -> None:
        self.dtype = spec.dtype
        shape = tuple(spec.shape)
        self.shape = (1 if shape and shape[0] is None else shape[0], *shape[1:]) if shape else shape
