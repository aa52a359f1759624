"""Detects changes of the learning rate and who made them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tracker_keras.recording.optimizers import learning_rates, settable, settable_rates

Say = Callable[[str, int, Mapping[str, Any]], None]
"""Records a decision: its kind, Keras' epoch, its detail."""


class RateWatch:
    """Records `learning_rate_changed` {from, to, by} for each change of `model`'s rates, with its cause.

    The rates are read before and after each callback that changes rates: a difference in between is the callback's, an
    earlier one is an assignment by the user. An optimizer with a schedule or a function is read at the end of epochs,
    so that its changes match the series `learning_rate`. With several optimizers the detail names the `optimizer`.
    """

    def __init__(self, model: Any, say: Say) -> None:
        self._model = model
        self._say = say
        self._known = settable_rates(model)
        self._scheduled: dict[str, float] = {}

    def begin(self) -> None:
        """Take the current rates as known, without recording a change: a training begins or was resumed."""
        self._known = settable_rates(self._model)

    def scheduled(self) -> dict[str, float]:
        """The last epoch's rates of the optimizers that follow a schedule."""
        return dict(self._scheduled)

    def put_back(self, scheduled: Mapping[str, float]) -> None:
        """Restore the result of `scheduled` from another process."""
        self._scheduled = dict(scheduled) | self._scheduled

    def read(self, epoch: int) -> dict[str, float]:
        """The rates right before the first batch of `epoch`; an unexplained change is recorded as an assignment."""
        now = learning_rates(self._model)
        self._compare({key: now[key] for key in settable(self._model)}, epoch, "assignment")
        return now

    def record_changes(self, epoch: int, by: str = "assignment") -> None:
        """Record changes since the last call as made `by` this, in `epoch`."""
        self._compare(settable_rates(self._model), epoch, by)

    def end_epoch(self, epoch: int, rates: Mapping[str, float]) -> None:
        """Record changes by schedules; `epoch` was trained with these rates, by the key of their series."""
        for key, rate in rates.items():
            if key not in self._known:
                if key in self._scheduled and self._scheduled[key] != rate:
                    self._record_change(key, epoch, self._scheduled[key], rate, "schedule")
                self._scheduled[key] = rate

    def _compare(self, now: dict[str, float], epoch: int, by: str) -> None:
        for key, rate in now.items():
            if key in self._known and self._known[key] != rate:
                self._record_change(key, epoch, self._known[key], rate, by)
        self._known = now

    def _record_change(self, key: str, epoch: int, before: float, after: float, by: str) -> None:
        of = {"optimizer": name} if (name := key.removeprefix("learning_rate").removeprefix("_")) else {}
        self._say("learning_rate_changed", epoch, {"from": before, "to": after, "by": by, **of})
