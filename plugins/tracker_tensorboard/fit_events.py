"""Follows the event files of the fit's TensorBoard callbacks while the training runs."""

from __future__ import annotations

import logging
import os
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from tracker_keras.recording.fit_observers import FitObserver
from tracker_keras.recording.optimizers import unwrapped
from tracker_tensorboard.batch_steps import BatchSteps
from tracker_tensorboard.callback import TensorBoard
from tracker_tensorboard.event_files import EventFiles, EventSource, Sizes, newest_of_this_process
from tracker_tensorboard.event_record import FILE_BYTES, EventRecord

if TYPE_CHECKING:
    from tracker_keras.recording.fit_state import FitState

log = logging.getLogger("tracker")

READ_S = 3.0
"""Seconds between reads of the files during a fit. Reading after each epoch would slow short epochs down."""
PROFILE_BYTES = 256 * 1024 * 1024
"""Bytes of profiles of one fit that become artifacts; a single one may have FILE_BYTES."""

_said: set[str] = set()


class FitEvents(FitObserver):
    """Follows the event files below the callbacks' log_dirs for the length of one fit.

    Only events written during this fit are recorded: of existing files those after their end as the fit begins, of
    files that Keras opened for the fit (`set_model` opens new ones each time) all. The run's background thread reads
    the files in order, one event at a time, so that memory does not grow with them. Events that
    `tracker_keras.TensorBoard` writes without TensorFlow are passed on directly, and their files are not read.

    The user's own writers must be flushed before the fit returns; TensorFlow's default writer is flushed here. Files of
    the profiler become artifacts (`tensorboard/plugins/profile/…`); embeddings, which are whole models' weights, do
    not. `callbacks` are the fit's TensorBoard callbacks.
    """

    def __init__(self, fit: FitState, callbacks: list[Any]) -> None:
        super().__init__(fit)
        self._callbacks = callbacks
        self._record: EventRecord | None = None
        self._steps: BatchSteps | None = None
        self._reading: Future[None] | None = None
        self._over = threading.Event()
        self._keys: frozenset[str] = frozenset()
        roots = _roots(self._callbacks)
        self._profiles = _profiles(roots)
        self._files: EventFiles | None = EventFiles(roots, _opened_for(self._callbacks))
        self._handed = [one for one in self._callbacks if isinstance(one, TensorBoard)]

    def begin(self, initial_epoch: int) -> None:
        """The fit has its numbers in the run, so events can be recorded from now on."""
        recorder = self.fit.recorder
        if recorder is None:
            return
        model, calls = self.fit.model, self.fit.call.steps_per_epoch
        at_once = max(1, getattr(model, "steps_per_execution", 1))
        optimizer = unwrapped(getattr(model, "optimizer", None))
        per_call = at_once / (getattr(optimizer, "gradient_accumulation_steps", None) or 1)
        # With accumulated gradients an epoch's number of steps is not whole; the calls share it equally.
        steps = calls if per_call == at_once else None
        self._steps = BatchSteps(per_call, -(-calls // at_once) if calls else None, steps)
        self._record = EventRecord(self.fit.run, recorder, self._steps, batches=self.fit.log_batches > 0)
        for callback in self._handed:
            callback.follow(recorder.step(0), recorder.epoch(0), self._on_event)
        reader = _Reader(self, self._over)
        self.fit.run.in_background(reader.start)  # who starts a thread waits until it runs

    def end_epoch(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Note which metrics of this epoch are recorded; its files are read later, perhaps after many short epochs."""
        if self._record is None or self._steps is None:
            return
        if self._keys != metrics.keys():
            self._keys = frozenset(metrics)
        self._steps.end_epoch(self.fit.steps)
        self._record.epoch_ended(self.fit.epoch(epoch), self._keys)

    def end(self) -> None:
        """All callbacks have closed their files: read them to their current end."""
        if self._record is None or self._files is None:
            return
        self._over.set()
        _flush_default_writer()
        sizes = self._files.sizes()
        self.fit.run.in_background(lambda: self._finish(sizes))

    def read_soon(self) -> None:
        """Read the files in the background, unless a read is running."""
        if self._record is not None and (self._reading is None or self._reading.done()):
            self._reading = self.fit.run.in_background(self._read)

    def _read(self, until: Sizes | None = None) -> None:
        if self._files is not None and self._record is not None:
            # Without TensorFlow nobody wrote a file that is not handed over, and to read one would import it.
            if "tensorflow" in sys.modules:
                self._files.read(self._on_event, until)
            self._record.settle()

    def _finish(self, sizes: Sizes) -> None:
        with self.fit.guard("reading TensorBoard's event files"):
            self._read(sizes)
        self._files = None  # another read that was queued meanwhile finds nothing
        if self._record is not None:
            self._record.settle(all_is_there=True)
        with self.fit.guard("keeping TensorBoard's profiles"):
            self._keep_profiles()

    def _on_event(self, source: EventSource, event: Any) -> None:
        with self.fit.guard("recording TensorBoard's events"):
            if self._record is not None:
                self._record.add(source, event)

    def _keep_profiles(self) -> None:
        left = PROFILE_BYTES
        for path, (root, size) in _profiles(_roots(self._callbacks)).items():
            if path in self._profiles:
                continue
            left -= size
            if size > FILE_BYTES or left < 0:
                _say(f"profiles over {FILE_BYTES} bytes, or {PROFILE_BYTES} bytes in all, are not recorded: {path}")
                continue
            self.fit.run.log_artifact(path, f"tensorboard/{os.path.relpath(path, root)}")


class _Reader(threading.Thread):
    """Triggers a read of the files every READ_S seconds, until the fit or its observer is gone."""

    def __init__(self, observer: FitEvents, over: threading.Event) -> None:
        super().__init__(name="tracker-tensorboard", daemon=True)
        self._observer = weakref.ref(observer)
        self._over = over

    def run(self) -> None:
        while not self._over.wait(READ_S) and (observer := self._observer()) is not None:
            observer.read_soon()
            del observer


def _roots(callbacks: list[Any]) -> dict[str, bool]:
    """The log_dirs, each with whether all its writers use the run's numbers."""
    roots: dict[str, bool] = {}
    for callback in callbacks:
        if "://" in callback.log_dir:
            _say(f"TensorBoard's files are followed on disks of this machine only, not in {callback.log_dir}")
            continue
        root = os.path.realpath(callback.log_dir)
        roots[root] = roots.get(root, True) and isinstance(callback, TensorBoard)
    return roots


def _opened_for(callbacks: list[Any]) -> list[str]:
    """The event files that TensorFlow opened for this fit before it began."""
    opened: Counter[str] = Counter()
    for callback in (one for one in callbacks if not getattr(one, "hands_over", False)):
        for name, folder in (("train", "_train_dir"), ("val", "_val_dir")):
            if name in getattr(callback, "_writers", ()) and hasattr(callback, folder):
                opened[os.path.realpath(getattr(callback, folder))] += 1
    return [path for folder, count in opened.items() for path in newest_of_this_process(folder, count)]


def _profiles(roots: Mapping[str, bool]) -> dict[str, tuple[str, int]]:
    """The profiler's files below `roots`, each with its root and size in bytes."""
    found = {}
    for root in roots:
        for folder, _, names in os.walk(root):
            if f"{os.sep}plugins{os.sep}profile{os.sep}" in folder + os.sep:
                paths = [os.path.join(folder, name) for name in names]
                found.update({path: (root, os.path.getsize(path)) for path in paths})
    return found


def _flush_default_writer() -> None:
    """Flush TensorFlow's default writer of this thread."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None and hasattr(tensorflow, "summary"):
        tensorflow.summary.flush()


def _say(what: str) -> None:
    if what not in _said:
        _said.add(what)
        log.warning("%s", what)
