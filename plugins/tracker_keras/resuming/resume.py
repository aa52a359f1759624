"""Resumes a fit from its run's newest state checkpoint."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from tracker.domain.errors import InvalidValue
from tracker_keras.recording.fit_call import CallObserver, FitCall
from tracker_keras.recording.fit_state import ResumePoint
from tracker_keras.recording.optimizers import set_rates
from tracker_keras.resuming import callback_states, data_position, randomness
from tracker_keras.resuming.resume_state import check_state
from tracker_keras.resuming.saving import FORMAT
from tracker_keras.resuming.state_file import SUFFIX, assign, below, differences, listed, load, read_arrays, seeds_of

if TYPE_CHECKING:
    from tracker.domain.records import Checkpoint
    from tracker_keras.resuming.resume_state import ScriptPosition

log = logging.getLogger("tracker")


class Resumption(CallObserver):
    """Restores one fit from its run's newest state, and calls `then` after each restored part.

    Keras' callbacks reset their state in `on_train_begin`, and a BackupAndRestore restores there. So everything is
    restored after it, right before `fit()` reads its first epoch, and takes precedence. Errors are raised: a user who
    wants to resume must not train from the beginning for days instead.
    """

    def __init__(self, call: FitCall, me: object, place: ScriptPosition, then: Callable[[], None]) -> None:
        self._model = call.model
        self._epochs = call.epochs
        self._callbacks = tuple(one for one in call.callbacks if one is not me)
        self._data = call.epoch_iterator
        self._place = place
        self._then = then
        self._arrays: Mapping[str, Any] = {}
        self._set_epoch: int | None = None
        self._is_first = False
        """Whether the first epoch is about to begin."""
        self._goes_on_in_epoch = False
        self.resume_point: ResumePoint | None = None
        self._state: Mapping[str, Any] = {}
        self._is_earlier = False
        """Whether this training is complete and the state is a later training's."""
        self._is_complete = False
        if (newest := _newest(place)) is not None:
            state = self._state = newest.state
            self._is_earlier = state["place"] > place.index
            self._is_complete = place.ended and place.phase > state["phase"]
            if not self._is_earlier:
                at = {key: state[key] for key in ("steps", "batch", "data")}
                self.resume_point = ResumePoint(**at, checkpoint=newest, known=state["known"])
        elif (steps := place.steps_to_begin_with()) is not None:
            log.info("resume: the training died before it saved a state; it begins again")
            self.resume_point = ResumePoint(steps=steps)

    def train_begun(self) -> None:
        """Restore everything, after all callbacks' `on_train_begin` have reset their state."""
        if not self._state:
            return
        state, model = self._state, self._model
        epoch, batch = state["epoch"], state["batch"]
        last = epoch if self._epochs is None else self._epochs
        self._load()
        if not self._is_earlier:
            callback_states.put_back(self._callbacks, state["callbacks"], below(self._arrays, "callbacks"))
            if callback_states.has_stopped(self._callbacks):
                log.warning(
                    "resume: EarlyStopping had ended this training after epoch %d; it is not trained further", epoch
                )
                epoch = max(epoch, last)
            elif self._is_complete or (self._epochs is not None and epoch >= self._epochs):
                log.warning("resume: this training already has its %d epochs; it is not trained further", epoch)
                epoch = max(epoch, last)
            else:
                log.info("resume: training goes on in epoch %d%s", epoch + 1, f" after batch {batch}" if batch else "")
        else:
            epoch = last
        self._set_epoch = model._initial_epoch = epoch
        self._is_first = True
        self._goes_on_in_epoch = bool(state.get("rates")) and not self._is_earlier
        self._then()

    def epoch_begins(self, epoch: int) -> None:
        """Restore random numbers and data; `fit()` has read its first epoch, so `_initial_epoch` is reset."""
        if not self._is_first:
            return
        self._forget_epoch()
        if self._is_earlier:
            return
        state, arrays = self._state, self._arrays
        data, batch, before = self._data(), state["batch"], state["data"]
        if batch and (why := data_position.obstacle(data)) is not None:
            raise InvalidValue("resume", f"the state was saved after batch {batch} of an epoch, but {why}")
        drawn = below(arrays, "random")
        randomness.put_back(below(arrays, "epoch_random") if batch else drawn)
        if batch and not assign(self._model.metrics_variables, listed(arrays, "metrics")):
            log.warning("resume: the model's metrics have changed; those of this epoch are of its remaining batches")
        if batch or before:
            data_position.begin_at(data, before, batch, lambda: randomness.put_back(drawn))
        elif _continues(data):
            log.warning("resume: the data has no end and begins again with its first batch")
        self._arrays = {}
        if self._goes_on_in_epoch:
            set_rates(self._model, state["rates"]["begun"])
            self._then()

    def epoch_begun(self, epoch: int) -> None:
        """Restore the rate within the epoch, after the callbacks have set the rate of its begin."""
        if self._is_first:
            self._is_first = False
            if self._goes_on_in_epoch:
                set_rates(self._model, self._state["rates"]["now"])
                self._then()

    def over(self, error: BaseException | None) -> None:
        """The fit is over or died: reset `_initial_epoch`, so that a later fit skips no epochs."""
        self._forget_epoch()

    def _forget_epoch(self) -> None:
        if self._set_epoch is not None and self._model._initial_epoch == self._set_epoch:
            self._model._initial_epoch = None
        self._set_epoch = None

    def _load(self) -> None:
        model, place = self._model, self._place
        data_position.build(model, self._data())
        with tempfile.TemporaryDirectory(prefix="tracker-resume-") as folder:
            file = place.fetch(Path(folder) / f"state{SUFFIX}")
            self._arrays, saved = read_arrays(file)
            found = differences(model, saved)
            if self._is_earlier:
                self._log_earlier(fits=not found)
            elif found:
                raise InvalidValue(
                    "resume",
                    f"the model is not the one whose state was saved: {'; '.join(found)}",
                    limit="the same model and optimizer; another one belongs into another run",
                )
            if not found:
                load(model, file)
                assign(seeds_of(model), listed(self._arrays, "seeds"))

    def _log_earlier(self, *, fits: bool) -> None:
        log.warning(
            "resume: fit %d of this script is complete, training goes on in fit %d; this one trains no epoch, and the "
            "model has %s",
            self._place.index + 1,
            self._state["place"] + 1,
            "the weights of the later one" if fits else "not its weights, since the later one's do not fit it",
        )


def _continues(data: Any) -> bool:
    """Whether the data continues across epochs but has no known end, so that its position is not known."""
    return getattr(data, "steps_per_epoch", None) is not None and not data_position.endless_is_known(data)


class _Rates(msgspec.Struct):
    """Learning rates at the begin of the epoch, and as they were saved."""

    begun: dict[str, float | str]
    now: dict[str, float | str]


class _SavedState(msgspec.Struct):
    """The fields of a state of the format FORMAT that a resume needs."""

    models: int
    epoch: Annotated[int, msgspec.Meta(ge=0)]
    batch: Annotated[int, msgspec.Meta(ge=0)]
    steps: Annotated[int, msgspec.Meta(ge=0)]
    data: Annotated[int, msgspec.Meta(ge=0)]
    callbacks: dict[str, dict[str, Any]]
    known: dict[str, Any]
    rates: _Rates | None = None


def _newest(place: ScriptPosition) -> Checkpoint | None:
    """The state from which this training, or a later one of the script, resumes; InvalidValue if it is unusable."""
    newest = place.newest
    if newest is None or newest.state["place"] < place.index:
        return None
    state = newest.state
    if state.get("format") != FORMAT:
        raise InvalidValue("resume", f"the state has the format {state.get('format')!r}", limit=f"format {FORMAT}")
    check_state(state, _SavedState)
    if state["models"] > 1:
        raise InvalidValue(
            "resume",
            f"this run trained {state['models']} models, and its state is that of the last one alone",
            limit="one model a run, where it shall be resumed",
        )
    if place.phase > state["phase"] and not place.ended:
        log.warning(
            "resume: the run was trained again since its state was saved, without saving one; a new phase begins"
        )
        place.newest = None
    return place.newest
