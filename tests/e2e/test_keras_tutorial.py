"""What the tutorial's trainings print, line by line, is what the store has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from draws import daily
from e2e.keras_lab import training

import tracker
from tracker.domain.ports import RunStore
from tracker.domain.records import Event

TUTORIAL = Path(__file__).with_name("tutorial.py")
NAMES = ("periodic", *daily(("best_only", "early_stopping", "schedule", "tensorboard"), "tutorial"), "all")
"""What `all` has in one training, the others have by themselves: one of them, another one every day."""


def of_today(*names: str) -> list[str]:
    """Those of the trainings that are made."""
    return [name for name in names if name in NAMES]


@dataclass(frozen=True)
class Tutorial:
    """What each training printed, by name, the folder it ran in, and the store it was recorded in."""

    folder: Path
    printed: dict[str, str]
    store: RunStore

    def id(self, name: str) -> str:
        (run,) = self.store.find_runs(name)
        assert run.status == "finished"
        return run.id

    def events(self, name: str, kind: str) -> list[Event]:
        return [event for event in self.store.events(self.id(name)) if event.kind == kind]


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tutorial]:
    folder = tmp_path_factory.mktemp("tutorial")
    done = training([TUTORIAL, *NAMES], folder, "tensorflow", timeout=200)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "tracking" not in done.stderr
    parts = re.split(r"^== (\w+)$", done.stdout, flags=re.M)
    store = tracker.open_store(f"sqlite:///{folder / 'tracker.db'}")
    yield Tutorial(folder=folder, printed=dict(zip(parts[1::2], parts[2::2], strict=True)), store=store)
    store.close()


def epoch_lines(text: str) -> list[dict[str, float]]:
    """The metrics of Keras' lines of `verbose=2`, one mapping an epoch."""
    lines = [line for line in text.splitlines() if re.match(r"\d+/\d+ - \d", line)]
    return [{key: float(value) for key, value in re.findall(r"(\w+): ([\d.e+-]+)", line)} for line in lines]


@pytest.mark.parametrize("name", NAMES)
def test_each_epoch_line_is_an_epoch(tutorial: Tutorial, name: str) -> None:
    """Every number that Keras prints of an epoch is on record, and there are no other epochs."""
    printed = epoch_lines(tutorial.printed[name])
    epochs = tutorial.store.epochs(tutorial.id(name))
    assert [epoch.number for epoch in epochs] == list(range(len(printed)))
    assert len(printed) == 10 or name in ("early_stopping", "all")
    for line, epoch in zip(printed, epochs, strict=True):
        assert line.keys() <= epoch.metrics.keys()
        assert line == pytest.approx({key: epoch.metrics[key] for key in line}, abs=6e-5)
        assert "learning_rate" in epoch.metrics


@pytest.mark.parametrize("name", of_today("best_only", "all"))
def test_best_only_saves_what_it_said_it_saved(tutorial: Tutorial, name: str) -> None:
    """Each "improved" is a checkpoint of that epoch and value, though all of them went into one file."""
    said = re.findall(r"Epoch (\d+): val_loss improved from \S+ to ([\d.]+), saving model", tutorial.printed[name])
    kept = tutorial.store.checkpoints(tutorial.id(name))
    assert len(said) >= 2
    assert [(f"{one.epoch + 1}", f"{one.metrics['val_loss']:.5f}") for one in kept] == said
    assert all(one.is_best and one.format == ".keras" and one.role == "model" for one in kept)
    assert len({one.sha256 for one in kept}) == len(kept)
    saved = tutorial.events(name, "checkpoint_saved")
    assert [event.epoch for event in saved] == [one.epoch for one in kept]
    on_disk = tutorial.folder / {"best_only": "best_model.keras", "all": "all.keras"}[name]
    best = tracker.load_checkpoint(tutorial.id(name), "best", store=tutorial.store.url)
    assert best.read_bytes() == on_disk.read_bytes()


def test_periodic_saves(tutorial: Tutorial) -> None:
    """A checkpoint for each file that was written, equal to it byte for byte."""
    said = [int(number) for number in re.findall(r"Epoch (\d+): saving model", tutorial.printed["periodic"])]
    kept = tutorial.store.checkpoints(tutorial.id("periodic"))
    assert [one.epoch + 1 for one in kept] == said == [2, 4, 6, 8, 10]
    assert [one.step for one in kept] == [19 * number for number in said]
    for one in kept:
        assert one.format == ".weights.h5"
        file = tutorial.folder / "training_1" / f"cp-{one.epoch + 1:04d}.weights.h5"
        got = tracker.load_checkpoint(tutorial.id("periodic"), one.epoch, store=tutorial.store.url)
        assert got.read_bytes() == file.read_bytes()


@pytest.mark.parametrize("name", of_today("early_stopping", "all"))
def test_the_stop_after_patience_3(tutorial: Tutorial, name: str) -> None:
    """When it stopped, what it restored, and the fit's outcome are what Keras printed."""
    stopped = int(re.findall(r"Epoch (\d+): early stopping", tutorial.printed[name])[0])
    best = int(re.findall(r"Restoring model weights from the end of the best epoch: (\d+)", tutorial.printed[name])[0])
    (early,) = tutorial.events(name, "early_stopped")
    assert early.detail["patience"] == 3
    assert early.detail["stopped_epoch"] + 1 == stopped
    assert early.detail["best_epoch"] + 1 == best == stopped - 3
    (restored,) = tutorial.events(name, "weights_restored")
    assert restored.detail["epoch"] + 1 == best
    (fit,) = tutorial.store.fits(tutorial.id(name))
    assert fit.outcome == "stopped_early"
    run = tutorial.store.get_run(tutorial.id(name))
    assert run.best_epoch is not None
    assert run.best_epoch + 1 == best
    assert restored.detail["metrics"]["val_loss"] == run.best_value


def test_the_restored_model_is_that_of_the_best_epoch(tutorial: Tutorial) -> None:
    """What evaluate() says of the stopped model is what the store says of the run's best epoch."""
    printed = re.findall(r"^evaluate ([\d.]+) ([\d.]+)$", tutorial.printed["all"], re.M)
    ((loss, accuracy),) = printed
    run = tutorial.store.get_run(tutorial.id("all"))
    best = tutorial.store.epochs(run.id)[run.best_epoch or 0].metrics
    assert best["val_loss"] == pytest.approx(float(loss), abs=1e-6)
    assert best["val_accuracy"] == pytest.approx(float(accuracy), abs=1e-6)


@pytest.mark.parametrize("name", of_today("schedule", "all"))
def test_the_rate_before_and_after_the_schedule(tutorial: Tutorial, name: str) -> None:
    """The series has each epoch's rate, and each change says who made it, from what, and to what."""
    said = [float(rate) for rate in re.findall(r"setting learning rate to ([\d.e-]+)\.$", tutorial.printed[name], re.M)]
    rates = tutorial.store.history(tutorial.id(name), "learning_rate")
    assert list(rates.steps) == list(range(len(said)))
    assert list(rates.values) == pytest.approx(said, rel=1e-6)
    changed = tutorial.events(name, "learning_rate_changed")
    after = range(5, len(said))
    assert [event.epoch for event in changed] == list(after)
    assert all(event.detail["by"] == "LearningRateScheduler" for event in changed)
    assert [event.detail["from"] for event in changed] == pytest.approx([said[epoch - 1] for epoch in after])
    assert [event.detail["to"] for event in changed] == pytest.approx([said[epoch] for epoch in after])


@pytest.mark.parametrize("name", of_today("tensorboard", "all"))
def test_the_histograms(tutorial: Tutorial, name: str) -> None:
    """Each weight has a distribution for each epoch, of as many values as it has."""
    epochs = len(epoch_lines(tutorial.printed[name]))
    kept = tutorial.store.histograms(tutorial.id(name))
    keys = sorted({one.key for one in kept})
    assert len(keys) == 6
    for key in keys:
        of_key = [one for one in kept if one.key == key]
        assert [one.step for one in of_key] == list(range(epochs))
        assert all(one.axis == "epoch" for one in of_key)
    assert sorted({sum(one.counts) for one in kept}) == sorted({3 * 3 * 16, 16, 576 * 64, 64, 64 * 10, 10})


@pytest.mark.parametrize("name", of_today("tensorboard", "all"))
def test_the_graph_and_the_images(tutorial: Tutorial, name: str) -> None:
    """What TensorBoard was asked to draw is among the run's files."""
    run = tutorial.store.get_run(tutorial.id(name))
    root = Path(run.artifact_uri.removeprefix("file://"))
    files = [file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file()]
    assert any(name.startswith("images/") and name.endswith(".png") for name in files)
    assert "tensorboard/train/keras.json" in files  # Keras 3 writes the graph of layers; not that of operations


@pytest.mark.parametrize("name", NAMES)
def test_configurations_are_parameters(tutorial: Tutorial, name: str) -> None:
    """With what each callback was made is on record, next to the optimizer's settings."""
    params = tutorial.store.params(tutorial.id(name))
    assert params["optimizer"] == "Adam"
    assert params["optimizer.learning_rate"] == 0.01
    expected = {
        "periodic": {"ModelCheckpoint.save_freq": 38, "ModelCheckpoint.save_weights_only": True},
        "best_only": {"ModelCheckpoint.save_best_only": True, "ModelCheckpoint.monitor": "val_loss"},
        "early_stopping": {"EarlyStopping.patience": 3, "EarlyStopping.restore_best_weights": True},
        "schedule": {"LearningRateScheduler.schedule": "scheduler"},
        "tensorboard": {"TensorBoard.histogram_freq": 1, "TensorBoard.write_images": True},
        "all": {"EarlyStopping.patience": 3, "TensorBoard.histogram_freq": 1},
    }[name]
    assert expected.items() <= {key.removeprefix("callbacks."): value for key, value in params.items()}.items()


def test_the_best_checkpoint_is_the_model_that_fit_left(tutorial: Tutorial) -> None:
    """EarlyStopping put back the weights that ModelCheckpoint saved last: the catalogue's best has the same."""
    left = np.load(tutorial.folder / "all.npz")
    best = tracker.load_checkpoint(tutorial.id("all"), store=tutorial.store.url)
    kept = tutorial.folder / "kept.npz"
    load = "import sys, keras, numpy; numpy.savez(sys.argv[2], *keras.saving.load_model(sys.argv[1]).get_weights())"
    training(["-c", load, best, kept], tutorial.folder, "tensorflow", timeout=100).check_returncode()
    weights = np.load(kept)
    assert weights.files == left.files
    for name in left.files:
        np.testing.assert_array_equal(left[name], weights[name])
