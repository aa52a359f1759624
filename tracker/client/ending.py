"""How a run ends: its status, what must be over before, and its last frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tracker.client.fit_recorder import FitRecorder, outcome_of
from tracker.client.interrupts import EXIT_TIMEOUT_S, SIGNAL_TIMEOUT_S, uninterrupted
from tracker.client.recorder import RunRecorder
from tracker.client.values import described
from tracker.domain.frames import RunEnded
from tracker.domain.vocabulary import FitOutcome, RunStatus

Error = BaseException | Mapping[str, str]
"""An exception that ended a run, or its description (see `described`)."""


def status_after(error: BaseException | None) -> RunStatus:
    """Status of a run that ended with this exception, or without one."""
    if error is None:
        return "finished"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, SystemExit) and error.code in (None, 0):
        return "finished"
    if isinstance(error, GeneratorExit):
        return "finished"
    return "failed"


class RunEnd:
    """The end of one run: `Run.finish`, the end of its `with` block, or the end of its process.

    `last_fit` returns the run's last fit. `on_end` is called once when the run has ended.
    """

    def __init__(self, recorder: RunRecorder, last_fit: Callable[[], FitRecorder | None]) -> None:
        self._recorder = recorder
        self._writer = recorder.writer
        self._last_fit = last_fit
        self.status: RunStatus = "running"
        self.preempted = False
        """Whether a signal arrived that a handler of the training script decides about."""
        self.disowned = False
        """Whether this process is a forked child of the run's process."""
        self.on_end: Callable[[], None] = lambda: None

    def end(self, status: RunStatus, error: Error | None, timeout: float = EXIT_TIMEOUT_S) -> int:
        """End the run as `Run.finish` does, with the exception that ended it, if any."""
        try:
            return self._end(status, error, timeout)
        except KeyboardInterrupt:  # Ctrl-C meanwhile: the run's end is still recorded, with a short wait
            with uninterrupted():
                self._end("interrupted" if status == "finished" else status, error, SIGNAL_TIMEOUT_S)
            raise

    def _end(self, status: RunStatus, error: Error | None, timeout: float) -> int:
        recorder, fit = self._recorder, self._last_fit()
        if self._writer.ended:
            return self._writer.left
        timeout = recorder.background.close(timeout, patient=status != "preempted" and not self.preempted)
        status = self._ending(status, error)
        if fit is not None and not fit.ended:
            completed = status == "finished" and error is None and fit.is_complete
            fit.end("completed" if completed else outcome_of(status, error))
        recorder.events.put("run_ended", status=status)
        timeout = recorder.events.close(timeout)
        self.status = status
        failure: Mapping[str, str] | None = None
        if status == "failed":  # otherwise nothing is imported while the process ends
            failure = described(error) if isinstance(error, BaseException) else error
        try:
            return self._writer.end(
                RunEnded(
                    ms=recorder.position.moment(),
                    status=status,
                    error=dict(failure) if failure and status == "failed" else None,
                ),
                timeout,
            )
        finally:
            if self._writer.ended:
                self.on_end()

    @property
    def has_open_fit(self) -> bool:
        """Whether the last fit did not return and did not record all its epochs."""
        fit = self._last_fit()
        return fit is not None and not fit.ended and not fit.is_complete

    def outcome_after(self, error: BaseException) -> FitOutcome:
        """Outcome of a fit that raised `error`."""
        return outcome_of(self._ending(status_after(error), error), error)

    def _ending(self, status: RunStatus, error: object) -> RunStatus:
        """`status`, or `preempted` if a signal's handler ended the run by SystemExit or KeyboardInterrupt."""
        left = status in ("finished", "interrupted") or isinstance(error, SystemExit)
        return "preempted" if self.preempted and left else status

    def disown(self) -> None:
        """In a forked child: leave the run to the parent."""
        self.disowned = True
        self._recorder.background.disown()
        self._recorder.events.disown()
        self._writer.disown()
