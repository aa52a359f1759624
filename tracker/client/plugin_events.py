"""What a run tells its plugins: beside the training, in order, on a thread that nothing else waits for."""

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
"""How long the end of a run waits for hooks of plugins."""
MOST = 10_000
"""How many notices may wait for a plugin that is slower than the training; what comes on top is not told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitInfo:
    """A `model.fit()` that began: its number and phase, counted from 1, and where it begins, as the run counts.

    `epochs` is the epoch that it plans to end before, None if it does not say.
    """

    number: int
    phase: int
    first_epoch: int
    epochs: int | None

    @classmethod
    def of(cls, fit: FitRecorder) -> Self:
        """What is told of `fit`."""
        return cls(number=fit.number, phase=fit.phase, first_epoch=fit.first_epoch, epochs=fit.planned)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointInfo:
    """A checkpoint that a run took: `epoch`, `step` and `fit` as the run counts, `size` in bytes.

    `is_best` is None where the store decides; `best_by` is the metric by which the callback that saved it held it for
    the best.
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
        """What is told of `frame`; None if it is no checkpoint of a model."""
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
    """Who is told what a run does; called on the run's thread for notices. What it raises is reported."""

    def __call__(self, hook: str, arguments: Mapping[str, Any]) -> None:
        """Tell that `hook` happened."""

    def wanted(self) -> Collection[str]:
        """The hooks that anybody wants; asked once, on the same thread, before the first notice."""
        ...


class Notices:
    """The notices of one run. Without an observer, all that they cost is a look into an empty set."""

    def __init__(self, report: Callable[[str, object], None]) -> None:
        self._report = report
        self._background = Background(report, name="tracker-plugins")
        self._observer: Observer | None = None
        self._has_begun = False
        self._wanted: Collection[str] | None = ()
        """None while it is not known yet; then everything is told."""
        self._is_over = False
        self._put = 0
        self._told = 0

    def begin(self, find: Callable[[], Observer]) -> None:
        """Tell whom `find` returns from now on; it is called on the thread of the notices."""

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
        """Tell that `hook` happened, beside the training."""
        wanted = self._wanted
        if wanted is not None and hook not in wanted:
            return
        if self._put - self._told >= MOST:
            self._report("plugins", f"plugins are slower than the training: {MOST} notices wait, more are not told")
            return
        self._put += 1
        self._background.do(lambda: self._tell(hook, arguments))

    def close(self, timeout: float) -> float:
        """Wait for what was put, half of `timeout` and PATIENCE_S at most, tell nothing more; return what is left."""
        if not self._has_begun:
            return timeout
        patience = min(timeout / 2, PATIENCE_S)
        left = self._background.close(patience)
        self._is_over = True
        return timeout - (patience - left)

    def disown(self) -> None:
        """In a forked child: tell nothing."""
        self._is_over, self._wanted = True, ()
        self._background.disown()

    def _tell(self, hook: str, arguments: Mapping[str, Any]) -> None:
        self._told += 1
        if not self._is_over and self._observer is not None and hook in (self._wanted or ()):
            self._observer(hook, arguments)
