"""Keras' EarlyStopping, corrected for NaN."""

from __future__ import annotations

import keras

from tracker_keras.improvement import NanIsNoBest


class EarlyStopping(NanIsNoBest, keras.callbacks.EarlyStopping):  # type: ignore[misc]  # Keras has no types
    """`keras.callbacks.EarlyStopping`, with its arguments and attributes; its decisions are recorded in the same way.

    NaN is never the best: Keras' own takes a first NaN as the best value, and then finds no improvement any more. Here
    an epoch with NaN is no improvement, and the first number after it is one.
    """
