"""Keras' TensorBoard callback without its traps."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import warnings
from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

import keras

from tracker_keras.record.guard import Guard
from tracker_keras.record.optimizers import iterations
from tracker_keras.tensorboard_events.event_files import EventSource
from tracker_keras.tensorboard_events.summaries import Summaries

log = logging.getLogger("tracker")

Hear = Callable[[EventSource, Any], None]


class TensorBoard(keras.callbacks.TensorBoard):  # type: ignore[misc]  # Keras has no types
    """`keras.callbacks.TensorBoard`, with the same arguments, files and tags, and without what bites there.

    - No TensorFlow: the events are written by a thread of its own, weights are counted there, and the training waits
      for a copy of them alone. It needs the package `tensorboard`. Two things are still TensorFlow's, and need it as
      Keras' own does: profiles with its backend, and `tf.summary` calls of a model's own, which go into the same file
      when `update_freq` is not "epoch" with its backend.
    - The step of what is logged for batches goes on from fit to fit, as the optimizer's iterations do, where Keras'
      begins anew and overlaps; with `TrackerCallback` in the list it is the run's step, and epochs have the run's
      numbers. With `steps_per_execution` it counts steps, not calls, and batches are logged whenever a multiple of
      `update_freq` is crossed.
    - With `update_freq="epoch"` no batch hook is defined: JAX dispatches as if the callback was not there.
    - `profile_batch` on a backend without a profiler is said, and the training goes on.
    - A model that was built from layers or inputs is drawn, whatever its class is called.

    What it writes without TensorFlow TrackerCallback takes as it is written, and reads no file back.
    """

    def __init__(
        self,
        log_dir: Any = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: Any = "epoch",
        profile_batch: Any = 0,
        embeddings_freq: int = 0,
        embeddings_metadata: Any = None,
    ) -> None:
        backend = keras.backend.backend()
        if profile_batch and backend not in ("tensorflow", "jax"):
            log.warning("profile_batch=%r: Keras has no profiler for %s; nothing is profiled", profile_batch, backend)
            profile_batch = 0
        super().__init__(
            log_dir,
            histogram_freq,
            write_graph,
            write_images,
            write_steps_per_second,
            update_freq,
            profile_batch,
            embeddings_freq,
            embeddings_metadata,
        )
        self.guard = Guard()
        self._needs_tensorflow = backend == "tensorflow" and (self.update_freq != "epoch" or bool(self._should_trace))
        self._summaries = Summaries(self._heard)
        self._hear: Hear | None = None
        self._is_in_fit = False
        self._begins_fit = False
        self._run_step: int | None = None
        self._first_epoch = 0
        self._epoch_step = 0
        self._step_before = 0
        if self.update_freq == "epoch" and not self._should_trace:
            self._define_no_batch_hooks()

    @property
    def summary(self) -> Any:
        """Where summaries are written: TensorFlow's module, or what stands in for it."""
        return super().summary if self._needs_tensorflow else self._summaries

    @property
    def hands_over(self) -> bool:
        """Whether what is written is told to who follows, and need not be read from files."""
        return not self._needs_tensorflow

    def follow(self, step: int, epoch: int, hear: Hear) -> None:
        """The fit is part of a run: it has done `step` steps before it, and `epoch` is its number of Keras' epoch 0.

        `hear` is told of what is written without TensorFlow.
        """
        self._run_step, self._first_epoch = step, epoch
        if not self._begins_fit:
            self._epoch_step = self._step_before = self._global_train_batch = step
        if not self._needs_tensorflow:
            self._hear = hear

    def set_model(self, model: Any) -> None:
        """Keras builds a list of callbacks, for a `fit()` or an `evaluate()`, perhaps in the middle of a fit."""
        self._close_writers()
        os.makedirs(self.log_dir, exist_ok=True)
        super().set_model(model)
        self._should_write_train_graph = bool(self.write_graph) and self._needs_tensorflow

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """A fit begins; how many steps were done before it is asked when its first epoch begins."""
        self._hear, self._run_step, self._first_epoch = None, None, 0  # of a fit that died
        before = self._global_train_batch
        super().on_train_begin(logs)
        self._global_train_batch = before
        self._is_in_fit = self._begins_fit = True

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """An epoch begins; by the first one whatever was to be restored is."""
        if self._begins_fit:
            self._begins_fit = False
            before = self._global_train_batch
            done = max(before, iterations(self.model)) if self._run_step is None else self._run_step
            self._global_train_batch = done
            if self.write_graph and not self._needs_tensorflow:
                self._write_model()
        self._epoch_step = self._step_before = self._global_train_batch
        super().on_epoch_begin(epoch, logs)

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Steps begin; where TensorFlow writes, the model's own summaries are at the first of them."""
        self._global_train_batch = self._epoch_step + batch
        super().on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Steps have ended, the last of them with index `batch`; in an epoch's last call that may be too many."""
        steps = (self.params or {}).get("steps")
        done = self._epoch_step + (batch + 1 if steps is None else min(batch + 1, steps))
        self._global_train_batch = done
        with self._recording(self._step_before, done):
            super().on_train_batch_end(batch, logs)
        self._step_before = done

    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """An evaluation ended; of one that is no part of a fit, this is the end."""
        super().on_test_end(logs)
        if not self._is_in_fit:
            self._close_writers()
            self._writers: dict[str, Any] = {}

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """The fit returns; all that was written is in its files, and with who follows, when this returns."""
        super().on_train_end(logs)
        self._is_in_fit, self._hear, self._run_step, self._first_epoch = False, None, None, 0

    # -- how the parts of Keras' callback write ------------------------------------------------------------------

    def _recording(self, before: int, done: int) -> contextlib.AbstractContextManager[Any]:
        """Batches are written meanwhile if a multiple of `update_freq` lies between these steps."""
        if self.update_freq == "epoch":
            return contextlib.nullcontext()
        is_due = done // self.update_freq > before // self.update_freq
        if self._needs_tensorflow:
            is_recording: contextlib.AbstractContextManager[Any] = self.summary.record_if(is_due)
            return is_recording
        return self._train_writer.as_default() if is_due else contextlib.nullcontext()

    def _push_writer(self, writer: Any, step: int) -> None:
        if self._needs_tensorflow:
            super()._push_writer(writer, step)

    def _pop_writer(self) -> None:
        if self._needs_tensorflow:
            super()._pop_writer()

    def _write_keras_model_summary(self) -> None:
        if self._needs_tensorflow:
            super()._write_keras_model_summary()

    def _write_model(self) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                architecture = self.model.to_json()
        except Exception as error:  # a subclassed model need not be able to say what it is made of
            log.debug("%s cannot be drawn: %s", type(self.model).__name__, error)
            return
        if "layers" in json.loads(architecture).get("config", ()):
            with self._train_writer.as_default():
                self._summaries.keras_model("keras", architecture)

    def _log_epoch_metrics(self, epoch: int, logs: Mapping[str, Any] | None) -> None:
        super()._log_epoch_metrics(self._first_epoch + epoch, logs)

    def _log_weights(self, epoch: int) -> None:
        super()._log_weights(self._first_epoch + epoch)

    def _log_embeddings(self, epoch: int) -> None:
        os.makedirs(self._train_dir, exist_ok=True)
        super()._log_embeddings(epoch)

    def _define_no_batch_hooks(self) -> None:
        """Leave Keras nothing to call for each batch: it asks the object which hooks are its base class's."""
        base = keras.callbacks.Callback
        for name in ("on_train_batch_begin", "on_train_batch_end", "on_test_batch_begin", "on_test_batch_end"):
            if getattr(type(self), name) is getattr(TensorBoard, name):
                self.__dict__[name] = MethodType(getattr(base, name), self)

    def _heard(self, folder: str, event: Any) -> None:
        """On the thread of a writer."""
        if (hear := self._hear) is not None:
            with self.guard("recording TensorBoard's events"):
                name = os.path.relpath(folder, self.log_dir).replace(os.sep, "/")
                hear(EventSource(folder=name, name=f"{id(self)}/{name}", in_run_numbers=True), event)
