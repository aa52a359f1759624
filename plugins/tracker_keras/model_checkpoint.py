"""Keras' ModelCheckpoint, with atomic files, retention, and checks of its logs."""

from __future__ import annotations

import logging
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from tracker.domain.errors import InvalidValue
from tracker.domain.goals import Goal
from tracker_keras.checkpoint_files import pending_copies
from tracker_keras.checkpoint_files.atomic_replace import release, replacing, sweep
from tracker_keras.checkpoint_files.saved_files import Ledger, fields_of, shape_of
from tracker_keras.improvement import NanIsNoBest
from tracker_keras.recording import fit_call, instrumentation
from tracker_keras.recording.chief import is_alone, is_chief
from tracker_keras.recording.optimizers import iterations

log = logging.getLogger("tracker")
instrumentation.install()  # needed to know whether a fit has validation


class ModelCheckpoint(NanIsNoBest, keras.callbacks.ModelCheckpoint):  # type: ignore[misc]  # Keras has no types
    """`keras.callbacks.ModelCheckpoint`, with its arguments, attributes and messages, and two more arguments.

    `keep_last=n` and `keep_best=n` delete its own files that are neither among the last n nor among the best n by
    `monitor`; the newest and the best are always kept. With a TrackerCallback, if every ModelCheckpoint of the fit has
    such a limit, the run's catalogue keeps as many.

    - A file is written to a hidden temporary file and renamed: a killed process leaves the old one intact. Until the
      training ends this takes space for both. Paths that are not local (`gs://…`) are written as Keras does.
    - The best value so far and the list of its files are in `.<file name>.saved.json` next to the file. A later
      process continues from it if the file is unchanged and the model has the same shape: delete it to start over. In
      the process that wrote it, a training from epoch 0 with a fresh optimizer starts over.
    - `save_best_only` works with `save_freq=n`. If the batch logs lack a needed value (`val_loss`), the model is judged
      and saved at the end of the epoch.
    - A `monitor` or a placeholder of the path that the logs lack is an error at the end of the first epoch; the message
      lists what they have. An epoch without validation (`validation_freq`) is skipped, which is logged once.
    - NaN is never the best.
    - In a multi-worker training all workers save, since collectives need it; only the chief's file is kept.

    Raises InvalidValue, a ValueError, for invalid arguments and for values that the logs lack.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
        *,
        keep_last: int | None = None,
        keep_best: int | None = None,
    ) -> None:
        self.best: float | None
        super().__init__(
            filepath,
            monitor=monitor,
            verbose=verbose,
            save_best_only=save_best_only,
            save_weights_only=save_weights_only,
            mode=mode,
            save_freq=save_freq,
            initial_value_threshold=initial_value_threshold,
        )
        for name, count in (("keep_last", keep_last), ("keep_best", keep_best)):
            if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
                raise InvalidValue(name, f"{count!r}", limit="None for all, or a number of files from 1 on")
        if self.save_freq != "epoch" and self.save_freq < 1:
            raise InvalidValue("save_freq", f"{save_freq!r}", limit="'epoch', or a number of batches from 1 on")
        self.keep_last = keep_last
        self.keep_best = keep_best
        self._needed = fields_of(self.filepath) - {"epoch", "batch"}
        self._judges = bool(save_best_only or keep_best)
        if self._judges:
            self._needed.add(monitor)
        self._is_local = "://" not in self.filepath
        self._ledger: Ledger | None = None
        self.is_in_epoch = False
        self._is_due = False
        self._first_epoch: int | None = None
        self._began_trained = False
        self.is_put_back = False
        """Whether a resumed training restored this callback's state."""
        self._places: set[Path] = set()
        self._seen: set[str] = set()
        self._said: set[str] = set()

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """A fit begins; as in Keras' own, the best value of an earlier fit is kept."""
        super().on_train_begin(logs)
        self._began_trained = iterations(self.model) > 0
        self.is_put_back = False
        self.is_in_epoch = self._is_due = False
        self._first_epoch = None
        self._seen, self._said = set(), set()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """The fit returns: delete the spare files, which were kept to be overwritten."""
        super().on_train_end(logs)
        for path in self._places:
            release(path)
        self._places.clear()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """An epoch begins."""
        super().on_epoch_begin(epoch, logs)
        self.is_in_epoch = True
        if self._first_epoch is None:
            self._first_epoch = epoch
            self._began_trained = self._began_trained or epoch > 0

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Save at the end of the epoch, if configured so, or if its batches could not be judged."""
        self.is_in_epoch = False
        if self.save_freq == "epoch":
            self._save_model(epoch=epoch, batch=None, logs=logs)
        elif self._is_due:
            self._is_due = False
            self._save_model(epoch=epoch, batch=self._last_batch_seen, logs=logs)
        self._seen.update(logs or {})

    # -- what Keras' own calls -----------------------------------------------------------------------------------

    def _save_model(self, epoch: int, batch: int | None, logs: Mapping[str, Any] | None) -> None:
        logs = dict(logs or {})
        if lacking := sorted(self._needed - set(logs)):
            self._pass_over(lacking, epoch, logs)
            return
        path = self._get_file_path(epoch, batch, logs)
        if not self._should_save_model(epoch, batch, logs, path):
            return
        if os.path.isdir(path):
            raise OSError(f"ModelCheckpoint cannot save to {path}: there is a directory of that name")
        if not self._is_local:
            self._save_to(path)
        elif not is_chief():
            with tempfile.TemporaryDirectory(prefix="tracker-checkpoint-") as folder:
                self._save_to(os.path.join(folder, os.path.basename(path)))
        else:
            self._replace(Path(os.path.realpath(path)), logs.get(self.monitor))
        if self.verbose > 0:
            print(f"\nEpoch {epoch + 1}: finished saving model to {path}", flush=True)  # to stdout, as Keras does

    def _should_save_model(self, epoch: int, batch: int | None, logs: Mapping[str, Any], filepath: str) -> bool:
        if self.save_best_only or self._keeps:
            self._load_best()
        return bool(super()._should_save_model(epoch, batch, logs, filepath))

    # -- saving --------------------------------------------------------------------------------------------------

    def _replace(self, path: Path, value: Any) -> None:
        folder = path.parent
        folder.mkdir(parents=True, exist_ok=True)
        if str(folder) not in self._said:
            self._said.add(str(folder))
            sweep(folder)
        self._places.add(path)
        with replacing(path, keeps_spare=True) as beside:
            self._save_to(str(beside))
            pending_copies.wait_for(path)
        if self._ledger is not None:
            self._ledger.add(path, _number(value))
            self._ledger.best = _number(self.best)
            self._ledger.prune(self.keep_last, self.keep_best)
            self._ledger.write()

    def _save_to(self, path: str) -> None:
        if self.save_weights_only:
            self.model.save_weights(path, overwrite=True)
        else:
            self.model.save(path, overwrite=True)

    def _load_best(self) -> None:
        """At the first file: set the best value to the better one of the ledger's and the initial one."""
        if self._ledger is not None or not self._is_local:
            return
        if self.monitor_op is None:
            try:
                self._set_monitor_op()
            except ValueError:  # the metric's direction is not known
                if self._judges:
                    raise
        goal: Goal | None = None if self.monitor_op is None else "max" if self.monitor_op == ops.greater else "min"
        home, shape = Ledger.home_of(self.filepath), shape_of(self.model.weights)
        self._ledger = Ledger(home=home, monitor=self.monitor, goal=goal, shape=shape)
        if not is_alone():  # other workers may not see this disk, and all must decide alike
            return
        found = self._ledger.load(even_own=self._began_trained, with_files=self._began_trained)
        if found is not None and self.is_put_back:
            # The epoch that wrote the file may be trained again: an equal value must count, or it is not recorded.
            found = float(np.nextafter(np.float32(found), np.float32(-np.inf if goal == "max" else np.inf)))
        if found is not None and self.save_best_only and self._is_improvement(found, self.best):
            self.best = found
            log.warning(
                "%s",
                f"ModelCheckpoint goes on from the best {self.monitor} so far, {found:g}; delete {home} to start over",
            )

    @property
    def _keeps(self) -> bool:
        return self.keep_last is not None or self.keep_best is not None

    # -- what the logs lack --------------------------------------------------------------------------------------

    def _pass_over(self, lacking: list[str], epoch: int, logs: Mapping[str, Any]) -> None:
        """Log why nothing is saved now, or raise if nothing ever will be."""
        names, there = ", ".join(lacking), ", ".join(sorted(logs)) or "nothing"
        if self.is_in_epoch:
            self._is_due = True
            self._say(f"the logs of batches lack {names} (there is: {there}); it is judged and saved as epochs end")
            return
        if all(name in self._seen for name in lacking):
            self._say(f"no {names} in epoch {epoch + 1}; it saves nothing, and others of its kind neither")
            return
        validation = "held"
        if all(name.startswith("val_") for name in lacking):
            call = fit_call.current()
            validation = "unknown" if call is None else call.validation_of(epoch)
        if validation in ("later", "unknown"):
            self._say(f"no {names} in epoch {epoch + 1}; it saves nothing, and others of its kind neither")
            return
        problem = f"{names} is not among what epoch {epoch + 1} logged: {there}"
        remedy = "a name that is there; a callback that adds one must stand before this one"
        if validation == "never":
            problem = f"{names} will never be there, this fit() has no validation; epoch {epoch + 1} logged: {there}"
            remedy = "give fit() validation_data or validation_split, or use a name that is there"
        raise InvalidValue("monitor" if self._judges and self.monitor in lacking else "filepath", problem, limit=remedy)

    def _say(self, what: str) -> None:
        """Log a warning, once for each fit and kind of problem."""
        if (kind := what[:8]) not in self._said:
            self._said.add(kind)
            log.warning("ModelCheckpoint(%s): %s", self.filepath, what)


def _number(value: Any) -> float | None:
    """`value` as a float that can be compared; None for NaN and other values."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return None if math.isnan(number) else number
