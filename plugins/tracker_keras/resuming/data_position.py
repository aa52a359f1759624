"""Position of a training in its data, and how a later process skips the batches before it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import keras

from tracker_keras.recording.chief import is_alone

_NO_SEED = 87654321
"""TensorFlow's default for the global seed if none was set, when an operation has a seed."""


def obstacle(epoch_iterator: Any) -> str | None:
    """Why a training with this data can only resume at the begin of an epoch; None if it can resume within one.

    It can if a later process gets an epoch's batches in the same order. This is assumed of a `tf.data.Dataset`.
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
    """Why a later process cannot reproduce the order of `fit(shuffle=True)`; None if it can."""
    backend = keras.backend.backend()
    if backend == "jax":
        return None  # it depends on NumPy's random state, which is saved
    tensorflow = sys.modules.get("tensorflow")
    if backend == "tensorflow" and tensorflow is not None and tensorflow.compat.v1.get_seed(1)[0] != _NO_SEED:
        return None  # the seed determines the order, in each epoch and process
    how = "keras.utils.set_random_seed(…), " if backend == "tensorflow" else ""
    return f"the order that shuffle=True drew is lost with the process ({how}shuffle=False or a tf.data.Dataset help)"


def handed_out(epoch_iterator: Any) -> int:
    """Batches read by the end of an epoch from data that continues in the next one; 0 if the next one restarts it.

    Data continues with `steps_per_epoch`. 0 also for data without a known end: skipping all its batches would take too
    long.
    """
    if getattr(epoch_iterator, "steps_per_epoch", None) is None or not endless_is_known(epoch_iterator):
        return 0
    return int(getattr(epoch_iterator, "_steps_seen", 0))


def endless_is_known(epoch_iterator: Any) -> bool:
    """Whether the data is known to end."""
    return getattr(epoch_iterator, "_num_batches", None) is not None


def begin_at(epoch_iterator: Any, before: int, batch: int, then: Callable[[], None]) -> None:
    """Make the next epoch begin with `batch`, after skipping `before` batches of earlier epochs.

    `then` is called after the skipped batches, before the first batch that is trained on.
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
    """Create the variables of model, metrics and optimizer, as Keras does from the shapes of a batch.

    With TensorFlow they would be created with the first batch; the other backends have created them. No batch is read:
    the data set declares its batches' shapes.
    """
    dataset = getattr(epoch_iterator, "_distributed_dataset", None)
    if dataset is not None and model._distribute_strategy is None:
        model._symbolic_build(data_batch=keras.tree.map_structure(_Likeness, dataset.element_spec))
    elif model.built and (optimizer := getattr(model, "optimizer", None)) is not None and not optimizer.built:
        optimizer.build(model.trainable_variables)


class _Likeness:
    """Shape and dtype of a batch's tensor, with batch size 1 if it is not fixed, since Keras needs one."""

    def __init__(self, spec: Any) -> None:
        self.dtype = spec.dtype
        shape = tuple(spec.shape)
        self.shape = (1 if shape and shape[0] is None else shape[0], *shape[1:]) if shape else shape
