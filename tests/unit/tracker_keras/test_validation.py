"""When a fit that is under way holds validation, read off its frame."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from tracker_keras.record.validation import validation_of


def fit(asked: int, validation_data: object, validation_freq: int | Collection[int], epochs: int) -> str:
    """A frame that is called and named as Keras' is."""
    return validation_of(asked)


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
    assert fit(epoch, data, frequency, epochs) == expected


def test_a_loop_of_ones_own() -> None:
    """Nobody knows."""
    assert validation_of(0) == "unknown"
