"""Converts calls of a batch hook, which Keras' TensorBoard counts, to optimizer steps."""

from __future__ import annotations

import math
from bisect import bisect_left


class BatchSteps:
    """Calls of the batch hook, counted from 1 through a fit, as optimizer steps of the fit.

    With `steps_per_execution` = N a call counts as N steps, an epoch's last call possibly as fewer. With an optimizer
    that accumulates gradients over n batches it counts as 1/n of a step. `per_call` is that number. `calls` and `steps`
    are an epoch's numbers of both, if known before an epoch ended. An epoch's last call is always at its end,
    even before `end_epoch` was called: steps are asked for by another thread than the training's.
    """

    def __init__(self, per_call: float, calls: int | None, steps: int | None = None) -> None:
        self._per_call = per_call
        self._calls = calls
        self._epoch = (calls, steps) if calls and steps else None
        self._ends = [(0, 0)]

    def end_epoch(self, steps: int) -> None:
        """An epoch ended after `steps` steps of the fit; a second call for the same end does nothing."""
        calls, before = self._ends[-1]
        if steps > before:
            self._ends.append((calls + (self._calls or math.ceil((steps - before) / self._per_call)), steps))

    def __call__(self, call: int) -> int:
        """Steps done in the fit when the `call`-th call came."""
        ends = self._ends
        after = bisect_left(ends, call, key=lambda end: end[0])
        calls, steps = ends[max(after - 1, 0)]
        if after < len(ends):
            return min(steps + math.ceil((call - calls) * self._per_call), ends[after][1])
        if self._epoch is not None and call > calls:
            each, most = self._epoch
            epochs, more = divmod(call - calls - 1, each)
            return steps + epochs * most + min(math.ceil((more + 1) * self._per_call), most)
        return steps + math.ceil((call - calls) * self._per_call)
