"""Frames → batches: points by column, everything else in order."""

from __future__ import annotations

from collections.abc import Sequence

from tracker.domain.frames import Batch, EpochEnded, Frame, Item, PointBlock, Points


def make_batch(run_id: str, writer: str, frames: Sequence[tuple[int, Frame]]) -> Batch:
    """One batch of `frames`, which are not empty and in order of their numbers."""
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
    """Collects consecutive frames of the same keys, axis and fit into blocks."""

    def __init__(self) -> None:
        self._blocks: list[PointBlock] = []
        self._head: tuple[str, int] | None = None
        self._keys: object = None
        self._numbers: list[int] = []
        self._steps: list[int] = []
        self._ms: list[int] = []
        self._values: list[dict[str, float]] = []

    def add(self, number: int, frame: Points | EpochEnded, axis: str, step: int) -> None:
        values = frame.values
        if values.keys() != self._keys or (axis, frame.fit) != self._head:
            self._close()
            self._keys, self._head = values.keys(), (axis, frame.fit)
        self._numbers.append(number)
        self._steps.append(step)
        self._ms.append(frame.ms)
        self._values.append(values)

    def finished(self) -> list[PointBlock]:
        self._close()
        return self._blocks

    def _close(self) -> None:
        if self._values and self._values[0] and self._head is not None:
            axis, fit = self._head
            self._blocks.append(
                PointBlock(
                    axis=axis,  # type: ignore[arg-type]
                    fit=fit,
                    keys=tuple(self._values[0]),
                    numbers=self._numbers,
                    steps=self._steps,
                    ms=self._ms,
                    values=self._columns(),
                )
            )
        self._numbers, self._steps, self._ms, self._values = [], [], [], []

    def _columns(self) -> list[list[float]]:
        first = tuple(self._values[0])
        if all(tuple(row) == first for row in self._values):
            return [list(column) for column in zip(*(row.values() for row in self._values), strict=True)]
        # The same keys in another order.
        return [[row[key] for row in self._values] for key in first]
