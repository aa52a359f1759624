"""Records the checkpoint files that other callbacks save in a fit, as they were when they were saved."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from tracker.client.checkpoint_log import CheckpointInfo
from tracker.domain.checkpoint_ranking import BEST_BY, MID_EPOCH
from tracker.domain.retention import BUDGET
from tracker.settings import Settings
from tracker_keras.checkpoint_files import pending_copies
from tracker_keras.checkpoint_files.orbax_folders import only_step
from tracker_keras.checkpoint_files.pending_copies import Stamp
from tracker_keras.model_checkpoint import ModelCheckpoint
from tracker_keras.recording.fit_observers import FitObserver
from tracker_keras.recording.optimizers import unwrapped

if TYPE_CHECKING:
    from tracker.domain.vocabulary import CheckpointRole
    from tracker_keras.recording.fit_state import FitState

log = logging.getLogger("tracker")


class Checkpoints(FitObserver):
    """Watches ModelCheckpoint (Keras', ours, and subclasses), BackupAndRestore and OrbaxCheckpoint.

    Only the methods that save are wrapped, not the hooks for each batch. The file is copied in the background; a
    callback that is about to overwrite or delete it waits until the copy is made.
    """

    def __init__(self, fit: FitState) -> None:
        super().__init__(fit)
        self._said: set[str] = set()
        self._swapping = [one for one in fit.callbacks if isinstance(one, keras.callbacks.SwapEMAWeights)]
        self._savers: list[Any] = []
        self._budget = Settings.from_environment().checkpoint_budget
        for callback in fit.callbacks:
            with fit.guard(f"watching {type(callback).__name__}"):
                self._wrap_callback(callback)

    def begin(self, initial_epoch: int) -> None:
        """If every ModelCheckpoint of the fit has a limit, set the run's retention to their sum."""
        bounds = [(getattr(one, "keep_last", None), getattr(one, "keep_best", None)) for one in self._savers]
        if bounds and all(last or best for last, best in bounds):
            last, best = (sum(count or 0 for count in counts) or None for counts in zip(*bounds, strict=True))
            self.fit.run.keep_checkpoints(last=last, best=best)

    def keep(
        self,
        path: str,
        epoch: int,
        by: str,
        *,
        batch: int | None = None,
        ends_epoch: bool = False,
        metrics: Mapping[str, Any] | None = None,
        role: CheckpointRole = "model",
        state: Mapping[str, Any] | None = None,
        written: Callable[[], AbstractContextManager[Path]] | None = None,
    ) -> None:
        """Copy in the background what the callback `by` saved in Keras' `epoch`, and record it.

        `batch` is the batch after which it was saved (None: at the epoch's end); `ends_epoch`: it was the epoch's last.
        `written` waits for a save in the background, and yields the path to copy.
        """
        recorder, stamp = self.fit.recorder, Stamp.of(path)
        if stamp is None and written is None:
            self._say(path, "is not there as a local file")
            return
        if recorder is None:
            return
        place, moment = Path(os.path.realpath(path)), recorder.moment()
        ends_epoch = batch is None or ends_epoch or self._is_last(batch)
        known = {"by": by, "file": path, **self._averaged(), **(state or {})}
        if batch is not None:
            known["batch"] = batch
        else:
            self.fit.count_steps()
        if not ends_epoch and role == "model":
            known[MID_EPOCH] = True
        info = CheckpointInfo(
            epoch=recorder.epoch(epoch),
            step=recorder.step(self.fit.steps_done()),
            metrics=metrics or {},
            state=known,
            role=role,
            ms=moment,
        )

        def copy() -> None:
            with self.fit.guard("keeping a checkpoint"):
                if written is None and Stamp.of(place) != stamp:
                    self._say(path, "was deleted or overwritten before it could be copied")
                    return
                with nullcontext(place) if written is None else written() as source:
                    recorder.add_checkpoint(source, info, ends_epoch=ends_epoch)

        pending_copies.keep(place, copy, self.fit.run.in_background)

    # -- wrapping hooks -------------------------------------------------------------------------------------------

    def _wrap_callback(self, callback: Any) -> None:
        known = keras.callbacks
        if isinstance(callback, known.ModelCheckpoint):
            self._watch_model_checkpoint(callback)
            self._savers.append(callback)
        elif isinstance(callback, known.BackupAndRestore):
            if not self.fit.saves_state:  # only the newest state is kept, and ours has more in it
                self._watch_backup(callback)
        elif isinstance(callback, getattr(known, "OrbaxCheckpoint", ())):
            self._watch_orbax(callback)
            self._savers.append(callback)

    def _watch_model_checkpoint(self, callback: Any) -> None:
        """Watch a ModelCheckpoint: it gets the path, decides, then saves; a subclass may skip the first two."""
        attempt = _Attempt()
        asks = type(callback)._save_model in (keras.callbacks.ModelCheckpoint._save_model, ModelCheckpoint._save_model)

        def before(*_: Any) -> None:
            nonlocal attempt
            attempt = _Attempt()

        def path_chosen(path: str, epoch: int, batch: int | None, logs: Mapping[str, Any] | None) -> None:
            nonlocal attempt
            attempt = _Attempt(path, batch, Stamp.of(path), callback.best)
            if not asks:
                pending_copies.wait_for(path)

        def save_decided(answer: bool, *_: Any, **__: Any) -> None:
            attempt.answer = bool(answer)
            if attempt.answer and attempt.path is not None:
                pending_copies.wait_for(attempt.path)

        def after(epoch: int, logs: Mapping[str, Any]) -> None:
            if attempt.path is None or not attempt.saved():
                return
            state: dict[str, Any] = {BUDGET: self._budget}
            if callback.save_best_only and callback.best is not attempt.best:
                state[BEST_BY] = callback.monitor
            self.keep(
                attempt.path,
                epoch,
                type(callback).__name__,
                batch=attempt.batch,
                ends_epoch=not getattr(callback, "is_in_epoch", True),
                metrics=dict(logs),
                state=state,
            )

        self.fit.wrappers.after_call(callback, "_get_file_path", path_chosen)
        self.fit.wrappers.after_call(callback, "_should_save_model", save_decided)
        self.fit.wrappers.around(callback, "_save_model", before, after)

    def _watch_backup(self, callback: Any) -> None:
        def before(*_: Any) -> None:
            pending_copies.wait_for(callback._weights_path)

        def before_all(*_: Any) -> None:
            pending_copies.wait_for(callback.backup_dir)

        def after(*_: Any) -> None:
            counted, batch = callback._current_epoch, callback._last_batch_seen
            ended = callback.save_freq == "epoch"  # then `_current_epoch` is the next epoch
            self.keep(
                callback._weights_path,
                counted - 1 if ended else self.fit.current_epoch,
                type(callback).__name__,
                batch=None if ended else batch,
                role="state",
                state={"epoch": counted, "batch": batch},
            )

        self.fit.wrappers.around(callback, "_save_model", before, after)
        if getattr(callback, "delete_checkpoint", True):
            self.fit.wrappers.around(callback, "on_train_end", before_all)

    def _watch_orbax(self, callback: Any) -> None:
        """Watch an OrbaxCheckpoint: it writes in the background, and deletes those beyond `max_to_keep` as it saves."""

        def before(*_: Any) -> None:
            pending_copies.wait_for(callback.directory)

        def saved(_: Any, step: int, logs: Mapping[str, Any] | None = None) -> None:
            written = callback._async_futures[-1].result if callback.save_on_background else lambda: None
            place = os.path.join(callback.directory, str(step))
            self.keep(
                place,
                self.fit.current_epoch,
                type(callback).__name__,
                batch=None if callback.save_freq == "epoch" else callback._last_batch_seen,
                metrics=dict(logs or {}),
                state={BEST_BY: callback.monitor} if callback.save_best_only else {},
                written=lambda: only_step(Path(os.path.realpath(place)), written),
            )

        self.fit.wrappers.around(callback, "_save_checkpoint", before, on_result=saved)

    # -- inside --------------------------------------------------------------------------------------------------

    def _is_last(self, batch: int) -> bool:
        """Whether the epoch ends with this batch; False if Keras does not know the data's length."""
        steps = self.fit.call.steps_per_epoch
        return steps is not None and batch + 1 >= steps

    def _averaged(self) -> dict[str, bool]:
        """`ema`: whether the model now has the moving averages (EMA) of its weights; empty if that is not known."""
        if self._swapping:
            return {"ema": any(one._ema_weights_in_model for one in self._swapping)}
        optimizer = unwrapped(getattr(self.fit.model, "optimizer", None))
        several = getattr(optimizer, "optimizers", None) or [optimizer]
        averaging = [one for one in several if getattr(one, "use_ema", False)]
        if averaging and all(one.ema_overwrite_frequency is None for one in averaging):
            return {"ema": False}
        return {}

    def _say(self, path: str, problem: str) -> None:
        """Log a problem, once each."""
        if problem not in self._said:
            self._said.add(problem)
            log.warning("the checkpoint %s %s; it is not in the run's catalogue", path, problem)


@dataclass
class _Attempt:
    """One call of `_save_model`: its path, the stamp before it, and the decision to save (None: not asked)."""

    path: str | None = None
    batch: int | None = None
    before: Stamp | None = None
    best: Any = None
    answer: bool | None = None

    def saved(self) -> bool:
        """Whether the call saved: its own decision, else whether the file changed."""
        assert self.path is not None
        return Stamp.of(self.path) != self.before if self.answer is None else self.answer
