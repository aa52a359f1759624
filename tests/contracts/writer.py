"""A writer of batches, for tests and for the processes that they start: it imports little, for it is imported often."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from tracker.client.batch_builder import make_batch
from tracker.compose import open_store
from tracker.domain.frames import Batch, Frame, Points, RunStarted
from tracker.domain.ports import RunStore


class Writer:
    """Numbers frames as a journal does."""

    def __init__(self, store: RunStore, run_id: str = "r", writer: str = "w") -> None:
        self.store, self.run_id, self.writer, self.number = store, run_id, writer, 0

    def batch(self, *frames: Frame) -> Batch:
        numbered = [(self.number + i, frame) for i, frame in enumerate(frames, 1)]
        self.number += len(frames)
        return make_batch(self.run_id, self.writer, numbered)

    def send(self, *frames: Frame) -> Batch:
        batch = self.batch(*frames)
        assert self.store.append(batch).last == self.number
        return batch

    def start(self, ms: int = 1000, experiment: str = "Default") -> Writer:
        self.send(RunStarted(ms, experiment, f"name-{self.run_id}", "file:///tmp/x", "host", 1))
        return self


def points(step: int, *, axis: Any = "step", fit: int = 0, **values: float) -> Points:
    return Points(2000 + step, axis, step, fit, values)


def write_interleaved(url: str, run: str, name: str, odd: int) -> None:
    """Write every second of a run's 2000 points, the odd ones or the others, in batches of 50."""
    with closing(open_store(url)) as store:
        writer = Writer(store, run, name).start()
        steps = range(odd, 2000, 2)
        for start in range(0, 1000, 50):
            writer.send(*[points(step, x=float(step), **{f"k{step % 3}": 1.0}) for step in steps[start : start + 50]])
