"""What is known of a call of `fit()`."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(("epoch", "data", "frequency", "epochs", "expected"), [
    (0, None, 1, 3, "never"),
    (0, "data", 1, 3, "held"),
    (0, "data", 2, 3, "later"),
    (1, "data", 2, 3, "held"),
    (2, "data", 2, 3, "never"),
    (0, "data", 7, 3, "never"),
    (0, "data", [3], 3, "later"),
    (2, "data", [3], 3, "held"),
    (0, "data", [9], 3, "never"),
])  # fmt: skip
def test_validation(epoch: int, data: object, frequency: int | list[int], epochs: int, expected: str) -> None:
    """Epochs count from 0 for callbacks, and from 1 in `validation_freq`."""
    from tracker_keras.recording.fit_call import FitCall

    call = FitCall(model=None)

    class Iterator:
        num_batches = 4

    given = {"epoch_iterator": Iterator(), "validation_data": data, "validation_freq": frequency, "epochs": epochs}
    call.learn(given)
    assert call.validation_of(epoch) == expected


def test_a_loop_of_ones_own() -> None:
    """Nobody knows."""
    from tracker_keras.recording.fit_call import FitCall

    assert FitCall(model=None).validation_of(0) == "unknown"
