"""What takes part in the record of a fit besides its epochs: each is a class of its own, made anew for each fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracker_keras.record.fit import ObservedFit


class Part:
    """Follows one fit. What a method raises is said on the log and costs nobody else anything.

    It is made before the fit's first epoch, when the hooks of other callbacks can be watched (`fit.watch`); what it
    does that takes time belongs into `fit.run.in_background`.
    """

    def __init__(self, fit: ObservedFit) -> None:
        self.fit = fit

    def begin(self, initial_epoch: int) -> None:
        """The fit's record began (`fit.recorder`) with Keras' `initial_epoch`; the model may not be built yet."""

    def begin_epoch(self, epoch: int) -> None:
        """Keras' `epoch` begins, and no callback has heard of it yet."""

    def end_epoch(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Keras' `epoch` is on record with these metrics, rates among them."""

    def settle_epoch(self, epoch: int) -> None:
        """All callbacks are through with Keras' `epoch`; not called where one of them raised."""

    def end(self) -> None:
        """The fit is about to be recorded as ended; not called for one that died."""

    def died(self) -> None:
        """The fit is about to be recorded as ended by an error; also called for a loop that never said it was over."""


MakePart = Callable[["ObservedFit"], Part]
