"""`TrackerCallback(histograms=n)`: histograms of the weights, every n epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from tracker.client.clock import now_ms
from tracker.client.run import recorder_of
from tracker.domain.errors import InvalidValue
from tracker_keras.recording.fit_observers import FitObserver
from tracker_keras.recording.histogram_buckets import buckets

if TYPE_CHECKING:
    from tracker_keras.recording.fit_state import FitState

WAITING_BYTES = 256 * 1024 * 1024
"""How many bytes of weights may wait to be counted; an epoch that finds more is left out."""


def checked_frequency(histograms: object) -> int:
    """`histograms` if it is a number of epochs, else InvalidValue."""
    if not isinstance(histograms, int) or isinstance(histograms, bool) or histograms < 0:
        raise InvalidValue("histograms", f"{histograms!r}", limit="0 for none, or a number of epochs")
    return histograms


def weight_histograms(every: int) -> list[Callable[[FitState], FitObserver]]:
    """The observer that records them every so many epochs; none for 0."""
    return [lambda fit: WeightHistograms(fit, every)] if every else []


def named_weights(model: Any) -> Iterator[tuple[str, Any]]:
    """The weights of the model's layers by their paths, as Keras' TensorBoard callback names them."""
    for layer in model.layers:
        for weight in layer.weights:
            yield weight.path.replace(":", "_"), weight


class WeightHistograms(FitObserver):
    """Counts the weights of Keras' epochs 0, n, 2n … into 30 buckets, under their paths (`dense/kernel`).

    The epochs, the keys and the buckets are those of Keras' TensorBoard callback with `histogram_freq=n`, so that both
    together have one histogram an epoch. The training waits for a copy of the weights, which is counted in the
    background.
    """

    def __init__(self, fit: FitState, every: int) -> None:
        super().__init__(fit)
        self._every = every
        self._lock = Lock()
        self._waiting = 0

    def end_epoch(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Copy the weights and have them counted; on JAX they are there when an epoch has ended, and not before."""
        recorder = self.fit.recorder
        if epoch % self._every or recorder is None:
            return
        if self._waiting > WAITING_BYTES:
            raise InvalidValue(
                "histograms", f"{self._waiting} bytes of weights wait to be counted", limit=f"{WAITING_BYTES} bytes"
            )
        weights = {key: np.array(ops.convert_to_numpy(weight)) for key, weight in named_weights(self.fit.model)}
        number, fit, moment = recorder.epoch(epoch), recorder.number, now_ms()
        size = sum(weight.nbytes for weight in weights.values())
        self._wait_for(size)

        def count() -> None:
            try:
                for key, weight in weights.items():
                    self._record(key, weight, number, fit, moment)
            finally:
                self._wait_for(-size)

        self.fit.run.in_background(count)

    def _wait_for(self, size: int) -> None:
        with self._lock:
            self._waiting += size

    def _record(self, key: str, weight: NDArray[Any], epoch: int, fit: int, moment: int) -> None:
        edges, counts = buckets(weight)
        if left := weight.size - int(counts.sum()):
            self.fit.run.report(
                f"histogram {key}",
                f"{left} of the {weight.size} values of {key} are NaN or infinite in epoch {epoch}; its histogram "
                "has the others",
            )
        recorder_of(self.fit.run).bins("epoch", epoch, key, edges, counts, fit=fit, ms=moment)
