"""What TensorBoard callbacks write is on record, once, and equally whether Keras' callback wrote it or ours."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from e2e.children import Child, eventually
from e2e.keras_lab import Lab, environment
from PIL import Image

from tracker import compose

WEIGHTS = {"net/hidden/kernel": 12, "net/hidden/bias": 4, "net/out/kernel": 4, "net/out/bias": 1}
KINDS = pytest.mark.parametrize("kind", ["stock", "ours", "epochs"])


def files(keras: Lab, name: str) -> list[Path]:
    """All files of a run, relative to its artifacts."""
    root = Path(keras.run(name).artifact_uri.removeprefix("file://"))
    return sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())


def images(keras: Lab, name: str) -> dict[str, list[int]]:
    """The steps of a run's images by their keys."""
    found: dict[str, list[int]] = defaultdict(list)
    for path in files(keras, name):
        if path.parts[0] == "images" and path.suffix == ".png":
            key, _, step, *_ = path.name.split("+")
            found[key.replace("~", "/")].append(int(step))
    return dict(found)


def histograms(keras: Lab, name: str) -> dict[str, list[tuple[str, int, Any, Any]]]:
    """Axis, step, edges and counts of a run's histograms by their keys."""
    found: dict[str, list[tuple[str, int, Any, Any]]] = defaultdict(list)
    for one in keras.store.histograms(keras.run(name).id):
        found[one.key].append((one.axis, one.step, list(one.edges), list(one.counts)))
    return dict(found)


def series(keras: Lab, name: str, *, raw: bool = False) -> dict[str, list[tuple[int, float]]]:
    """All points of a run by their keys."""
    run = keras.run(name)
    found = {}
    for key in keras.keys(run.id):
        history = keras.store.history(run.id, key, raw=raw)
        found[key] = list(zip(history.steps.tolist(), history.values.tolist(), strict=True))
    return found


@KINDS
def test_scalars(keras: Lab, kind: str) -> None:
    """Epoch logs are there once, under their own names; batches and own summaries go on from fit to fit."""
    facts, name = keras.said("boards")[kind], f"boards.{kind}"
    assert (facts["said"], facts["problems"]) == ([], {})
    points = series(keras, name, raw=True)
    batches = {"batch/loss", "batch/mae", "batch/steps_per_second"}
    epochs = {"loss", "mae", "val_loss", "val_mae", "learning_rate", "steps_per_second"}
    assert set(points) == epochs | {"mine/learned"} | (set() if kind == "epochs" else batches)
    assert {tuple(step for step, _ in points[key]) for key in epochs} == {(0, 1, 2, 3)}
    assert {tuple(step for step, _ in points[key]) for key in batches & set(points)} <= {(2, 4, 6, 8, 10, 12, 14, 16)}
    # His counter began anew with the second fit, when the run had done eight steps.
    assert points["mine/learned"] == [(0, 0.0), (1, 0.5), (8, 0.0), (9, 0.5)]


@KINDS
def test_histograms(keras: Lab, kind: str) -> None:
    """The weights' buckets are those in TensorBoard's files, an epoch of the run each."""
    facts, found = keras.said("boards")[kind], histograms(keras, f"boards.{kind}")
    assert set(found) == {*WEIGHTS, "mine/spread"}
    assert [(axis, step) for axis, step, *_ in found["mine/spread"]] == [("step", step) for step in (0, 1, 8, 9)]
    for key, size in WEIGHTS.items():
        rows = facts["train"]["buckets"][f"{key}/histogram"][:4]  # the fifth is of the fit that nobody recorded
        assert [(axis, step, sum(counts)) for axis, step, _, counts in found[key]] == [
            ("epoch", epoch, size) for epoch in range(4)
        ]
        assert [[*zip(edges[:-1], edges[1:], counts, strict=True)] for _, _, edges, counts in found[key]] == [
            [tuple(bucket) for bucket in buckets] for buckets in rows
        ]


@KINDS
def test_images(keras: Lab, kind: str) -> None:
    """Weights that can be drawn and the user's images are images of the run, each with its small copy."""
    drawn = {key: [0, 1, 2, 3] for key in ("net/hidden/kernel", "net/hidden/bias", "net/out/kernel")}
    name = f"boards.{kind}"
    assert images(keras, name) == drawn | {key: [0, 1, 8, 9] for key in ("mine/seen=3A all", "mine/seen=3A all/1")}
    paths = [path for path in files(keras, name) if path.parts[0] == "images"]
    assert len(paths) == 2 * (3 * 4 + 2 * 4)
    assert keras.store.tags(keras.run(name).id)["mlflow.loggedImages"] == "True"
    (seen,) = [path for path in paths if path.name.startswith("mine~seen=3A all~1+step+8+") and path.suffix == ".png"]
    with Image.open(Path(keras.run(name).artifact_uri.removeprefix("file://")) / seen) as image:
        assert (image.size, image.getpixel((0, 0))) == ((7, 5), (127, 127, 127))


def test_tags_that_differ_in_special_characters(keras: Lab) -> None:
    """Texts and images have files of their own, histograms and scalars keys of their own, under each tag."""
    facts, run = keras.said("board_tags"), keras.run("board_tags")
    assert facts["said"] == []
    texts = {str(path): keras.text(run, str(path)) for path in files(keras, "board_tags") if path.suffix == ".md"}
    names = {"日本": "日本", "中国": "中国", "q?": "q=3F", "q!": "q=21", "a+b": "a=2Bb", "a=b": "a=3Db", "..": "=2E=2E"}
    assert set(names) < set(facts["tags"])
    for tag, name in names.items():
        assert texts[f"tensorboard/mine/{name}/0.md"] == f"text of {tag}"
    assert len(texts) == len(facts["tags"])
    assert set(images(keras, "board_tags")) == {f"mine/{names.get(tag, tag)}" for tag in facts["tags"]}
    for tag in facts["tags"]:
        assert keras.values(run.id, f"mine/{tag}") == [0.0, 1.0], "a scalar, whatever else the tag is used for"
    assert {key: [step for _, step, *_ in rows] for key, rows in histograms(keras, "board_tags").items()} == {
        f"mine/{tag}": [0] for tag in facts["tags"]
    }
    assert dict(facts["problems"]) == {}


@KINDS
def test_graph_and_text(keras: Lab, kind: str) -> None:
    """The model's graph is kept once for all fits, and each text, as artifacts."""
    kept = [str(path) for path in files(keras, f"boards.{kind}") if path.parts[0] == "tensorboard"]
    assert kept == [*(f"tensorboard/mine/words/{step}.md" for step in (0, 1, 8, 9)), "tensorboard/train/keras.json"]
    run = keras.run(f"boards.{kind}")
    assert keras.text(run, "tensorboard/mine/words/9.md") == "epoch **1**"
    assert '"hidden"' in str(keras.text(run, "tensorboard/train/keras.json"))


@pytest.mark.parametrize("kind", ["ours", "epochs"])
def test_ours_is_recorded_as_stock(keras: Lab, kind: str) -> None:
    """The store has the same of both: values, buckets, images; but for the speed, and batches nobody asked for."""

    def of(name: str) -> Any:
        points = {key: of for key, of in series(keras, name).items() if "per_second" not in key}
        return {key: of for key, of in points.items() if kind == "ours" or not key.startswith("batch/")}

    stock, ours = "boards.stock", f"boards.{kind}"
    assert of(ours) == of(stock)
    assert images(keras, ours) == images(keras, stock)
    mine, theirs = histograms(keras, ours), histograms(keras, stock)
    assert mine.keys() == theirs.keys()
    for key, rows in mine.items():
        for (axis, step, edges, counts), expected in zip(rows, theirs[key], strict=True):
            assert (axis, step, counts) == (expected[0], expected[1], expected[3])
            assert edges == pytest.approx(expected[2], rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("kind", ["ours", "epochs"])
def test_tensorboard_reads_ours_as_stock(keras: Lab, kind: str) -> None:
    """TensorBoard finds the same tags of the same kinds in our files; steps and epochs go on, where stock's overlap."""
    stock, ours = keras.said("boards")["stock"]["train"], keras.said("boards")[kind]["train"]
    for what in ("scalars", "histograms", "images", "graph_keras_model"):
        assert {tag for tag in stock[what] if kind == "ours" or not tag.startswith("batch_")} == set(ours[what])
    assert stock["scalars"]["epoch_loss"] == [0, 1, 0, 1, 0]
    assert ours["scalars"]["epoch_loss"] == [0, 1, 2, 3, 0]  # in the last fit no TrackerCallback knew the run's
    assert ours["histograms"]["net/out/bias/histogram"] == [0, 1, 2, 3, 0]
    assert stock["scalars"]["batch_loss"] == [2, 4, 6, 8, 2, 4, 6, 8, 2, 4]
    if kind == "ours":
        assert ours["scalars"]["batch_loss"] == [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]
    assert keras.said("boards")[kind]["validation"]["scalars"]["epoch_mae"] == [0, 1, 2, 3]


def test_16_two_in_a_folder_and_calls_of_several_steps(keras: Lab) -> None:
    """Two that share a folder are recorded as one; a call of the batch hook is recorded at its steps."""
    assert keras.said("boards_together")["said"] == []
    found = histograms(keras, "boards_together")
    assert {key: [step for _, step, *_ in rows] for key, rows in found.items()} == {key: [0, 1] for key in WEIGHTS}
    assert images(keras, "boards_together") == {
        key: [0, 1] for key in ("net/hidden/kernel", "net/hidden/bias", "net/out/kernel")
    }
    points = series(keras, "boards_together", raw=True)
    assert [step for step, _ in points["loss"]] == [0, 1, 2, 3, 4]
    # Eight steps in the first fit, which logs no batches; then Keras' own in two epochs, and ours in one.
    assert [step for step, _ in points["batch/loss"]] == [11, 12, 15, 16, 19, 20]


def test_what_we_record_ourselves_is_not_there_twice(keras: Lab) -> None:
    """With `log_batches` and `histograms` nothing is written a second time, nor anything said."""
    assert keras.said("boards_and_ours")["said"] == []
    points = series(keras, "boards_and_ours", raw=True)
    assert [step for step, _ in points["batch/loss"]] == list(range(1, 9))
    found = histograms(keras, "boards_and_ours")
    # Keras numbers the layers of a process, so what `linear/dense_3` is called depends on the scenarios before.
    assert {key.rpartition("/")[2]: [step for _, step, *_ in rows] for key, rows in found.items()} == {
        "kernel": [0, 1], "bias": [0, 1],
    }  # fmt: skip


def test_an_evaluation_in_the_middle_of_a_fit(keras: Lab) -> None:
    """It takes the callback's model and writers for itself; what is written in the epochs after it is on record too."""
    keras.said("boards_and_ours")
    found = histograms(keras, "boards_evaluated")
    assert {key: [step for _, step, *_ in rows] for key, rows in found.items()} == {key: [0, 1, 2] for key in WEIGHTS}
    assert [fit.outcome for fit in keras.store.fits(keras.run("boards_evaluated").id)] == ["completed"]
    # No epoch log has a val_loss; the evaluation was after the four steps of the first epoch.
    assert [step for step, _ in series(keras, "boards_evaluated")["evaluation/loss"]] == [4]


def test_weights_without_tensorboard(keras: Lab) -> None:
    """`histograms=2` counts the weights of every second epoch, as they were at its end; NaN is in no bucket."""
    facts, found = keras.said("weights"), histograms(keras, "weights")
    *said, summary = facts["said"]
    assert len(said) == len(WEIGHTS)
    assert all("NaN or infinite in epoch 3" in line for line in said)
    assert "4 problems in all" in summary
    assert set(found) == set(WEIGHTS)
    for key, rows in found.items():
        assert [(axis, step) for axis, step, *_ in rows] == [("epoch", 0), ("epoch", 2), ("epoch", 3)]
        for epoch, (_, _, edges, counts) in zip(("0", "2"), rows, strict=False):
            values = np.array(facts["weights"][epoch][key], dtype=np.float32)
            assert (len(edges), sum(counts)) == (31, values.size)
            assert (edges[0], edges[-1]) == (values.min(), values.max())
            inner = np.searchsorted(values, edges[15:16])  # an edge in the middle
            assert 0 <= inner[0] <= values.size
            low = sum(counts[:15])
            assert abs(low - int((values < edges[15]).sum())) <= 1  # a value on the edge itself
        assert sum(rows[-1][3]) == 0


def test_frequencies_that_cannot_be_meant(keras: Lab) -> None:
    """A number of epochs that is none is refused, with the value and what would be right."""
    refused = keras.said("weights")["refused"]
    assert set(refused) == {"-1", "True", "1.5", "epoch"}
    for given, (field, message) in refused.items():
        assert field == "histograms"
        assert given in message
        assert "limit:" in message


WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None  # as where it is not installed
sys.path.insert(0, sys.argv[1])
import keras, tracker, tracker_keras
from keras_bench import X, Y, fit, linear, verbose
board = tracker_keras.TensorBoard("logs", histogram_freq=1, write_images=True, update_freq=1)
quiet = tracker_keras.TensorBoard("quiet")
assert keras.src.utils.is_default(quiet.on_train_batch_end) and not keras.src.utils.is_default(board.on_train_batch_end)
with tracker.start_run(name="alone") as run:
    model = linear()
    fit(model, tracker_keras.TrackerCallback(run), board, quiet)
    tracker_keras.TensorBoard("evaluated").set_model(model)
    model.evaluate(X, Y, verbose=verbose(), callbacks=[board])
assert run.problems == {}, run.problems
"""


def test_without_tensorflow(tmp_path: Path) -> None:
    """Where TensorFlow is not installed ours writes what TensorBoard reads, and TrackerCallback takes it as it comes."""
    bench = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, bench],
        env=environment(tmp_path, "jax"), cwd=tmp_path, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(list(tmp_path.glob("logs/train/*tfevents*"))) == 1
    with compose.open_store(f"sqlite:///{tmp_path / 'tracker.db'}") as store:
        (run,) = store.find_runs("alone")
        assert store.history(run.id, "batch/loss").steps.tolist() == list(range(1, 9))
        assert {(one.key, one.step) for one in store.histograms(run.id)} == {
            (f"linear/dense/{weight}", epoch) for weight in ("kernel", "bias") for epoch in (0, 1)
        }


def test_profiles_where_there_is_no_profiler(tmp_path: Path) -> None:
    """On a backend without one Keras' callback raises; ours says so, and trains."""
    code = "import tracker_keras; print(tracker_keras.TensorBoard('logs', profile_batch=2).summary)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(tmp_path, "numpy"), cwd=tmp_path, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Keras has no profiler for numpy" in done.stderr


KILLED = """
import keras, numpy as np, tracker_keras, tracker_tensorboard.fit_events
sys.path.insert(0, {bench!r})
from keras_bench import X, Y, linear, verbose
tracker_tensorboard.fit_events.READ_S = 0.05
run = tracker.start_run(name="killed", run_id="killed", resume="allow")
first = {first}
class Says(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 2 and not first:
            say("trained")
            wait()
board = keras.callbacks.TensorBoard("logs", histogram_freq=1, write_images=True, update_freq=1)
linear().fit(X, Y, batch_size=5, epochs=5, initial_epoch=first, verbose=verbose(),
             callbacks=[board, tracker_keras.TrackerCallback(run), Says()])
run.finish()
say("done")
"""


def test_killed_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read before a kill -9 is there; a training that goes on in the same folder has all of it once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRACKER_PLUGINS")
    for name, value in environment(tmp_path, "tensorflow").items():
        monkeypatch.setenv(name, value)
    bench = str(Path(__file__).parent)
    with compose.open_store(f"sqlite:///{tmp_path / 'tracker.db'}") as store:
        with Child(KILLED.format(bench=bench, first=0), backend="tensorflow") as child:
            child.expect("trained")
            eventually(lambda: len(store.histograms("killed", "linear/dense/kernel")) == 3)
        assert [one.step for one in store.histograms("killed", "linear/dense/kernel")] == [0, 1, 2]
        with Child(KILLED.format(bench=bench, first=2), backend="tensorflow") as child:
            child.expect("done")
        assert [one.step for one in store.histograms("killed", "linear/dense/kernel")] == list(range(5))
        assert store.history("killed", "batch/loss").steps.tolist() == list(range(1, 21))
        assert store.history("killed", "loss").steps.tolist() == list(range(5))
        raw = store.history("killed", "batch/loss", raw=True)
        assert raw.fits is not None
        assert sorted(raw.steps[raw.fits == 2].tolist()) == list(range(9, 21))


# -- the trainings ------------------------------------------------------------------------------------------------------


def scenarios() -> None:
    """Scenarios of TensorBoard callbacks, Keras' and ours, of what they write, and of weights without them."""
    import contextlib
    import glob
    import os

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
        """Summaries of the user's own, in a folder of his own, whose steps are epochs that restart with each fit."""

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
        with (
            log_lines() as said,
            tracker.start_run(name="weights") as run,
        ):  # histograms are counted beside the training
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
