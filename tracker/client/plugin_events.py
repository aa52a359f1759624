"""Notifies plugins of a run's events, in order, on a background thread that delays only the run's end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from tracker.client.background import Background
from tracker.domain.checkpoint_retention import BEST_BY
from tracker.domain.frames import CheckpointLogged, Frame

if TYPE_CHECKING:
    from tracker.client.fit_recorder import FitRecorder

PATIENCE_S = 5.0
"""Seconds that the end of a run waits for hooks of plugins."""
MOST = 10_000
"""Notices that may wait for a plugin that is slower than the training; further ones are dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitInfo:
    """A `model.fit()` that began: its number and phase, counted from 1, and its first epoch, in the run's numbers.

    `epochs` is the epoch before which it plans to end, None if unknown.
    """

    number: int
    phase: int
    first_epoch: int
    epochs: int | None

    @classmethod
    def of(cls, fit: FitRecorder) -> Self:
        """The description of `fit` for plugins."""
        return cls(number=fit.number, phase=fit.phase, first_epoch=fit.first_epoch, epochs=fit.planned)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointInfo:
    """A checkpoint of a run: `epoch`, `step` and `fit` in the run's numbers, `size` in bytes.

    `is_best` is None if the store decides; `best_by` is the metric by which the callback that saved the checkpoint
    found it the best.
    """

    epoch: int
    step: int | None
    fit: int
    format: str
    size: int
    metrics: Mapping[str, float]
    is_best: bool | None
    best_by: str | None = None

    @classmethod
    def of(cls, frame: Frame) -> Self | None:
        """The description of `frame` for plugins; None if it is not a checkpoint of a model."""
        if not isinstance(frame, CheckpointLogged) or frame.role != "model":
            return None
        return cls(
            epoch=frame.epoch,
            step=frame.step,
            fit=frame.fit,
            format=frame.format,
            size=frame.file.size,
            metrics=frame.metrics,
            is_best=frame.is_best,
            best_by=frame.state.get(BEST_BY),
        )


class Observer(Protocol):
    """Receiver of a run's events, called on the run's thread for notices. Its exceptions are reported."""

    def __call__(self, hook: str, arguments: Mapping[str, Any]) -> None:
        """Handle the event `hook`."""

    def wanted(self) -> Collection[str]:
        """The hooks that have a receiver; called once, on the same thread, before the first notice."""
        ...


class Notices:
    """Queue of a run's events for its plugins. Without an observer, an event costs one lookup in an empty set."""

    def __init__(self, report: Callable[[str, object], None]) -> None:
        self._report = report
        self._background = Background(report, name="tracker-plugins")
        self._observer: Observer | None = None
        self._has_begun = False
        self._wanted: Collection[str] | None = ()
        """None until the observer is found; meanwhile every event is queued."""
        self._is_over = False
        self._put = 0
        self._told = 0

    def begin(self, find: Callable[[], Observer]) -> None:
        """Notify the observer that `find` returns, from now on; `find` is called on the thread for notices."""

        def look() -> None:
            wanted: Collection[str] = ()
            try:
                self._observer = observer = find()
                wanted = observer.wanted()
            finally:
                self._wanted = wanted

        self._has_begun, self._wanted = True, None
        self._background.do(look)

    def put(self, hook: str, **arguments: Any) -> None:
        """Queue the event `hook`."""
        wanted = self._wanted
        if wanted is not None and hook not in wanted:
            return
        if self._put - self._told >= MOST:
            self._report("plugins", f"plugins are slower than the training: {MOST} notices wait, more are not told")
            return
        self._put += 1
        self._background.do(lambda: self._tell(hook, arguments))

    def close(self, timeout: float) -> float:
        """Wait for queued events, half of `timeout` and PATIENCE_S at most, drop later ones; return the time left."""
        if not self._has_begun:
            return timeout
        patience = min(timeout / 2, PATIENCE_S)
        left = self._background.close(patience)
        self._is_over = True
        return timeout - (patience - left)

    def disown(self) -> None:
        """In a forked child: drop all events."""
        self._is_over, self._wanted = True, ()
        self._background.disown()

    def _tell(self, hook: str, arguments: Mapping[str, Any]) -> None:
        self._told += 1
        if not self._is_over and self._observer is not None and hook in (self._wanted or ()):
            self._observer(hook, arguments)
