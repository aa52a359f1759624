"""Weights in buckets, and calls of the batch hook as steps."""

from __future__ import annotations

import numpy as np
import pytest
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.util import tensor_util

from tracker_keras.recording.histogram_buckets import buckets
from tracker_tensorboard.batch_steps import BatchSteps

RANDOM = np.random.default_rng(3)
VALUES = {
    "normal": RANDOM.normal(size=(70, 30)).astype("float32"),
    "more than a chunk": RANDOM.normal(size=1_100_000).astype("float32"),
    "equal": np.full((3, 3), 0.25),
    "one": np.array(-2.0),
    "integers": np.arange(100),
    "on the edges": np.linspace(0, 3, 31),
    "none": np.zeros((0, 4)),
}


@pytest.mark.parametrize("name", VALUES)
def test_buckets_are_tensorboards(name: str) -> None:
    """Edges and counts are those of TensorBoard's own histogram of the same values."""
    edges, counts = buckets(VALUES[name])
    rows = tensor_util.make_ndarray(histogram_pb("x", VALUES[name]).value[0].tensor)
    assert np.array_equal(counts, rows[:, 2])
    np.testing.assert_allclose(edges, [*rows[:, 0], rows[-1, 1]], rtol=1e-15, atol=0)


def test_what_is_not_finite_is_in_no_bucket() -> None:
    """NaN and infinities are left out, whether other values are there or not."""
    edges, counts = buckets(np.array([1.0, np.nan, 3.0, np.inf, -np.inf]))
    assert (edges[0], edges[-1], counts.sum()) == (1.0, 3.0, 2)
    assert buckets(np.array([np.nan, np.inf]))[1].sum() == 0


def test_calls_stand_for_steps() -> None:
    """The last call of an epoch stands for what was left, also before the epoch's end is told and after."""
    steps = BatchSteps(3, 4)  # ten steps an epoch
    assert [steps(call) for call in (1, 2, 3)] == [3, 6, 9]
    steps.end_epoch(10)
    steps.end_epoch(10)
    assert [steps(call) for call in range(1, 9)] == [3, 6, 9, 10, 13, 16, 19, 22]
    steps.end_epoch(20)
    assert steps(8) == 20


def test_calls_of_an_epoch_whose_steps_are_known() -> None:
    """A call is at the same step whether its epoch's end, and those before, were told already or not."""
    steps = BatchSteps(3, 4, 10)
    expected = [3, 6, 9, 10, 13, 16, 19, 20, 23]
    for told in (0, 10, 20):
        steps.end_epoch(told)
        assert [steps(call) for call in range(1, 10)] == expected
        assert steps(0) == 0


def test_calls_of_an_epoch_of_unknown_length() -> None:
    """How many calls it had is known from its steps."""
    steps = BatchSteps(1, None)
    steps.end_epoch(5)
    assert [steps(call) for call in (1, 5, 6)] == [1, 5, 6]


def test_gradients_that_accumulate() -> None:
    """Four calls are one step, and no call lies in the epoch after its own."""
    steps = BatchSteps(0.25, 10)
    steps.end_epoch(2)
    assert [steps(call) for call in (1, 4, 5, 10, 11, 15)] == [1, 1, 2, 2, 3, 4]
