"""Who changed the learning rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tracker_keras.record.optimizers import learning_rates, settable, settable_rates

Say = Callable[[str, int, Mapping[str, Any]], None]
"""Tells of a decision: its kind, Keras' epoch, its detail."""


class RateWatch:
    """Tells `learning_rate_changed` {from, to, by} for each change of `model`'s rates, with who made it.

    It knows by asking right before and right after those who change rates: what differs in between is theirs, what
    differed before they came is an assignment of the user's. An optimizer that follows a schedule, or a function, is
    asked as epochs end, so that its changes are those of the series `learning_rate`. Of several optimizers the
    detail names the `optimizer`.
    """

    def __init__(self, model: Any, say: Say) -> None:
        self._model = model
        self._say = say
        self._known = settable_rates(model)
        self._scheduled: dict[str, float] = {}

    def begin(self) -> None:
        """The rates are as somebody else made them whom nobody has to be told of: a training was resumed."""
        self._known = settable_rates(self._model)

    def scheduled(self) -> dict[str, float]:
        """The last epoch's rates of those optimizers that follow a schedule."""
        return dict(self._scheduled)

    def put_back(self, scheduled: Mapping[str, float]) -> None:
        """Know what `scheduled` said in another process."""
        self._scheduled = dict(scheduled) | self._scheduled

    def read(self, epoch: int) -> dict[str, float]:
        """What the rates are right before the first batch of `epoch`; what else changed them was an assignment."""
        now = learning_rates(self._model)
        self._compare({key: now[key] for key in settable(self._model)}, epoch, "assignment")
        return now

    def look(self, epoch: int, by: str = "assignment") -> None:
        """Whatever changed since the last look was changed `by` this, in `epoch`."""
        self._compare(settable_rates(self._model), epoch, by)

    def end_epoch(self, epoch: int, rates: Mapping[str, float]) -> None:
        """`epoch` was trained with these rates, by the key of their series."""
        for key, rate in rates.items():
            if key not in self._known:
                if key in self._scheduled and self._scheduled[key] != rate:
                    self._tell(key, epoch, self._scheduled[key], rate, "schedule")
                self._scheduled[key] = rate

    def _compare(self, now: dict[str, float], epoch: int, by: str) -> None:
        for key, rate in now.items():
            if key in self._known and self._known[key] != rate:
                self._tell(key, epoch, self._known[key], rate, by)
        self._known = now

    def _tell(self, key: str, epoch: int, before: float, after: float, by: str) -> None:
        of = {"optimizer": name} if (name := key.removeprefix("learning_rate").removeprefix("_")) else {}
        self._say("learning_rate_changed", epoch, {"from": before, "to": after, "by": by, **of})
