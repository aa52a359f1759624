"""A thread that reads system metrics periodically; its errors do not reach the training."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from tracker_system.gpu import Gpus
from tracker_system.machine import Reading, readings

log = logging.getLogger("tracker")

END_S = 1.0
"""Seconds that `stop` waits for a reading that hangs; also how soon the thread ends after its run has ended."""


class Sampler:
    """Reads at once, every `interval` seconds, and on `stop`, and passes the metrics to `take`.

    A reading that raises is logged once and left out from then on. The thread ends by itself when `is_over`.
    """

    def __init__(
        self, take: Callable[[Mapping[str, float]], None], is_over: Callable[[], bool], interval: float
    ) -> None:
        self._take = take
        self._is_over = is_over
        self._interval = interval
        self._stopped = threading.Event()
        self._readings: list[Reading] = []
        self._thread = threading.Thread(target=self._run, name="tracker-system", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Read once more and stop; returns when the thread has ended, after END_S at the latest."""
        self._stopped.set()
        self._thread.join(END_S)

    def _run(self) -> None:
        try:
            with Gpus() as gpus:
                self._readings = [*readings(), gpus.read]
                self._read()
                while not self._wait():
                    self._read()
                self._read()
        except Exception:
            log.warning("system metrics are not recorded any more", exc_info=True)

    def _wait(self) -> bool:
        """Wait for the next reading; True if it is the last."""
        left = self._interval
        while left > 0 and not self._is_over():
            if self._stopped.wait(min(left, END_S)):
                return True
            left -= END_S
        return self._is_over()

    def _read(self) -> None:
        found: dict[str, float] = {}
        for reading in list(self._readings):
            try:
                found |= reading()
            except Exception as error:
                self._readings.remove(reading)
                log.info("some system metrics are not recorded, as they cannot be read here: %r", error)
        if found and not self._is_over():
            self._take(found)
