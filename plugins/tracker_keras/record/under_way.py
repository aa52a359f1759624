"""Which fit a run is in the middle of: it has one at a time."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet, ref

from tracker_keras.record.surroundings import calls_of_fit

if TYPE_CHECKING:
    from tracker.client.run import Run
    from tracker_keras.record.fit import ObservedFit

log = logging.getLogger("tracker")

_last: WeakKeyDictionary[Run, ref[ObservedFit]] = WeakKeyDictionary()
_said: WeakSet[ObservedFit] = WeakSet()


def enter(run: Run, fit: ObservedFit) -> None:
    """From now on `fit` is the one that `run` records."""
    _last[run] = ref(fit)


def fit_under_way(run: Run) -> ObservedFit | None:
    """The fit of `run` whose `fit()` has neither returned nor died, whichever thread called it.

    Keras tells nobody that a fit died, so the stacks are asked: the iterator over its epochs is a local of the call.
    """
    known = _last.get(run)
    fit = known() if known is not None else None
    if fit is None or fit.is_over or (iterator := fit.surroundings.epoch_iterator()) is None:
        return None
    return fit if any(iterator is one for one in _iterators()) else None


def end_interrupted(run: Run) -> None:
    """End the record of the last fit of `run` as interrupted if Ctrl-C ended it in a session that goes on (a notebook).

    Such a session keeps the last error that nobody caught, with the stack it came from, as Python does at exit.
    """
    known, error = _last.get(run), getattr(sys, "last_value", None)
    fit = known() if known is not None else None
    if fit is None or fit.is_over or not isinstance(error, KeyboardInterrupt) or (trace := error.__traceback__) is None:
        return
    while trace.tb_next is not None:
        trace = trace.tb_next
    iterator = fit.surroundings.epoch_iterator()
    if iterator is not None and any(call["epoch_iterator"] is iterator for call in calls_of_fit(trace.tb_frame)):
        fit.die("interrupted")


def calls_us(fit: ObservedFit) -> bool:
    """Whether the call of `fit()` that this one comes from is that of `fit`.

    JAX' batch hooks come from no `fit()` but a thread; they are of `fit` if there is no other.
    """
    iterator, innermost = fit.surroundings.epoch_iterator(), next(calls_of_fit(sys._getframe(1)), None)
    if innermost is not None:
        return innermost["epoch_iterator"] is iterator
    return all(iterator is one for one in _iterators())


def _iterators() -> Iterator[Any]:
    """That of each `fit()` that is under way, in any thread."""
    for top in sys._current_frames().values():
        for call in calls_of_fit(top):
            yield call["epoch_iterator"]


def say_aside(run: Run, fit: ObservedFit) -> None:
    """Say, once for each `fit` of `run` that is under way, that the one which begins now is not recorded."""
    if fit in _said:
        return
    _said.add(fit)
    if calls_us(fit):
        log.warning("two TrackerCallbacks of run %s are among the callbacks of one fit(); the first records it", run.id)
    else:
        log.warning(
            "run %s is in the middle of a fit(), and has one at a time: the one that begins now, inside it or in "
            "another thread, is not recorded; give it a run of its own",
            run.id,
        )
