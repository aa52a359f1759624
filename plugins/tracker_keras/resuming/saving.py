"""State checkpoints: when the state of a training is saved, what it contains, and how long it is kept."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.client.checkpoint_log import CheckpointInfo
from tracker.settings import Settings
from tracker_keras.recording.chief import is_alone
from tracker_keras.recording.fit_call import CallObserver
from tracker_keras.recording.fit_observers import FitObserver
from tracker_keras.recording.optimizers import learning_rates, settable_rates
from tracker_keras.resuming import callback_states, data_position, randomness
from tracker_keras.resuming.state_file import (
    SUFFIX,
    add_arrays,
    require_room,
    room_for,
    seeds_of,
    values_of,
    variables_of,
)

if TYPE_CHECKING:
    from tracker.client.run import Run
    from tracker_keras.recording.fit import ObservedFit
    from tracker_keras.recording.guard import Guard
    from tracker_keras.resuming.resume_state import ScriptPosition

log = logging.getLogger("tracker")
FORMAT = 1
_SAVING = "saving the state to resume from"
_folders = threading.Lock()
"""Keeps a folder from being removed while a file is about to be created in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedState:
    """A state to be recorded: the file that Keras wrote, arrays to add to it, and its row."""

    file: Path
    arrays: Mapping[str, Any]
    variables: Any
    info: CheckpointInfo


class StateSaver(FitObserver):
    """Saves the state of its fit at the end of each epoch, or every `every` optimizer steps.

    The state is saved after all callbacks' `on_epoch_end` and before the next epoch begins: it includes the decisions
    at the end, and nothing that callbacks do at a begin, which they will do again. Within an epoch the same holds for a
    batch. If a later process could not resume within the epoch, or its number of steps is not known yet, the state is
    saved at the epoch's end instead.

    Everything is read on the training thread, between two steps: on JAX the model has no variables at other times.
    """

    def __init__(self, fit: ObservedFit, *, every: int | None, place: ScriptPosition) -> None:
        super().__init__(fit)
        fit.saves_state = True
        self._every = every
        self._place = place
        self._known = fit.known
        self._states = Handover(fit.run)
        self._variables: list[Any] = []
        self._is_due = False
        self._done = 0
        self._base = 0
        self._before = 0
        self._drawn: Mapping[str, Any] = {}
        self._rates: Mapping[str, float] = {}
        self._iterator = fit.call.epoch_iterator
        self._kept = 0
        self._settled = 0

    def begin(self, initial_epoch: int) -> None:
        """Watch batches if `every` is set, and warn at once if a state within an epoch is not possible."""
        if self._every is None:
            return
        for callback_list in self.fit.call.lists[:1]:
            self.fit.wrappers.around(callback_list, "on_train_batch_end", after=self._batch_ended)
        if (why := self._obstacle()) is not None:
            log.warning("checkpoint=%d: %s; the state is saved as epochs end, and resumed there", self._every, why)

    def end(self) -> None:
        """The fit is complete: the run's next fit is another training."""
        self._place.is_complete = True
        if self._settled:
            self._miss("the fit ended", "no_state_at_end")

    def died(self) -> None:
        """Report if no state was saved, unless the state from which the fit was resumed is still the newest."""
        if self._settled or not self.fit.is_resumed:
            self._miss("the fit died", "no_state_at_end")

    # -- when ----------------------------------------------------------------------------------------------------

    def begin_epoch(self, epoch: int) -> None:
        """Remember the begin of the epoch, for a state within it."""
        if self._every is None:
            return
        skipped = self.fit.skipped
        self._done, self._base = skipped, self.fit.steps - skipped
        self._before = self.fit.passed_over or data_position.handed_out(self._iterator())
        self._drawn = randomness.drawn_so_far()
        self._rates = settable_rates(self.fit.model)

    def _batch_ended(self, batch: int, _: Mapping[str, Any]) -> None:
        recorder, every, done = self.fit.recorder, self._every or 1, batch + 1
        if recorder is None or done <= self._done:
            return
        before, now = (recorder.step(self._base + steps) for steps in (self._done, done))
        self._done = done
        if now // every == before // every:
            return
        steps = getattr(self._iterator(), "num_batches", None)
        if steps is None or done >= steps or self._obstacle() is not None:
            self._is_due = True
        else:
            self.fit.call.wait_for_batches()
            self._save(self.fit.current_epoch, done, self._base + done)

    def settle_epoch(self, epoch: int) -> None:
        """Save the state at the epoch's end, or one that was due within the epoch."""
        if self._every is None or self._is_due or not is_alone():
            self._is_due = False
            self.fit.count_steps()
            self._save(epoch + 1, 0, self.fit.steps)
        self._settled += 1
        if self._settled == 1 and self._every is None:
            self._miss("an epoch is over", "no_state")

    def _miss(self, when: str, kind: str) -> None:
        """Report that no state was saved, if that is true once all pending saves are done."""
        # The optimizer's own count must not be read during a step.
        epoch, steps = self.fit.current_epoch, max(self.fit.steps, self._base + self._done)

        def warn_if_none() -> None:
            recorder = self.fit.recorder
            if self._kept or recorder is None:
                return
            why = f"; checkpoint={self._every}, and it did {steps} steps" if self._every is not None else ""
            then = "resumes from the same state as this one" if self.fit.is_resumed else "starts from the beginning"
            problem = f"{when} and no state to resume from was saved{why}: started again, this training {then}"
            self.fit.run.report(kind, problem)
            recorder.log_event("state_missing", epoch, {"steps": steps})

        self.fit.run.in_background(warn_if_none)

    def _obstacle(self) -> str | None:
        return data_position.obstacle(self._iterator())

    # -- what ----------------------------------------------------------------------------------------------------

    def _save(self, epoch: int, batch: int, steps: int) -> None:
        with self.fit.guard(_SAVING):
            self._save_all(epoch, batch, steps)

    def _save_all(self, epoch: int, batch: int, steps: int) -> None:
        """Save the state from which a later process begins with this batch of Keras' `epoch`, after these steps."""
        fit, model = self.fit, self.fit.model
        if fit.recorder is None:
            return
        if hasattr(model, "jax_state_sync"):
            model.jax_state_sync()
        self._variables = self._variables or variables_of(model)
        file = self._states.new_file()
        try:
            require_room(file.parent, room_for(self._variables))
            model.save_weights(str(file))
        except BaseException:
            self._states.remove(file)
            raise
        states, arrays = callback_states.take(fit.callbacks)
        arrays = {f"callbacks/{name}": one for name, one in arrays.items()}
        arrays |= {f"random/{name}": one for name, one in randomness.drawn_so_far().items()}
        arrays |= {f"seeds/{number}": one for number, one in enumerate(values_of(seeds_of(model)))}
        if batch:
            arrays |= {f"epoch_random/{name}": one for name, one in self._drawn.items()}
            arrays |= {f"metrics/{number}": one for number, one in enumerate(values_of(model.metrics_variables))}
            data = self._before
        else:
            data = data_position.handed_out(self._iterator())
        state = {
            "format": FORMAT,
            "place": self._place.index,
            "models": len(self._place.models),
            "phase": fit.recorder.phase,
            "epoch": epoch,
            "batch": batch,
            "steps": fit.recorder.step(steps),
            "data": data,
            "learning_rate": learning_rates(model),
            "callbacks": states,
            "known": self._known(),
        }
        if batch:
            state["rates"] = {"begun": self._rates, "now": settable_rates(model)}
        info = CheckpointInfo(
            epoch=fit.recorder.epoch(epoch if batch else epoch - 1),
            step=fit.recorder.step(steps),
            is_best=False,
            state=state,
            role="state",
            ms=fit.recorder.moment(),
        )
        saved = SavedState(file=file, arrays=arrays, variables=self._variables, info=info)
        self._states.put(saved, self._keep)

    def _keep(self, saved: SavedState) -> None:
        """Complete the file and record it; called on the background thread."""
        recorder = self.fit.recorder
        with self.fit.guard(_SAVING):
            add_arrays(saved.file, saved.arrays, saved.variables)
            if recorder is not None:
                self._kept += recorder.add_checkpoint(saved.file, saved.info)


class NonChiefState(CallObserver):
    """In a worker other than the chief: saves a state at the end of each epoch, as the chief does, and discards it.

    Reading a variable may be a collective operation of all workers (the averages of a BatchNormalization), for which
    the chief would wait. With several workers a state is saved each epoch, since only the chief counts steps.
    """

    def __init__(self, model: Any, guard: Guard) -> None:
        self._model = model
        self._guard = guard

    def epoch_ended(self, epoch: int, logs: Mapping[str, Any], *, complete: bool) -> None:
        """Save a state to a temporary file."""
        if not complete:
            return
        with self._guard(_SAVING), tempfile.TemporaryDirectory(prefix="tracker-state-") as folder:
            require_room(Path(folder), room_for(variables_of(self._model)))
            self._model.save_weights(f"{folder}/beside{SUFFIX}")


class Handover:
    """Passes states from the training to the background thread; only the newest waiting one is kept.

    Their files are in a folder of this process, which is removed when it is empty. Folders of killed processes, of any
    run, are removed by the next process on this machine that saves a state.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._folder = Settings.from_environment().home / "states" / run.id / f"{socket.gethostname()}-{os.getpid()}"
        self._lock = threading.Lock()
        self._waiting: tuple[SavedState, Callable[[SavedState], None]] | None = None
        self._count = 0
        _remove_left(self._folder)

    def new_file(self) -> Path:
        """The path for the next state's file."""
        self._count += 1
        file = self._folder / f"{id(self):x}-{self._count}{SUFFIX}"
        with _folders:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            file.touch()
        return file

    def put(self, saved: SavedState, keep: Callable[[SavedState], None]) -> None:
        """Call `keep(saved)` in the background, unless a newer state is added before it begins."""
        with self._lock:
            older, self._waiting = self._waiting, (saved, keep)
        if older is not None:  # its scheduled work will handle this one
            self.remove(older[0].file)
        elif self._run.in_background(self._take).cancelled():
            self.remove(saved.file)

    def _take(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, None
        if waiting is not None:
            saved, keep = waiting
            try:
                keep(saved)
            finally:
                self.remove(saved.file)

    def remove(self, file: Path) -> None:
        """Remove a file that is not needed any more, and its folder if empty."""
        with _folders, suppress(OSError):  # other files may be in the folder
            file.unlink(missing_ok=True)
            self._folder.rmdir()
            self._folder.parent.rmdir()


def _remove_left(folder: Path) -> None:
    """Remove such folders, of any run, of dead processes on this machine."""
    for other in folder.parents[1].glob("*/*"):
        host, _, pid = other.name.rpartition("-")
        if host == socket.gethostname() and pid.isdigit() and not _is_alive(int(pid)):
            shutil.rmtree(other, ignore_errors=True)
            with suppress(OSError):  # other processes' folders may be in the run's folder
                other.parent.rmdir()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
