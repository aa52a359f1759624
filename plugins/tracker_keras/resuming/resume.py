"""A fit that goes on where the same script was when it died."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.domain.errors import InvalidValue
from tracker_keras.record.hooks import Hook
from tracker_keras.record.optimizers import set_rates
from tracker_keras.record.watch import is_of
from tracker_keras.resuming import callback_states, position, randomness
from tracker_keras.resuming.saving import FORMAT
from tracker_keras.resuming.state_file import SUFFIX, assign, below, differences, listed, load, read_beside, seeds_of

if TYPE_CHECKING:
    from tracker.domain.records import Checkpoint
    from tracker_keras.record.surroundings import Surroundings
    from tracker_keras.resuming.places import Place

log = logging.getLogger("tracker")


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenUp:
    """What a fit that goes on must know of what was before.

    `steps` is how many optimizer steps the run had done; `batch` how many of the first epoch's batches are passed
    over, and `data` how many before them of data that goes on through epochs. `checkpoint` is None if the training had
    saved nothing yet and begins its phase again.
    """

    steps: int
    batch: int = 0
    data: int = 0
    checkpoint: Checkpoint | None = None
    known: Mapping[str, Any] = field(default_factory=dict)


class Resumption:
    """Puts one fit where its run's newest state says.

    Keras' callbacks forget what they knew in their `on_train_begin`, and a BackupAndRestore restores there. So all is
    put back when the last of the list is through with it, right before `fit()` asks for its first epoch: what this
    finds is what counts. Errors are raised: who asked to go on would rather be told at once than train anew for days.
    """

    def __init__(self, me: Any, model: Any, surroundings: Surroundings, place: Place) -> None:
        self._model = model
        self._epochs: int = (me.params or {}).get("epochs") or 0
        self._around = surroundings
        self._place = place
        self._arrays: Mapping[str, Any] = {}
        self._params = me.params
        self._hooks: list[Hook] = []
        self._begun: Hook | None = None
        self._set_epoch: int | None = None
        self._tell: Callable[[], None] = lambda: None
        self.taken_up: TakenUp | None = None
        self._first, self._last = surroundings.first or me, surroundings.last or me
        self._state: Mapping[str, Any] = {}
        self._is_earlier = False
        """Whether this training is complete, and the state that of a later one."""
        self._is_complete = False
        if (newest := _newest(place)) is not None:
            state = self._state = newest.state
            self._is_earlier = state["place"] > place.index
            self._is_complete = place.ended and place.phase > state["phase"]
            if not self._is_earlier:
                at = {key: state[key] for key in ("steps", "batch", "data")}
                self.taken_up = TakenUp(**at, checkpoint=newest, known=state["known"])
        elif (steps := place.steps_to_begin_with()) is not None:
            log.info("resume: the training died before it saved a state; it begins again")
            self.taken_up = TakenUp(steps=steps)

    def begin(self, then: Callable[[], None]) -> None:
        """Wait for the other callbacks' `on_train_begin`, put back, and do `then`."""
        if not self._state:
            return
        self._tell = then
        if self._around.last is None:
            self._put_back()
        else:
            self._hooks.append(Hook(self._last, "on_train_begin", after=self._others_began))

    def over(self) -> None:
        """The fit is over, or died: leave everybody as they were. Nothing of ours makes a later fit skip epochs."""
        self._leave_begin()
        if self._begun is not None:
            self._begun.take_off()
            self._begun = None

    def _leave_begin(self) -> None:
        for hook in self._hooks:
            hook.take_off()
        self._hooks.clear()
        if self._set_epoch is not None and self._model._initial_epoch == self._set_epoch:
            self._model._initial_epoch = None
        self._set_epoch = None

    # -- in order ------------------------------------------------------------------------------------------------

    def _others_began(self, *_: Any) -> None:
        if is_of(self._last, self._params):
            self._put_back()

    def _put_back(self) -> None:
        state, model = self._state, self._model
        epoch, batch = state["epoch"], state["batch"]
        try:
            self._load()
        except BaseException:
            self.over()
            raise
        if not self._is_earlier:
            callback_states.put_back(self._around.callbacks, state["callbacks"], below(self._arrays, "callbacks"))
            if callback_states.has_stopped(self._around.callbacks):
                log.warning("resume: EarlyStopping had ended this training after epoch %d; it trains no more", epoch)
                epoch = max(epoch, self._epochs)
            elif epoch >= self._epochs or self._is_complete:
                log.warning("resume: this training has its %d epochs already; it trains no more", epoch)
                epoch = max(epoch, self._epochs)
            else:
                log.info("resume: training goes on in epoch %d%s", epoch + 1, f" after batch {batch}" if batch else "")
        else:
            epoch = self._epochs
        self._set_epoch = model._initial_epoch = epoch
        if state.get("rates") and not self._is_earlier:
            self._begun = Hook(self._last, "on_epoch_begin", after=self._first_epoch_begun)
        self._hooks.append(Hook(self._first, "on_epoch_begin", before=self._first_epoch))
        self._tell()

    def _load(self) -> None:
        model, place = self._model, self._place
        data = self._around.epoch_iterator()
        position.build(model, data)
        with tempfile.TemporaryDirectory(prefix="tracker-resume-") as folder:
            file = place.fetch(Path(folder) / f"state{SUFFIX}")
            self._arrays, saved = read_beside(file)
            found = differences(model, saved)
            if self._is_earlier:
                self._tell_earlier(fits=not found)
            elif found:
                raise InvalidValue(
                    "resume",
                    f"the model is not the one whose state was saved: {'; '.join(found)}",
                    limit="the same model and optimizer; another one belongs into another run",
                )
            if not found:
                load(model, file)
                assign(seeds_of(model), listed(self._arrays, "seeds"))

    def _tell_earlier(self, *, fits: bool) -> None:
        log.warning(
            "resume: fit %d of this script is complete, training goes on in fit %d; this one trains no epoch, and the "
            "model has %s",
            self._place.index + 1,
            self._state["place"] + 1,
            "the weights of the later one" if fits else "not its weights, since the later one's do not fit it",
        )

    def _first_epoch(self, *_: Any) -> None:
        """`fit()` has taken its first epoch: from here on it must not be remembered."""
        if not is_of(self._first, self._params):
            return
        self._leave_begin()
        if self._is_earlier:
            return
        state, arrays = self._state, self._arrays
        data, batch, before = self._around.epoch_iterator(), state["batch"], state["data"]
        if batch and (why := position.obstacle(data)) is not None:
            raise InvalidValue("resume", f"the state was saved after batch {batch} of an epoch, but {why}")
        drawn = below(arrays, "random")
        randomness.put_back(below(arrays, "epoch_random") if batch else drawn)
        if batch and not assign(self._model.metrics_variables, listed(arrays, "metrics")):
            log.warning("resume: the metrics are others now; this epoch's are those of its rest")
        if batch or before:
            position.begin_at(data, before, batch, lambda: randomness.put_back(drawn))
        elif _goes_on(data):
            log.warning("resume: the data has no end and begins again with its first batch")
        self._arrays = {}
        if self._begun is not None:
            set_rates(self._model, state["rates"]["begun"])
            self._tell()

    def _first_epoch_begun(self, *_: Any) -> None:
        """The callbacks have made of the epoch's rate what they did when it began; its batches may have gone on."""
        if not is_of(self._last, self._params) or self._hooks:
            return
        self.over()
        set_rates(self._model, self._state["rates"]["now"])
        self._tell()


def _goes_on(data: Any) -> bool:
    """Whether an epoch's data would have gone on where the epoch before left off, which nobody can say here."""
    return getattr(data, "steps_per_epoch", None) is not None and not position.endless_is_known(data)


def _newest(place: Place) -> Checkpoint | None:
    """The state that this training, or a later one of the script, goes on from; InvalidValue if it is of no use."""
    newest = place.newest
    if newest is None or newest.state["place"] < place.index:
        return None
    state = newest.state
    if state.get("format") != FORMAT:
        raise InvalidValue("resume", f"the state has the format {state.get('format')!r}", limit=f"format {FORMAT}")
    if state["models"] > 1:
        raise InvalidValue(
            "resume",
            f"this run trained {state['models']} models, and its state is that of the last one alone",
            limit="one model a run, where it shall be resumed",
        )
    if place.phase > state["phase"] and not place.ended:
        log.warning("resume: the run was trained anew since its state was saved, and that saved none; a phase begins")
        place.newest = None
    return place.newest
