"""Records events of TensorBoard's files into a run, each once.

| in the folder | TensorBoard has | the run has |
|---|---|---|
| `train` | `epoch_x` | `x` at the epoch, unless the epoch logs have it |
| `validation` | `epoch_x` | `val_x` at the epoch, unless the epoch logs have it |
| `train` | `batch_x` | `batch/x` at the run's step, unless TrackerCallback logs batches and has `x` itself |
| `validation` | `evaluation_x_vs_iterations` | nothing where the epoch logs have `val_x`, else `evaluation/x` |
| `train` | a weight's `…/histogram`, `…/image` | the histogram, the image under the weight's path, at the epoch |
| any | the user's own scalar, histogram or images `x` | the same under `x`, at the run's step |
| any | text, the model's graph, a TensorFlow graph | artifacts in `tensorboard/` |

Summaries in a folder of the user's own are recorded as `folder/x`, in `validation` as `val_x`. The user's own steps are
kept if they continue from fit to fit; a counter that restarts with each fit continues from the run's steps before it.
Data of other plugins of TensorBoard (audio, meshes, hparams …) stays in the event files; each kind is logged once.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection
from hashlib import sha256
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from tracker.domain.file_names import folder_path

if TYPE_CHECKING:
    from tracker.client.fit_recorder import FitRecorder
    from tracker.client.run import Run
    from tracker.domain.vocabulary import Axis
    from tracker_tensorboard.event_files import EventSource

log = logging.getLogger("tracker")

IMAGE_BYTES = 256 * 1024 * 1024
"""Bytes of images that are recorded from the event files of one fit."""
FILE_BYTES = 64 * 1024 * 1024
"""Largest size in bytes of a graph or text that becomes an artifact."""
MOST_TEXTS = 1000
"""Texts of one fit that become artifacts."""

_EVALUATION = re.compile(r"evaluation_(.+)_vs_iterations\Z")
_kept: WeakKeyDictionary[Run, dict[str, str]] = WeakKeyDictionary()
"""For each run: the digests of the graphs that are artifacts already, by their paths."""


class EventPosition(NamedTuple):
    """Position of a record in the run; `fit` is 0 if no later fit may supersede it."""

    axis: Axis
    step: int
    fit: int


class _Scalar(NamedTuple):
    place: EventPosition
    key: str
    value: float
    ms: int


class EventRecord:
    """Records the events of one fit. `epoch_ended` may be called by one thread, all else by others."""

    def __init__(self, run: Run, recorder: FitRecorder, steps: Callable[[int], int], *, batches: bool) -> None:
        """`steps` converts a call of the batch hook to a step of the fit; `batches`: TrackerCallback logs batches."""
        self._run = run
        self._recorder = recorder
        self._steps = steps
        self._batches = batches
        self._lock = Lock()
        self._epochs: dict[int, Collection[str]] = {}
        self._keys: set[str] = set()
        self._seen: dict[tuple[str, str], tuple[int, EventSource]] = {}
        self._plugins: dict[tuple[str, str], str] = {}
        self._counters: dict[tuple[str, str], int] = {}
        self._waiting: list[tuple[int, _Scalar]] = []
        self._row: list[_Scalar] = []
        self._image_bytes = 0
        self._texts = 0
        self._said: set[str] = set()

    def epoch_ended(self, epoch: int, keys: Collection[str]) -> None:
        """The run's `epoch` is recorded, with metrics of these keys."""
        self._keys.update(keys)
        self._epochs[epoch] = keys

    def add(self, source: EventSource, event: Any) -> None:
        """Record an `event_pb2.Event`, which may have several values."""
        with self._lock:
            ms = int(event.wall_time * 1000)
            if event.graph_def:
                self._keep_graph(f"{source.folder}/graph.pb", event.graph_def)
            for value in event.summary.value:
                self._add(source, self._plugin(source, value), value, int(event.step), ms)

    def settle(self, *, all_is_there: bool = False) -> None:
        """Record values that waited for their epoch's logs; with `all_is_there` no more logs will come."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
            for epoch, scalar in waiting:
                if not all_is_there and epoch not in self._epochs:
                    self._waiting.append((epoch, scalar))
                elif not self._is_in_logs(epoch, scalar.key):
                    self._write(scalar)
            self._write_row()

    # -- the kinds of values -------------------------------------------------------------------------------------

    def _plugin(self, source: EventSource, value: Any) -> str:
        """TensorBoard's plugin that reads the value. A tag may have several; some writers state it only once."""
        name: str = value.metadata.plugin_data.plugin_name
        if name:
            self._plugins[source.folder, value.tag] = name
        return name or self._plugins.get((source.folder, value.tag), "scalars")

    def _add(self, source: EventSource, plugin: str, value: Any, step: int, ms: int) -> None:
        if plugin == "scalars":
            self._add_scalar(source, value, step, ms)
        elif plugin == "histograms":
            self._add_histogram(source, value, step, ms)
        elif plugin == "images":
            self._add_images(source, value, step, ms)
        elif plugin == "text":
            self._add_text(source, value, step)
        elif plugin == "graph_keras_model":
            self._keep_graph(f"{source.folder}/{folder_path(value.tag)}.json", b"".join(value.tensor.string_val))
        else:
            self._say(f"what TensorBoard's plugin {plugin!r} reads is not recorded; it is in the event files")

    def _add_scalar(self, source: EventSource, value: Any, step: int, ms: int) -> None:
        tag, number = value.tag, float(np.ravel(_array(value.tensor))[0])
        prefix = "val_" if source.folder == "validation" else ""
        if tag.startswith("epoch_") and source.folder in ("train", "validation"):
            key = f"{prefix}{tag.removeprefix('epoch_')}"
            if self._is_new("epoch", key, step, source):
                place = self._epoch(source, step)
                self._waiting.append((place.step, _Scalar(place, key, number, ms)))
        elif tag.startswith("batch_") and source.folder == "train":
            name = tag.removeprefix("batch_")
            if (not self._batches or name == "steps_per_second") and self._is_new("step", tag, step, source):
                place = EventPosition("step", self._batch_step(source, step), self._recorder.number)
                self._write(_Scalar(place, f"batch/{name}", number, ms))
        elif (evaluated := _EVALUATION.match(tag)) and source.folder == "validation":
            if self._is_new("step", tag, step, source):
                # The epoch that it belongs to has not ended yet.
                place, epoch = self._own_step("step", tag, step), max(self._epochs, default=-1) + 1
                self._waiting.append((epoch, _Scalar(place, f"evaluation/{evaluated[1]}", number, ms)))
        elif self._is_new("step", key := _key(source, tag), step, source):
            self._write(_Scalar(self._own_step("step", key, step), key, number, ms))

    def _add_histogram(self, source: EventSource, value: Any, step: int, ms: int) -> None:
        key, place = self._weight_or_own(source, value.tag, "/histogram", step)
        rows = np.asarray(_array(value.tensor), dtype=np.float64).reshape(-1, 3)
        if place is not None and len(rows):
            edges, counts = _joined(rows)
            self._recorder.run_recorder.bins(place.axis, place.step, key, edges, counts, fit=place.fit, ms=ms)

    def _add_images(self, source: EventSource, value: Any, step: int, ms: int) -> None:
        key, place = self._weight_or_own(source, value.tag, "/image", step)
        if place is None:
            return
        for index, png in enumerate(value.tensor.string_val[2:]):  # after width and height
            self._image_bytes += len(png)
            if self._image_bytes > IMAGE_BYTES:
                self._say(f"more than {IMAGE_BYTES} bytes of images in one fit; the others are in the event files")
                return
            self._recorder.run_recorder.image(png, f"{key}/{index}" if index else key, place.step, ms=ms)

    def _add_text(self, source: EventSource, value: Any, step: int) -> None:
        key = _key(source, value.tag)
        if not self._is_new("text", key, step, source):
            return
        text = b"\n\n".join(value.tensor.string_val)
        self._texts += 1
        if self._texts > MOST_TEXTS or len(text) > FILE_BYTES:
            self._say(f"more than {MOST_TEXTS} texts in one fit, or one over {FILE_BYTES} bytes, are not recorded")
            return
        at = self._own_step("text", key, step).step
        self._recorder.run_recorder.file(text, f"tensorboard/{folder_path(key)}/{at}.md")

    def _keep_graph(self, path: str, data: bytes) -> None:
        """Store a graph once a run, and again if a later fit has a different one."""
        kept, digest = _kept.setdefault(self._run, {}), sha256(data).hexdigest()
        path = f"tensorboard/{path.removeprefix('/')}"
        if len(data) > FILE_BYTES:
            self._say(f"a graph of {len(data)} bytes is not recorded; the limit is {FILE_BYTES} bytes")
        elif digest not in kept.values():
            if path in kept:
                path = path.replace("tensorboard/", f"tensorboard/fit.{self._recorder.number}/", 1)
            kept[path] = digest
            self._recorder.run_recorder.file(data, path)

    # -- where it is ---------------------------------------------------------------------------------------------

    def _epoch(self, source: EventSource, epoch: int) -> EventPosition:
        number = epoch if source.in_run_numbers else self._recorder.epoch(epoch)
        return EventPosition("epoch", number, self._recorder.number)

    def _batch_step(self, source: EventSource, call: int) -> int:
        return call if source.in_run_numbers else self._recorder.step(self._steps(call))

    def _own_step(self, kind: str, key: str, step: int) -> EventPosition:
        """A step counted by the user; one beyond the fit's steps is no optimizer step, and belongs to no fit."""
        before = self._recorder.step(0)
        place = step + self._counters.setdefault((kind, key), 0 if step >= before else before)
        return EventPosition("step", place, self._recorder.number if place <= self._recorder.reached_step else 0)

    def _weight_or_own(self, source: EventSource, tag: str, suffix: str, step: int) -> tuple[str, EventPosition | None]:
        """The key and position of a weight's summary or of one of the user's; None if it is recorded already."""
        of_weight = source.folder == "train" and tag.endswith(suffix)
        key = tag.removesuffix(suffix) if of_weight else _key(source, tag)
        if not self._is_new(suffix, key, step, source):
            return key, None
        return key, self._epoch(source, step) if of_weight else self._own_step(suffix, key, step)

    # -- each once -----------------------------------------------------------------------------------------------

    def _is_new(self, kind: str, key: str, step: int, source: EventSource) -> bool:
        """False if another file had this step: two callbacks that share a folder write everything twice."""
        highest, whose = self._seen.get((kind, key), (-1, source))
        if whose != source and step <= highest:
            return False
        self._seen[kind, key] = step, source
        return True

    def _is_in_logs(self, epoch: int, key: str) -> bool:
        if key.startswith("evaluation/"):
            return f"val_{key.removeprefix('evaluation/')}" in self._keys
        return key in self._epochs.get(epoch, self._keys)

    # -- writing -------------------------------------------------------------------------------------------------

    def _write(self, scalar: _Scalar) -> None:
        """Add a scalar to the frame of its position."""
        if self._row and (self._row[0].place != scalar.place or any(one.key == scalar.key for one in self._row)):
            self._write_row()
        self._row.append(scalar)

    def _write_row(self) -> None:
        row, self._row = self._row, []
        if row:
            (axis, step, fit), metrics = row[0].place, {one.key: one.value for one in row}
            self._recorder.run_recorder.points(axis, step, metrics, fit=fit, ms=row[0].ms)

    def _say(self, what: str) -> None:
        if what not in self._said:
            self._said.add(what)
            log.warning("run %s: %s", self._run.id, what)


def _array(tensor: Any) -> Any:
    from tensorboard.util import tensor_util

    return tensor_util.make_ndarray(tensor)


def _joined(rows: Any) -> tuple[list[float], list[float]]:
    """Rows of left edge, right edge and count, as edges and counts; a gap between rows is an interval of count 0."""
    edges, counts = [float(rows[0, 0])], []
    for left, right, number in rows:
        if left > edges[-1]:
            edges.append(float(left))
            counts.append(0.0)
        edges.append(float(right))
        counts.append(float(number))
    return edges, counts


def _key(source: EventSource, tag: str) -> str:
    """Key of the user's own tag; the folder `train` and the log_dir itself add no prefix."""
    if source.folder == "validation":
        return f"val_{tag}"
    return tag if source.folder in ("", "train") else f"{source.folder}/{tag}"
