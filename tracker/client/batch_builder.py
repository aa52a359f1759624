"""Makes batches from frames: points in columns, all other items in order."""

from __future__ import annotations

from collections.abc import Sequence

from tracker.domain.frames import Batch, EpochEnded, Frame, Item, PointBlock, Points
from tracker.domain.vocabulary import Axis


def make_batch(run_id: str, writer: str, frames: Sequence[tuple[int, Frame]]) -> Batch:
    """One batch of `frames`, which must not be empty and are sorted by number."""
    items: list[tuple[int, Item]] = []
    blocks = _Blocks()
    for number, frame in frames:
        if type(frame) is Points:
            blocks.add(number, frame, frame.axis, frame.step)
        elif type(frame) is EpochEnded:
            items.append((number, frame))
            blocks.add(number, frame, "epoch", frame.epoch)
        else:
            items.append((number, frame))  # type: ignore[arg-type]
    return Batch(
        run_id=run_id,
        writer=writer,
        first=frames[0][0],
        last=frames[-1][0],
        items=items,
        blocks=blocks.finished(),
    )


class _Blocks:
    """Collects consecutive frames with the same keys, axis and fit into blocks."""

    def __init__(self) -> None:
        self._blocks: list[PointBlock] = []
        self._keys: tuple[str, ...] = ()
        self._axis: Axis = "step"
        self._fit = 0
        self._numbers: list[int] = []
        self._steps: list[int] = []
        self._ms: list[int] = []
        self._values: list[dict[str, float]] = []

    def add(self, number: int, frame: Points | EpochEnded, axis: Axis, step: int) -> None:
        values = frame.values
        keys = tuple(values)
        if keys != self._keys or frame.fit != self._fit or axis != self._axis:
            self._close()
            self._keys, self._axis, self._fit = keys, axis, frame.fit
        self._numbers.append(number)
        self._steps.append(step)
        self._ms.append(frame.ms)
        self._values.append(values)

    def finished(self) -> list[PointBlock]:
        self._close()
        return self._blocks

    def _close(self) -> None:
        if self._values and self._keys:
            self._blocks.append(
                PointBlock(
                    axis=self._axis,
                    fit=self._fit,
                    keys=self._keys,
                    numbers=self._numbers,
                    steps=self._steps,
                    ms=self._ms,
                    # Not zip(*rows): thousands of parallel iterators take five times as long.
                    values=[[row[key] for row in self._values] for key in self._keys],
                )
            )
        self._numbers, self._steps, self._ms, self._values = [], [], [], []
