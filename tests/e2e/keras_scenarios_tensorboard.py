"""Scenarios of TensorBoard callbacks, Keras' and ours, of what they write, and of weights without them."""

from __future__ import annotations

import contextlib
import glob
import os
from typing import Any

import keras
import numpy as np
from keras_bench import Facts, X, Y, fit, linear, log_lines, scenario, verbose

import tracker
import tracker_keras
import tracker_tensorboard.fit_events
from tracker.domain.errors import InvalidValue
from tracker_keras import TrackerCallback

tracker_tensorboard.fit_events.READ_S = 0.01  # fits of seconds are read while they go on, too
KINDS = {"stock": keras.callbacks.TensorBoard, "ours": tracker_keras.TensorBoard}


def net(name: str = "net") -> Any:
    """A compiled model with a kernel that can be drawn."""
    layers = [keras.layers.Input((3,)), keras.layers.Dense(4, name="hidden"), keras.layers.Dense(1, name="out")]
    model = keras.Sequential(layers, name=name)
    model.compile(keras.optimizers.SGD(0.01), "mse", metrics=["mae"])
    return model


class Own(keras.callbacks.Callback):
    """Summaries of the user's own, in a folder of his own, whose steps are epochs that begin anew with each fit."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        import tensorflow as tf

        self._tf, self._writer = tf, tf.summary.create_file_writer(folder)
        with self._writer.as_default():
            tf.summary.scalar("before", 1.0, step=0)
        self._writer.flush()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        summary = self._tf.summary
        with self._writer.as_default():
            summary.scalar("learned", float(epoch) / 2, step=epoch)
            summary.histogram("spread", [0.0, 1.0, float(epoch)], step=epoch, buckets=3)
            summary.image("seen: all", np.full((2, 5, 7, 3), 0.5, dtype="float32"), step=epoch)
            summary.text("words", f"epoch **{epoch}**", step=epoch)
        self._writer.flush()


def shown(folder: str) -> Facts:
    """What TensorBoard itself reads in a folder: the steps of each tag, and the buckets of histograms, by kind."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    found = EventAccumulator(folder, {"tensors": 0}, purge_orphaned_data=False)
    found.Reload()

    def events(tag: str) -> list[Any]:  # files of one second are read in the order of their names
        return sorted(found.Tensors(tag), key=lambda event: event.wall_time)

    facts: Facts = {}
    for kind in ("scalars", "histograms", "images", "graph_keras_model"):
        with contextlib.suppress(KeyError):  # there is none of this kind
            tags = sorted(found.PluginTagToContent(kind))
            facts[kind] = {tag: [event.step for event in events(tag)] for tag in tags}
    facts["buckets"] = {
        tag: [tensor_util.make_ndarray(event.tensor_proto).tolist() for event in events(tag)]
        for tag in facts.get("histograms", ())
    }
    return facts


@scenario
def boards() -> Facts:
    """One callback in two fits, after ours and before it, in a folder where another training left its files."""
    facts: Facts = {}
    for name, kind, every in (("stock", "stock", 2), ("ours", "ours", 2), ("epochs", "ours", "epoch")):
        folder = f"logs-{name}"
        fit(net("old"), keras.callbacks.TensorBoard(folder, histogram_freq=1, write_images=True), epochs=1)
        left = {path: os.path.getsize(path) for path in glob.glob(f"{folder}/**/*.v2", recursive=True)}
        keras.utils.set_random_seed(5)
        with tracker.start_run(name=f"boards.{name}") as run, log_lines() as said:
            model, ours, own = net(), TrackerCallback(run), Own(f"{folder}/mine")
            board = KINDS[kind](
                folder, histogram_freq=1, write_images=True, write_steps_per_second=True, update_freq=every
            )
            for callbacks in ([board, ours, own], [own, ours, board]):
                fit(model, *callbacks, validation_data=(X[:5], Y[:5]), ordered=True)
            fit(model, board, epochs=1)  # nobody records this one
        for path in left:
            os.remove(path)
        facts[name] = {
            "said": said,
            "problems": dict(run.problems),
            "train": shown(f"{folder}/train"),
            "validation": shown(f"{folder}/validation"),
        }
    return facts


@scenario
def boards_together() -> Facts:
    """Two callbacks share a folder. Then calls of the batch hook stand for three steps, the last of an epoch for one."""
    with tracker.start_run(name="boards_together") as run, log_lines() as said:
        shared = [keras.callbacks.TensorBoard("logs-shared", histogram_freq=1, write_images=True) for _ in range(2)]
        model = net()
        model.compile("sgd", "mse", steps_per_execution=3)
        fit(model, shared[0], TrackerCallback(run), shared[1])
        fit(model, keras.callbacks.TensorBoard("logs-calls", update_freq=1), TrackerCallback(run))
        fit(model, tracker_keras.TensorBoard("logs-calls", update_freq=1), TrackerCallback(run), epochs=1)
    return {"said": said}


@scenario
def board_tags() -> Facts:
    """Tags that differ in special characters only; each is used for all kinds, whichever comes first."""
    import tensorflow as tf

    tags = ["日本", "中国", "q?", "q!", "a+b", "a=b", "both", ".."]
    writer = tf.summary.create_file_writer("logs-tags/mine")

    def write(tag: str) -> None:
        kinds: list[Any] = [
            lambda: tf.summary.scalar(tag, 0.0, step=0),
            lambda: tf.summary.text(tag, f"text of {tag}", step=0),
            lambda: tf.summary.image(tag, np.full((1, 5, 7, 3), 0.5, dtype="float32"), step=0),
            lambda: tf.summary.histogram(tag, [0.0, 1.0], step=0),
            lambda: tf.summary.scalar(tag, 1.0, step=1),
        ]
        for kind in kinds if len(tag) % 2 else (*kinds[1:4], kinds[0], kinds[4]):
            kind()

    class Writes(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 0:
                with writer.as_default():
                    for tag in tags:
                        write(tag)
                writer.flush()

    with tracker.start_run(name="board_tags") as run, log_lines() as said:
        fit(linear(), keras.callbacks.TensorBoard("logs-tags", write_graph=False), TrackerCallback(run), Writes())
    return {"said": said, "tags": tags, "problems": dict(run.problems)}


@scenario
def boards_and_ours() -> Facts:
    """What TrackerCallback was asked to record itself is not taken from the files as well.

    In another fit the user evaluates with our TensorBoard in the middle of it.
    """

    class Evaluates(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 0:
                model.evaluate(X, Y, verbose=verbose(), callbacks=[watched])

    with tracker.start_run(name="boards_and_ours") as run, log_lines() as said:
        board = keras.callbacks.TensorBoard("logs-both", histogram_freq=1, update_freq=1)
        fit(linear(), board, TrackerCallback(run, log_batches=1, histograms=1))
    with tracker.start_run(name="boards_evaluated") as run:
        model, watched = net(), tracker_keras.TensorBoard("logs-evaluated", histogram_freq=1)
        fit(model, Evaluates(), watched, TrackerCallback(run), epochs=3)
    return {"said": said}


@scenario
def weights() -> Facts:
    """Histograms of the weights, in epochs 0 and 2 of three."""
    found: dict[int, dict[str, Any]] = {}

    class Weights(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            found[epoch] = {w.path: keras.ops.convert_to_numpy(w).ravel().tolist() for w in self.model.weights}

    facts: Facts = {"refused": {}}
    with log_lines() as said, tracker.start_run(name="weights") as run:  # histograms are counted beside the training
        fit(net(), TrackerCallback(run, histograms=2), Weights(), epochs=3)
        broken = net()
        broken.layers[0].kernel.assign(np.full((3, 4), np.nan))
        fit(broken, TrackerCallback(run, histograms=1), epochs=1, x=X * np.nan)
    for given in (-1, True, 1.5, "epoch"):
        try:
            TrackerCallback(run, histograms=given)  # type: ignore[arg-type]
        except InvalidValue as error:
            facts["refused"][str(given)] = [error.field, str(error)]
    return {**facts, "said": said, "weights": found}
