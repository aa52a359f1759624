"""Keras' TensorBoard callback, without TensorFlow and with continuous steps."""

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

from tracker_keras.recording.guard import Guard
from tracker_keras.recording.optimizers import iterations
from tracker_tensorboard.event_files import EventSource
from tracker_tensorboard.summaries import Summaries

log = logging.getLogger("tracker")

OnEvent = Callable[[EventSource, Any], None]


class TensorBoard(keras.callbacks.TensorBoard):  # type: ignore[misc]  # Keras has no types
    """`keras.callbacks.TensorBoard`, with the same arguments, files and tags, and these differences.

    - TensorFlow is not needed: a thread writes the events and computes the histograms of weights, and the training
      waits only for a copy of the weights. The package `tensorboard` is needed. With the TensorFlow backend two
      features still use TensorFlow: profiles, and a model's own `tf.summary` calls, which go into the same file if
      `update_freq` is not "epoch".
    - The step of batch logs continues from fit to fit, as the optimizer's iterations do, where Keras' own restarts and
      overlaps. With `TrackerCallback` in the list it is the run's step, and epochs have the run's numbers. With
      `steps_per_execution` it counts steps, not calls, and batches are logged whenever a multiple of `update_freq` is
      crossed.
    - With `update_freq="epoch"` no batch hook is defined, so JAX' asynchronous dispatch is not affected.
    - `profile_batch` on a backend without a profiler is logged, and the training goes on.
    - The graph of a model that was built from layers or inputs is written, whatever its class.

    TrackerCallback records events that are written without TensorFlow directly, without reading the files.
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
        self._summaries = Summaries(self._pass_event)
        self._on_event: OnEvent | None = None
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
        """The module that writes summaries: TensorFlow's, or our replacement."""
        return super().summary if self._needs_tensorflow else self._summaries

    @property
    def hands_over(self) -> bool:
        """Whether events are passed to the function given to `follow`, so that no file needs to be read."""
        return not self._needs_tensorflow

    def follow(self, step: int, epoch: int, on_event: OnEvent) -> None:
        """Use the run's numbers: `step` steps were done before the fit, and `epoch` is the number of Keras' epoch 0.

        `on_event` is called with each event that is written without TensorFlow.
        """
        self._run_step, self._first_epoch = step, epoch
        if not self._begins_fit:
            self._epoch_step = self._step_before = self._global_train_batch = step
        if not self._needs_tensorflow:
            self._on_event = on_event

    def set_model(self, model: Any) -> None:
        """Keras builds a list of callbacks, for a `fit()`, or for an `evaluate()`, which may be inside a fit."""
        self._close_writers()
        os.makedirs(self.log_dir, exist_ok=True)
        super().set_model(model)
        self._should_write_train_graph = bool(self.write_graph) and self._needs_tensorflow

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """A fit begins; the number of earlier steps is read when its first epoch begins."""
        self._on_event, self._run_step, self._first_epoch = None, None, 0  # may be left from a fit that died
        before = self._global_train_batch
        super().on_train_begin(logs)
        self._global_train_batch = before
        self._is_in_fit = self._begins_fit = True

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """An epoch begins; before the first one any restored state is in place."""
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
        """Steps begin; if TensorFlow writes, the model's own summaries have the first of these steps."""
        self._global_train_batch = self._epoch_step + batch
        super().on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Steps ended, the last with index `batch`, which may exceed the epoch's steps in its last call."""
        steps = (self.params or {}).get("steps")
        done = self._epoch_step + (batch + 1 if steps is None else min(batch + 1, steps))
        self._global_train_batch = done
        with self._recording(self._step_before, done):
            super().on_train_batch_end(batch, logs)
        self._step_before = done

    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """An evaluation ended; if it is not part of a fit, the writers are closed."""
        super().on_test_end(logs)
        if not self._is_in_fit:
            self._close_writers()
            self._writers: dict[str, Any] = {}

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """The fit returns; when this returns, all events are in the files and were passed to `on_event`."""
        super().on_train_end(logs)
        self._is_in_fit, self._on_event, self._run_step, self._first_epoch = False, None, None, 0

    # -- how the parts of Keras' callback write ------------------------------------------------------------------

    def _recording(self, before: int, done: int) -> contextlib.AbstractContextManager[Any]:
        """A context in which batch logs are written if a multiple of `update_freq` is between these steps."""
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
        except Exception as error:  # a subclassed model need not be serialisable
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
        """Replace batch hooks by the base class's, which Keras recognises and does not call for each batch."""
        base = keras.callbacks.Callback
        for name in ("on_train_batch_begin", "on_train_batch_end", "on_test_batch_begin", "on_test_batch_end"):
            if getattr(type(self), name) is getattr(TensorBoard, name):
                self.__dict__[name] = MethodType(getattr(base, name), self)

    def _pass_event(self, folder: str, event: Any) -> None:
        """Pass an event to `on_event`; called on the thread of a writer."""
        if (on_event := self._on_event) is not None:
            with self.guard("recording TensorBoard's events"):
                name = os.path.relpath(folder, self.log_dir).replace(os.sep, "/")
                on_event(EventSource(folder=name, name=f"{id(self)}/{name}", in_run_numbers=True), event)
