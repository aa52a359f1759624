"""EarlyStopping as Keras has it, without being taken in by NaN."""

from __future__ import annotations

import keras

from tracker_keras.improvement import NanIsNoBest


class EarlyStopping(NanIsNoBest, keras.callbacks.EarlyStopping):  # type: ignore[misc]  # Keras has no types
    """`keras.callbacks.EarlyStopping`, with its arguments and attributes; what it decides is recorded in the same way.

    NaN is no best: Keras' own takes a first NaN for the best value, which nothing is better than ever after. Here an
    epoch with NaN is one without an improvement, and the first number after it is one.
    """
