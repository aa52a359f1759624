"""The running fit of each run: a run records one fit at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, ref

if TYPE_CHECKING:
    from tracker.client.run import Run
    from tracker_keras.recording.fit_call import FitCall
    from tracker_keras.recording.fit_state import FitState

_last: WeakKeyDictionary[Run, ref[FitState]] = WeakKeyDictionary()


def enter(run: Run, fit: FitState) -> None:
    """Make `fit` the one that `run` records."""
    _last[run] = ref(fit)


def running_fit(run: Run) -> FitState | None:
    """The running fit of `run`, in any thread, whose `fit()` has neither returned nor raised."""
    known = _last.get(run)
    fit = known() if known is not None else None
    return fit if fit is not None and not fit.is_over and fit.call.is_running else None


def report_unrecorded(run: Run, fit: FitState, call: FitCall) -> None:
    """Report that `call` is not recorded, since `fit` is running."""
    if fit.call is call:
        run.report(
            "second_callback",
            "two TrackerCallbacks of this run are among the callbacks of one fit(); the first records it",
        )
    else:
        run.report(
            "second_fit",
            "the run is in the middle of a fit(), and has one at a time: the one that begins now, inside it or in "
            "another thread, is not recorded; give it a run of its own",
        )
