"""Conditions of the data: what `fit()` reads it from, and what it is validated with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from e2e.field.calls import given
from e2e.field.condition import Condition
from e2e.field.data import BATCH, STEPS, XV, YV, X, Y

if TYPE_CHECKING:
    from e2e.field.reference import Script

DATA = ("params.data.*",)
NO_SIZE = (*DATA, "params.batch_size", "fits.*.batch_size")
NO_STEPS = (*NO_SIZE, "params.steps_per_epoch", "fits.*.steps_per_epoch")


def read_from(make: Callable[[Script], Any], **more: Any) -> Callable[[Script], None]:
    """`fit(make(script), **more)`; a batch size and a `y` there are none."""

    def change(script: Script) -> None:
        for key in ("y", "batch_size"):
            script.arguments.pop(key, None)
        script.arguments |= {"x": make(script), **more}

    return change


def pipeline(_: Script) -> Any:
    """A tf.data pipeline of one epoch."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(BATCH)


def repeated(script: Script) -> Any:
    """A tf.data pipeline without an end."""
    return pipeline(script).repeat()


def batches() -> Iterator[Any]:
    """The batches of one epoch after the other, without end."""
    while True:
        for start in range(0, len(X), BATCH):
            yield X[start : start + BATCH], Y[start : start + BATCH]


def workers(script: Script) -> Any:
    """A PyDataset that two threads read from."""

    class Batches(script.keras.utils.PyDataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return STEPS

        def __getitem__(self, number: int) -> Any:
            start = number * BATCH
            return X[start : start + BATCH], Y[start : start + BATCH]

    return Batches(workers=2, use_multiprocessing=False)


def framed(script: Script) -> None:
    """Data frames of pandas."""
    import pandas as pd

    columns = ["a", "b", "c"]
    script.arguments |= {
        "x": pd.DataFrame(X, columns=columns),
        "y": pd.DataFrame(Y, columns=["y"]),
        "validation_data": (pd.DataFrame(XV, columns=columns), pd.DataFrame(YV, columns=["y"])),
    }


def split(script: Script) -> None:
    """The same samples to validate with, split off the end of the training data."""
    script.arguments |= {
        "x": np.concatenate([X, XV]),
        "y": np.concatenate([Y, YV]),
        "validation_split": (len(XV) - 0.5) / (len(X) + len(XV)),
    }
    del script.arguments["validation_data"]


def unvalidated(script: Script) -> None:
    """No validation, so no `val_loss` to decide by."""
    del script.arguments["validation_data"]


def weighted(script: Script) -> None:
    """Samples count more or less."""
    script.arguments["sample_weight"] = np.linspace(0.5, 1.5, len(X)).astype("float32")


INPUTS: dict[str, Condition] = {
    "tf.data": Condition(group="data", changes=read_from(pipeline), may=NO_SIZE),
    "tf.data repeated": Condition(
        group="data",
        changes=read_from(repeated, steps_per_epoch=STEPS),
        may=NO_SIZE,
        may_resumed=("log",),  # it says that such data begins anew
    ),
    "generator": Condition(
        group="data", changes=read_from(lambda _: batches(), steps_per_epoch=STEPS), may=NO_SIZE, resumes=False
    ),
    "PyDataset": Condition(group="data", computes=read_from(workers)),
    "pandas": Condition(group="data", changes=framed, may=DATA),
    "validation_split": Condition(group="data", changes=split, may=("params.data.validation_split",)),
    "no validation": Condition(group="data", computes=unvalidated, outcome="completed"),
    "validation_freq": Condition(group="frequency", computes=given(validation_freq=3), outcome="completed"),
    "class_weight": Condition(group="weights", computes=given(class_weight={0: 1.0, 1: 2.0})),
    "sample_weight": Condition(group="weights", computes=weighted),
}
