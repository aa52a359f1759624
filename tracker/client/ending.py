"""Ends a run: by `finish`, at the end of its `with` block, or when its process ends."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from tracker.client import lifecycle
from tracker.client.background import Background
from tracker.client.fit_recorder import FitRecorder, Position, outcome_of
from tracker.client.plugin_events import Notices
from tracker.client.values import described
from tracker.client.writer import RunWriter
from tracker.domain.errors import InvalidValue
from tracker.domain.frames import RunEnded
from tracker.domain.vocabulary import RUN_STATUSES, FitOutcome, RunStatus

Error = BaseException | Mapping[str, str]
"""An exception that ended a run, or its description (see `described`)."""


class Ending:
    """Mixin of `Run` with the methods that end it."""

    status: RunStatus
    preempted: bool
    """Whether a signal arrived that a handler of the training script decides about."""
    disowned: bool = False
    """Whether this process is a forked child of the run's process."""
    _background: Background
    _fit: FitRecorder | None
    _notices: Notices
    _position: Position
    _writer: RunWriter

    def finish(self, status: RunStatus = "finished", *, timeout: float = lifecycle.EXIT_TIMEOUT_S) -> int:
        """End the run and wait as `flush` does; return how many points and files are still in the journal.

        A second call changes nothing. A run whose process got SIGTERM meanwhile is `preempted`, not `finished`.
        """
        if status not in RUN_STATUSES or status in ("running", "lost"):
            raise InvalidValue("status", f"{status!r} is not how a run ends", limit=", ".join(RUN_STATUSES[1:-1]))
        return self.end(status, None, timeout)

    def end(
        self,
        status: RunStatus,
        error: Error | None,
        timeout: float = lifecycle.EXIT_TIMEOUT_S,
    ) -> int:
        """End the run as `finish` does, with the exception that ended it, if any."""
        try:
            return self._end(status, error, timeout)
        except KeyboardInterrupt:  # Ctrl-C meanwhile: the run's end is still recorded, with a short wait
            with lifecycle.uninterrupted():
                self._end("interrupted" if status == "finished" else status, error, lifecycle.SIGNAL_TIMEOUT_S)
            raise

    def _end(self, status: RunStatus, error: Error | None, timeout: float) -> int:
        if self._writer.ended:
            return self._writer.left
        timeout = self._background.close(timeout, patient=status != "preempted" and not self.preempted)
        status = self._ending(status, error)
        if self._fit is not None and not self._fit.ended:
            completed = status == "finished" and error is None and self._fit.is_complete
            self._fit.end("completed" if completed else outcome_of(status, error))
        self._notices.put("run_ended", run=self, status=status)
        timeout = self._notices.close(timeout)
        self.status = status
        failure: Mapping[str, str] | None = None
        if status == "failed":  # otherwise nothing is imported while the process ends
            failure = described(error) if isinstance(error, BaseException) else error
        try:
            return self._writer.end(
                RunEnded(
                    ms=self._position.moment(),
                    status=status,
                    error=dict(failure) if failure and status == "failed" else None,
                ),
                timeout,
            )
        finally:
            if self._writer.ended:
                lifecycle.forget(self)

    @property
    def has_open_fit(self) -> bool:
        """Whether the last fit did not return and did not record all its epochs."""
        return self._fit is not None and not self._fit.ended and not self._fit.is_complete

    def outcome_after(self, error: BaseException) -> FitOutcome:
        """Outcome of a fit that raised `error`."""
        return outcome_of(self._ending(lifecycle.status_after(error), error), error)

    def _ending(self, status: RunStatus, error: object) -> RunStatus:
        """`status`, or `preempted` if a signal's handler ended the run by SystemExit or KeyboardInterrupt."""
        left = status in ("finished", "interrupted") or isinstance(error, SystemExit)
        return "preempted" if self.preempted and left else status

    def disown(self) -> None:
        """In a forked child: leave the run to the parent."""
        self.disowned = True
        self._background.disown()
        self._notices.disown()
        self._writer.disown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end(lifecycle.status_after(error), error)
