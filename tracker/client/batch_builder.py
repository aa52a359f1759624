"""Makes batches from frames: points in columns, all other items in order."""

from __future__ import annotations

from collections.abc import Sequence

from tracker.domain.frames import Batch, EpochEnded, Frame, Item, PointBlock, Points
from tracker.domain.vocabulary import Axis


def make_batch(run_id: str, writer: str, frames: Sequence[tuple[int, Frame]]) -> Batch:
    """One batch of `frames`, which must not be empty and are sorted by number.

    Consecutive frames with the same keys, axis and fit become one block.
    """
    items: list[tuple[int, Item]] = []
    blocks: list[PointBlock] = []
    block = _Block((), "step", 0)
    for number, frame in frames:
        axis: Axis
        if type(frame) is Points:
            axis, step = frame.axis, frame.step
        elif type(frame) is EpochEnded:
            items.append((number, frame))
            axis, step = "epoch", frame.epoch
        else:
            items.append((number, frame))  # type: ignore[arg-type]
            continue
        values = frame.values
        keys = tuple(values)
        if keys != block.keys or frame.fit != block.fit or axis != block.axis:
            block.close(blocks)
            block = _Block(keys, axis, frame.fit)
        block.numbers.append(number)
        block.steps.append(step)
        block.ms.append(frame.ms)
        block.rows.append(values)
    block.close(blocks)
    return Batch(run_id=run_id, writer=writer, first=frames[0][0], last=frames[-1][0], items=items, blocks=blocks)


class _Block:
    """A block that is being made."""

    __slots__ = ("axis", "fit", "keys", "ms", "numbers", "rows", "steps")

    def __init__(self, keys: tuple[str, ...], axis: Axis, fit: int) -> None:
        self.keys, self.axis, self.fit = keys, axis, fit
        self.numbers: list[int] = []
        self.steps: list[int] = []
        self.ms: list[int] = []
        self.rows: list[dict[str, float]] = []

    def close(self, blocks: list[PointBlock]) -> None:
        """Add it to `blocks`, unless it is empty."""
        if not self.rows or not self.keys:
            return
        # Not zip(*rows): thousands of parallel iterators take five times as long.
        values = [[row[key] for row in self.rows] for key in self.keys]
        blocks.append(
            PointBlock(
                axis=self.axis,
                fit=self.fit,
                keys=self.keys,
                numbers=self.numbers,
                steps=self.steps,
                ms=self.ms,
                values=values,
            )
        )
