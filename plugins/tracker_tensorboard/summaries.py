"""The part of `tf.summary` that Keras' TensorBoard callback needs, without TensorFlow.

The events are those that `tf.summary` writes: the same tags, kinds and values.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from tracker_keras.recording.histogram_buckets import buckets
from tracker_tensorboard.event_writer import EventWriter

MOST_IMAGES = 3
"""Images of one summary that are written, as `tf.summary.image` does."""


class SummaryWriter:
    """The writer of one folder, as `tf.summary.create_file_writer` returns it."""

    def __init__(self, summaries: Summaries, events: EventWriter) -> None:
        self._summaries = summaries
        self.events = events

    @contextlib.contextmanager
    def as_default(self, step: int | None = None) -> Iterator[None]:
        """A context in which summaries are written here."""
        before, self._summaries.writer = self._summaries.writer, self
        try:
            yield
        finally:
            self._summaries.writer = before

    def flush(self) -> None:
        """Does nothing: the writer's thread flushes whenever no event waits."""

    def close(self) -> None:
        """Write everything, and close the file."""
        self.events.close()


class Summaries:
    """Replaces the module `tensorflow.summary`. Without a default writer nothing is written."""

    def __init__(self, on_event: Callable[[str, Any], None]) -> None:
        self._on_event = on_event
        self.writer: SummaryWriter | None = None

    def create_file_writer(self, folder: str) -> SummaryWriter:
        """A writer into `folder`; its file is created with the first event."""
        return SummaryWriter(self, EventWriter(folder, lambda event: self._on_event(folder, event)))

    def scalar(self, name: str, data: Any, step: Any = None) -> None:
        """One number, as float32."""
        number = np.float32(ops.convert_to_numpy(data))
        self._write(name, step, "scalars", lambda: _tensor(number), 0)

    def histogram(self, name: str, data: Any, step: Any = None) -> None:
        """Histogram of an array; the array is copied at once and counted later."""
        values = np.array(ops.convert_to_numpy(data))
        self._write(name, step, "histograms", lambda: _tensor(_rows(values)), values.nbytes)

    def image(self, name: str, data: Any, step: Any = None) -> None:
        """Images of shape (number, height, width, 1, 3 or 4), floats from 0 to 1."""
        images = np.array(ops.convert_to_numpy(data))
        self._write(name, step, "images", lambda: _tensor(_encoded(images)), images.nbytes)

    def keras_model(self, name: str, json: str) -> None:
        """A model's architecture, which TensorBoard draws as its conceptual graph."""
        self._write(name, 0, "graph_keras_model", lambda: _tensor([json.encode()]), len(json), b"1")

    def graph(self, graph: Any) -> None:
        """A graph of TensorFlow."""
        from tensorboard.compat.proto import event_pb2

        now, data = time.time(), graph.as_graph_def().SerializeToString()
        if self.writer is not None:
            self.writer.events.add(lambda: event_pb2.Event(wall_time=now, graph_def=data), len(data))

    def trace_on(self, **_: Any) -> None:
        """There is no graph to trace without TensorFlow."""

    def trace_export(self, **_: Any) -> None:
        """There is none to export."""

    def _write(
        self, tag: str, step: Any, plugin: str, make: Callable[[], Any], size: int, content: bytes = b""
    ) -> None:
        if self.writer is None:
            return
        now, at = time.time(), int(ops.convert_to_numpy(step))

        def event() -> Any:
            from tensorboard.compat.proto import event_pb2, summary_pb2

            metadata = summary_pb2.SummaryMetadata(
                plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name=plugin, content=content)
            )
            value = summary_pb2.Summary.Value(tag=tag, metadata=metadata, tensor=make())
            return event_pb2.Event(wall_time=now, step=at, summary=summary_pb2.Summary(value=[value]))

        self.writer.events.add(event, size)


def _tensor(value: Any) -> Any:
    from tensorboard.util import tensor_util

    return tensor_util.make_tensor_proto(value)


def _rows(values: NDArray[Any]) -> NDArray[np.float64]:
    """Buckets as TensorBoard keeps them: a row of left edge, right edge and count each."""
    edges, counts = buckets(values)
    return np.stack([edges[:-1], edges[1:], counts.astype(np.float64)], axis=1)


def _encoded(images: NDArray[Any]) -> list[bytes]:
    """Width, height and PNG files; pixels as `tf.image.convert_image_dtype` makes them of floats."""
    from PIL import Image

    height, width, channels = images.shape[1:]
    found = [str(width).encode(), str(height).encode()]
    for image in images[:MOST_IMAGES]:
        pixels = image
        if image.dtype != np.uint8:
            pixels = np.clip(np.nan_to_num(image.astype(np.float32)) * np.float32(255.5), 0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels).save(file, "PNG")
        found.append(file.getvalue())
    return found
