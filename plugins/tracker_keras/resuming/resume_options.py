"""Implements the arguments `resume` and `checkpoint` of a callback for its fits."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from tracker.client.earlier_records import EarlierRecords
from tracker.client.run import recorder_of
from tracker.domain.errors import InvalidValue
from tracker.settings import Settings
from tracker_keras.recording.chief import is_chief
from tracker_keras.resuming.resume import Resumption
from tracker_keras.resuming.resume_state import ScriptPosition, followed_run, position_of
from tracker_keras.resuming.saving import NonChiefState, StateSaver

if TYPE_CHECKING:
    from tracker.client.run import Run
    from tracker_keras.recording.fit import MakeObserver, ObservedFit
    from tracker_keras.recording.fit_call import FitCall
    from tracker_keras.recording.guard import Guard

log = logging.getLogger("tracker")


class ResumeOptions:
    """Whether a callback's fits are resumed, and how often their state is saved.

    Raises InvalidValue for invalid arguments.
    """

    def __init__(self, *, resume: object, checkpoint: object) -> None:
        if not isinstance(resume, bool):
            raise InvalidValue("resume", f"{resume!r}", limit="True or False; which run goes on says tracker.start_run")
        is_number = isinstance(checkpoint, int) and not isinstance(checkpoint, bool) and checkpoint > 0
        if not (is_number or checkpoint is None or checkpoint == "epoch"):
            raise InvalidValue("checkpoint", f"{checkpoint!r}", limit='None, "epoch", or a number of optimizer steps')
        self.every = checkpoint if isinstance(checkpoint, int) else None
        """Optimizer steps between saves; None for each epoch."""
        self._resumes = resume
        self._saves = resume or checkpoint is not None
        self._place: ScriptPosition | None = None
        self._followed: EarlierRecords | None = None

    def __getstate__(self) -> dict[str, Any]:
        """State for copies: only the arguments."""
        return vars(self) | {"_place": None, "_followed": None}

    def opened(self) -> None:
        """Warn that the callback opened its own run, which the next process will not find."""
        if self._resumes and Settings.from_environment().run_id is None:
            log.warning(
                "resume=True without a run: each process opens a new one, which has nothing to resume; "
                'TrackerCallback(tracker.start_run(…, resume="auto"), resume=True) goes on with the last'
            )

    def enter(self, run: Run | None, given: Run | None, call: FitCall) -> None:
        """A fit begins, recorded in `run`; None in a worker other than the chief, even if a run was `given`.

        Raises InvalidValue or StoreError if it cannot be known whether the fit is to be resumed.
        """
        self._place = None
        if not self._saves:
            return
        if not call.is_keras:
            if run is not None:
                run.report(
                    "no_state",
                    "resume= and checkpoint= are for Keras' fit(): of a loop of its own no state is saved, and it is "
                    "not resumed, since only the loop knows in which epoch it begins",
                )
            return
        known = None if run is None else recorder_of(run).earlier
        if run is None and not is_chief():
            self._followed = self._followed or followed_run()
            known = self._followed or (None if given is None else recorder_of(given).earlier)
            if self._followed is None and given is None and self._resumes:
                raise InvalidValue(
                    "run",
                    "a worker other than the chief cannot know which run to resume",
                    limit="TRACKER_RUN_ID, the same in every worker, or resume=False in all",
                )
        if known is not None:
            self._place = position_of(known)
            self._place.enter(known, call.model, asks=self._resumes)

    def observers(self) -> list[MakeObserver]:
        """What saves the state of the next fit."""
        if self._place is None:
            return []
        return [partial(StateSaver, every=self.every, place=self._place)]

    def begin(self, call: FitCall, me: object, guard: Guard, fit: ObservedFit | None) -> None:
        """Resume the fit of the callback `me` from the run's state; raises errors that prevent it.

        `fit` is None in a worker other than the chief, which resumes too.
        """
        if not self._saves:
            return
        if not is_chief() and call.is_keras:
            call.observe(NonChiefState(call.model, guard))
        if self._place is None or not self._resumes:
            return
        resumption = Resumption(call, me, self._place, _nothing if fit is None else fit.put_back)
        if fit is not None:
            fit.resume_point = resumption.resume_point
        call.observe(resumption)


def _nothing() -> None:
    return None
