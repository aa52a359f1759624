"""Long histories for tests, stored by column within a second or two."""

from __future__ import annotations

import math
from collections.abc import Callable

from e2e.server_lab import start_of

from tracker.client.batch_builder import make_batch
from tracker.domain.frames import Batch, PointBlock
from tracker.domain.ports import RunStore

BEGAN_MS = 1000
_AT_ONCE = 100_000


def value_at(step: int) -> float:
    """What a long history has at a step: as many digits as losses have, and a NaN now and then."""
    return math.nan if step % 10_007 == 5 else 1 / (step + 3)


def add_history(
    store: RunStore, run_id: str, points: int, *, key: str = "loss", ms_at: Callable[[int], int] | None = None
) -> None:
    """A run with `points` points of `key` at the steps from 0 on, a millisecond apart or at the times `ms_at(step)`."""
    store.append(make_batch(run_id, "w", [(1, start_of(run_id))]))
    for first in range(0, points, _AT_ONCE):
        steps = list(range(first, min(first + _AT_ONCE, points)))
        numbers = [step + 2 for step in steps]
        ms = [BEGAN_MS + step if ms_at is None else ms_at(step) for step in steps]
        block = PointBlock("step", 0, (key,), numbers, steps, ms, [[value_at(step) for step in steps]])
        store.append(Batch(run_id, "w", numbers[0], numbers[-1], blocks=[block]))
