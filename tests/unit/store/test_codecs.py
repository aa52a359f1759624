"""What is packed comes back bit for bit, and bytes that are damaged are an error."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from draws import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.domain.errors import InvalidRecord
from tracker.store.points import block_codec, histogram_codec
from tracker.store.points.block_codec import SeriesRows

whole = st.integers(-(2**63), 2**63 - 1)
bits = st.integers(0, 2**64 - 1)
"""Any double: NaN with any payload, infinities, -0.0."""


def rows_of(points: list[tuple[int, int, int, int, int]]) -> SeriesRows:
    steps, takes, fits, ms, values = (np.array(column) for column in zip(*points, strict=True))
    values = values.astype(np.uint64).view(np.float64)
    return SeriesRows(*(one.astype(np.int64) for one in (steps, takes, fits, ms)), values)


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(st.tuples(whole, st.integers(0, 2**31 - 1), st.integers(-1, 5), whole, bits), min_size=1, max_size=600))
def test_points_come_back_bit_for_bit(points: list[tuple[int, int, int, int, int]]) -> None:
    """Any steps, takes, fits and times of 64 bits, and any double."""
    rows = rows_of(points)
    back = block_codec.decode(block_codec.encode(rows), block_codec.VERSION, len(rows))
    for name in SeriesRows.__slots__:
        assert getattr(back, name).tobytes() == getattr(rows, name).tobytes(), name


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(st.floats(), min_size=1, max_size=1000))
def test_extremes_of_each_256(values: list[float]) -> None:
    """Of each 256 points the first smallest and the first largest that is a number, with its step and time."""
    count = len(values)
    whole = [np.arange(count) * scale for scale in (3, 0, 0, 7)]
    found = block_codec.extremes(SeriesRows(*whole, np.array(values)))
    assert len(found) == -(-count // 256)
    for index, one in enumerate(found):
        part = list(enumerate(values))[index * 256 : (index + 1) * 256]
        numbers = [(value, at) for at, value in part if value == value] or [(float("nan"), part[0][0])]
        low = min(numbers, key=lambda pair: pair[0])
        high = max(numbers, key=lambda pair: pair[0])
        for name, (value, at) in (("min", low), ("max", high)):
            assert np.array_equal(one[f"{name}_value"], value, equal_nan=True)
            assert (one[f"{name}_step"], one[f"{name}_offset_ms"]) == (at * 3, at * 7)
        assert one["first_step"] == part[0][0] * 3


edges = st.one_of(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=60).map(sorted),
    st.tuples(st.floats(-1e9, 1e9), st.floats(0, 1e9), st.integers(2, 60)).map(
        lambda drawn: np.linspace(drawn[0], drawn[0] + drawn[1], drawn[2]).tolist()
    ),
)


@settings(max_examples=examples(200), deadline=None)
@given(edges, st.data())
def test_histograms_come_back_bit_for_bit(edges: list[float], data: st.DataObject) -> None:
    """Edges of equal and of other intervals, and all counts of 64 bits."""
    count = len(edges) - 1
    counts = data.draw(st.lists(st.integers(0, 2**63 - 1), min_size=count, max_size=count))
    packed = histogram_codec.encode(edges, counts)
    assert packed is not None
    back, found = histogram_codec.decode(packed)
    assert np.array(back).tobytes() == np.array(edges).tobytes()
    assert found == counts


def test_a_histogram_of_weights_is_small() -> None:
    """Thirty equal intervals of a layer's weights take a seventh of their JSON."""
    counts, edges = np.histogram(np.random.default_rng(1).normal(size=50_000), bins=30)
    packed = histogram_codec.encode(edges.tolist(), counts.tolist())
    assert packed is not None
    assert 7 * len(packed) < len(json.dumps([edges.tolist(), counts.tolist()]))


def test_counts_beyond_64_bits_are_not_packed() -> None:
    """The caller keeps them as text."""
    assert histogram_codec.encode([0.0, 1.0], [2**63]) is None


@pytest.mark.parametrize("seed", range(4))
def test_damaged_bytes_are_an_error(seed: int) -> None:
    """Whatever byte is changed or missing: InvalidRecord, or numbers of the same count, and nothing else."""
    rng = random.Random(seed)
    numbers = np.random.default_rng(seed)
    count = 600
    rows = SeriesRows(*(np.sort(numbers.integers(0, 10**6, count)) for _ in range(4)), numbers.normal(size=count))
    block = block_codec.encode(rows)
    histogram = histogram_codec.encode(np.sort(numbers.normal(size=31)).tolist(), numbers.integers(0, 99, 30).tolist())
    assert histogram is not None
    errors = []
    for _ in range(examples(2000)):
        for whole in (block, histogram):
            damaged = bytearray(whole)
            for _ in range(rng.randint(1, 3)):
                damaged[rng.randrange(min(len(damaged), rng.choice([40, 10**6])))] = rng.randrange(256)
            data = bytes(damaged[: rng.choice([len(damaged), rng.randrange(len(damaged))])])
            try:
                if whole is block:
                    assert len(block_codec.decode(data, block_codec.VERSION, count)) == count
                else:
                    found = histogram_codec.decode(data)
                    assert len(found[0]) == len(found[1]) + 1
            except InvalidRecord as error:
                errors.append(error.field)
    assert set(errors) == {"metric_blocks.data", "histograms.data"}
