"""Base class of what records more of a fit than its epochs, such as checkpoints and data; one object for each fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracker_keras.recording.fit_state import FitState


class FitObserver:
    """Follows one fit. Exceptions of a method are logged and do not affect other observers.

    It is created before the fit's first epoch, so that it can wrap the hooks of other callbacks (`fit.wrappers`); slow
    work belongs into `fit.run.in_background`.
    """

    def __init__(self, fit: FitState) -> None:
        self.fit = fit

    def begin(self, initial_epoch: int) -> None:
        """The fit's record began (`fit.recorder`) with Keras' `initial_epoch`; the model may not be built yet."""

    def begin_epoch(self, epoch: int) -> None:
        """Keras' `epoch` begins, before any callback's hook."""

    def end_epoch(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Keras' `epoch` is recorded with these metrics, rates included."""

    def settle_epoch(self, epoch: int) -> None:
        """All callbacks' `on_epoch_end` for Keras' `epoch` have returned; not called if one of them raised."""

    def end(self) -> None:
        """The fit is about to be recorded as ended; not called for one that died."""

    def died(self) -> None:
        """The fit is about to be recorded as failed; also called for a loop that never called `on_train_end`."""
