"""BatchLog against a plain model of what it must write."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tracker_keras.recording.batches import BatchLog


class Written:
    """The steps that were written, in the order of writing, with their logs."""

    def __init__(self) -> None:
        self.points: list[tuple[int, Mapping[str, Any]]] = []

    def __call__(self, step: int, logs: Mapping[str, Any]) -> None:
        self.points.append((step, logs))

    @property
    def steps(self) -> list[int]:
        return sorted(step for step, _ in self.points)


def calls(steps: int, size: int) -> list[int]:
    """The batch indices with which Keras calls the hook in an epoch of `steps` steps, `size` at once."""
    return [first + size - 1 for first in range(0, steps, size)]


def expected(epochs: list[int], size: int, every: int, offset: int = 0) -> list[int]:
    """Ends of executions within which a multiple of `every` run steps lies."""
    ends, before = [], 0
    for steps in epochs:
        for first in range(0, steps, size):
            start, end = before + first, before + min(first + size, steps)
            if (offset + end) // every > (offset + start) // every:
                ends.append(end)
        before += steps
    return ends


@given(
    epochs=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    size=st.integers(1, 9),
    every=st.integers(1, 25),
    offset=st.integers(0, 50),
    shuffle=st.randoms(use_true_random=False),
)
def test_steps_are_the_optimizers_own_in_any_order(
    epochs: list[int], size: int, every: int, offset: int, shuffle: Any
) -> None:
    """Whatever the epoch's length, the steps at once and the order of calls: each multiple once, at a true step."""
    written = Written()
    log = BatchLog(every, size, written, offset=offset)
    before = 0
    for steps in epochs:
        log.begin_epoch(before)
        order = calls(steps, size)
        shuffle.shuffle(order)
        for batch in order:
            log.add(batch, {"loss": float(batch)})
        before += steps
        log.end_epoch(before)
    assert written.steps == expected(epochs, size, every, offset)


def test_calls_from_many_threads_at_once() -> None:
    """Calls that come in a pool of threads are all counted, and each is written with its own logs."""
    written = Written()
    log = BatchLog(1, 4, written)
    log.begin_epoch(0)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda batch: log.add(batch, {"loss": float(batch)}), calls(4000, 4)))
    log.end_epoch(4000)
    assert written.steps == list(range(4, 4001, 4))
    assert all(logs == {"loss": float(step - 1)} for step, logs in written.points)


def test_a_single_step_is_written_at_once() -> None:
    """Without `steps_per_execution` nothing waits for the next call: a training that dies has its last batch."""
    written = Written()
    log = BatchLog(1, 1, written)
    log.begin_epoch(0)
    log.add(0, {"loss": 1.0})
    assert written.points == [(1, {"loss": 1.0})]


def test_an_epoch_that_was_cut_short() -> None:
    """An execution that the end of the data cut short counts only the steps that were done."""
    written = Written()
    log = BatchLog(3, 3, written)
    log.begin_epoch(0)
    log.add(2, {})
    log.add(5, {})
    log.end_epoch(5)
    assert written.steps == [3]
