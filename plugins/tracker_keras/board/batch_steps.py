"""Which optimizer step a call of a batch hook stands for, for those who count calls (Keras' TensorBoard)."""

from __future__ import annotations

import math
from bisect import bisect_left


class BatchSteps:
    """Calls of the batch hook, counted from 1 through a fit, as optimizer steps of the fit.

    With `steps_per_execution` = N a call stands for N steps, the last one of an epoch perhaps for fewer; with an
    optimizer that accumulates gradients over n batches for 1/n of one. `per_call` is that number, `calls` how many
    calls an epoch has, if it is known before one ended.
    """

    def __init__(self, per_call: float, calls: int | None) -> None:
        self._per_call = per_call
        self._calls = calls
        self._ends = [(0, 0)]

    def end_epoch(self, steps: int) -> None:
        """An epoch ended after `steps` steps of the fit; one whose end was told already is passed over."""
        calls, before = self._ends[-1]
        if steps > before:
            self._ends.append((calls + (self._calls or math.ceil((steps - before) / self._per_call)), steps))

    def __call__(self, call: int) -> int:
        """Steps done in the fit when the `call`-th call came."""
        ends = self._ends
        after = bisect_left(ends, call, key=lambda end: end[0])
        calls, steps = ends[max(after - 1, 0)]
        reached = steps + math.ceil((call - calls) * self._per_call)
        return min(reached, ends[after][1]) if after < len(ends) else reached
