"""Checkpoints of Keras' own callbacks come into the catalogue as they were saved; ours has not Keras' traps."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from e2e.children import eventually
from e2e.keras_lab import Lab, environment
from preloaded import Preloaded

from tracker.domain.records import Checkpoint

SCENARIOS = ("checkpoints",)


def kept(keras: Lab, name: str) -> list[Checkpoint]:
    """The checkpoints of the run of that name, oldest first."""
    return list(keras.store.checkpoints(keras.run(name).id))


def test_every_format_is_kept_as_it_was_saved(keras: Lab) -> None:
    """Each save of three stock callbacks is there byte for byte, though two overwrite their files, and loads again."""
    facts = keras.said("picked_up")
    assert facts["said"] == []
    formats = {"best.keras": ".keras", "m-{epoch}.weights.h5": ".weights.h5", "old.h5": ".h5"}
    seen = {
        (formats[Path(pattern).name], digest): int(when.removeprefix("epoch "))
        for pattern, digests in facts["looks"].items()
        for when, digest in digests
    }
    assert len(seen) == 2 + 3 + 3
    rows = kept(keras, "picked_up")
    assert {(row.format, row.sha256): row.epoch for row in rows} == seen
    assert [one["predicts"] for one in facts["kept"] if one["epoch"] == 2] == [pytest.approx(facts["predicts"])] * 3


def test_a_row_says_when_and_how_good(keras: Lab) -> None:
    """Epoch, step, the epoch's metrics, whether it was the best so far, whose file it is, and the event with it."""
    rows = kept(keras, "picked_up")
    epochs = keras.store.epochs(keras.run("picked_up").id)
    for row in rows:
        assert row.step == 4 * (row.epoch + 1)
        assert row.metrics["val_loss"] == epochs[row.epoch].metrics["val_loss"]
        assert row.state["by"] == "ModelCheckpoint"
        assert (row.role, row.size > 1000) == ("model", True)
    best = [(row.epoch, row.is_best) for row in rows if row.format == ".keras"]
    assert best == [(0, True), (2, True)], "what save_best_only saved was the best"
    assert [row.is_best for row in rows if row.format == ".weights.h5"] == [True, False, True], (
        "as the run's metric says"
    )
    events = [one for one in keras.store.events(keras.run("picked_up").id) if one.kind == "checkpoint_saved"]
    assert [(one.epoch, one.step, one.detail["sha256"]) for one in events] == [
        (r.epoch, r.step, r.sha256) for r in rows
    ]


def test_saves_at_batches(keras: Lab) -> None:
    """`save_freq=3`: each is kept with its step, in the middle of an epoch; no hook that runs for each batch is touched."""
    facts, rows = keras.said("picked_up_batches"), kept(keras, "picked_up_batches")
    assert facts["said"] == []
    assert [row.sha256 for row in rows] == [digest for _, digest in facts["looks"]]
    assert [(row.epoch, row.step) for row in rows] == [(0, 3), (1, 6), (2, 9), (2, 12)]
    assert [row.state["batch"] for row in rows] == [2, 1, 0, 3]
    assert all(set(row.metrics) == {"loss", "mae"} for row in rows)
    assert facts["hooks"] == []


@pytest.mark.parametrize("name", ["first", "last", "own", "ours"])
def test_any_order_and_any_subclass(keras: Lab, name: str) -> None:
    """Before ours and after it; a subclass that saves by itself, where it does; our own ModelCheckpoint."""
    facts, rows = keras.said("picked_up_orders")[name], kept(keras, f"picked_up_orders.{name}")
    assert facts["said"] == []
    assert [row.sha256 for row in rows] == [digest for _, digest in facts["looks"]]
    assert [row.epoch for row in rows] == ([0, 2, 3] if name == "own" else [0, 1, 2, 3])
    assert all(row.is_best for row in rows), "the loss of each epoch is the best so far"


@pytest.mark.parametrize(("name", "epochs"), [
    ("small", [2, 9]), ("none", [2, 9]), ("offline", [2, 9]), ("usual", [0, 1, 2, 6, 7, 8, 9]),
])  # fmt: skip
def test_versions_of_a_file_stay_within_the_budget(keras: Lab, name: str, epochs: list[int]) -> None:
    """Of a file that is written over the newest and the best stay; what has paths of its own all stays; it is said once."""
    facts, rows = keras.said("over_budget")[name], kept(keras, f"over_budget.{name}")
    versions = [row for row in rows if row.state["file"].endswith("best.weights.h5")]
    assert [row.epoch for row in versions] == [0, 1, 2, 6, 7, 8, 9], "each save has its row"
    assert [row.epoch for row in versions if row.status == "published"] == epochs
    assert [row.epoch for row in rows if row not in versions and row.status == "published"] == [2, 5]
    there = Path(keras.run(f"over_budget.{name}").artifact_uri.removeprefix("file://"), "checkpoints")
    assert {file.name for file in there.iterdir()} == {
        row.uri.rpartition("/")[2] for row in rows if row.status == "published"
    }
    said = [line for line in facts["said"] if "TRACKER_CHECKPOINT_BUDGET" in line and facts["id"] in line]
    assert len(said) == (name in ("small", "none"))


def test_a_backup_is_kept_before_it_is_deleted(keras: Lab) -> None:
    """BackupAndRestore deletes its folder as the fit returns; its last file is the run's state to go on from."""
    facts, rows = keras.said("backed_up"), kept(keras, "backed_up")
    assert facts["said"] == []
    assert not facts["is_there"]
    last = rows[-1]
    assert {row.role for row in rows} == {"state"}
    assert (last.sha256, last.epoch, last.step, last.status) == (facts["looks"][-1][1], 2, 12, "published")
    assert dict(last.state) | {"file": ""} == {"by": "BackupAndRestore", "file": "", "epoch": 3, "batch": 0}
    assert facts["kept"][-1]["predicts"] == pytest.approx(facts["predicts"])


def test_orbax_folders(keras: Lab) -> None:
    """Each step is kept though Orbax deletes all but the newest, and comes back as the folder that Keras loads."""
    facts, rows = keras.said("orbax"), kept(keras, "orbax")
    assert facts["said"] == []
    assert [(row.epoch, row.step, row.format) for row in rows] == [(e, 4 * e + 4, ".orbax.zip") for e in range(3)]
    assert facts["again"] == facts["files"] != {}
    assert facts["left"] == ["orbax"]


def test_averaged_weights_are_told_from_others(keras: Lab) -> None:
    """Whether a checkpoint has the moving averages depends on where SwapEMAWeights stands; the row says which."""
    facts = keras.said("averaged")
    for name, averaged in (("before", True), ("after", False), ("without", False)):
        assert facts[name]["said"] == []
        assert [row.state["ema"] for row in kept(keras, f"averaged.{name}")] == [averaged] * 2


def test_what_was_saved_before_a_fit_died_is_kept(keras: Lab) -> None:
    """The fit dies between the save and our own hook: the file is in the catalogue all the same."""
    facts, rows = keras.said("died_saving"), kept(keras, "died_saving")
    assert [(row.epoch, row.sha256) for row in rows] == [(0, facts["digest"])]
    assert [one.outcome for one in keras.store.fits(keras.run("died_saving").id)] == ["failed"]


def test_a_file_that_somebody_deletes_costs_only_itself(keras: Lab) -> None:
    """It is said once; the next one is kept."""
    (said,) = keras.said("died_saving")["said_deleted"]
    assert "d-1.keras" in said
    assert "not in the run's catalogue" in said
    assert [row.epoch for row in kept(keras, "died_saving.deleted")] == [2]


# -- ours ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [
    "{epoch:02d}-{val_loss:.2f}.keras", "best.keras", "most.weights.h5", "old.h5", "batch-{epoch}-{batch}.keras", "threshold.keras",
])  # fmt: skip
def test_ours_is_keras_own(keras: Lab, name: str) -> None:
    """The same settings make the same files, the same best and the same messages."""
    stock, ours = keras.said("ours_as_stock")[name]
    assert ours[:3] == stock[:3]
    assert ours[0]
    assert len(ours[2]) > 2
    for own, others in zip(ours[3], stock[3], strict=True):
        assert own == pytest.approx(others, abs=1e-5)


def test_a_folder_in_the_way(keras: Lab) -> None:
    """It is an OSError that names it, as with Keras' own."""
    for said in keras.said("ours_as_stock")["folder"]:
        assert said.startswith("OSError: ")
        assert "m.keras" in said


def test_best_only_at_batches(keras: Lab) -> None:
    """Keras' own dies at its second batch; ours keeps the best of all."""
    facts = keras.said("best_by_batches")
    assert facts["keras"][0] == "TypeError: 'NoneType' object is not callable"
    ended, best = facts["tracker_keras"]
    assert ended == "returned"
    assert best is not None


def test_best_only_at_batches_by_what_only_epochs_know(keras: Lab) -> None:
    """Batches have no `val_loss`: that is said once, and it is judged and saved as epochs end."""
    facts, rows = keras.said("best_by_batches"), kept(keras, "best_by_batches")
    values = keras.values(keras.run("best_by_batches").id, "val_loss")
    assert facts["val"] == ["returned", pytest.approx(min(values))]
    (said,) = facts["said"]
    assert "lack val_loss (there is: loss, mae)" in said
    assert [row.epoch for row in rows] == [0, 1, 2]
    assert [row.metrics["val_loss"] for row in rows] == pytest.approx(values)


@pytest.mark.parametrize(("name", "words"), [
    ("typo", ["monitor: val_lose is not among", "loss, mae, score, val_loss, val_mae"]),
    ("unvalidated", ["monitor: val_loss will never be there", "no validation", "validation_data"]),
    ("keep_best", ["monitor: val_loss will never be there"]),
    ("never", ["monitor: val_loss will never be there"]),
    ("path", ["filepath: val_loss will never be there"]),
    ("path_typo", ["filepath: los is not among", "loss, mae, score"]),
])  # fmt: skip
def test_what_is_never_there_is_an_error(keras: Lab, name: str, words: list[str]) -> None:
    """It comes with the first epoch, says what is there, and nothing is saved; Keras' own saves, or has a KeyError."""
    ended, files, _ = keras.said("missing_monitor")[name]
    assert ended.startswith("InvalidValue: ")
    assert [word for word in words if word not in ended] == []
    assert files == []
    stock = keras.said("missing_monitor")
    assert stock["stock"][0].startswith("KeyError")
    assert stock["stock"][1] == "returned"
    assert stock["stock_saved"]


@pytest.mark.parametrize(("name", "expected", "times"), [
    ("plain", ["m-1.keras", "m-2.keras", "m-3.keras", "m-4.keras"], 0),
    ("every_second", ["m-2.keras", "m-4.keras"], 1),
    ("listed", ["m-2.keras", "m-4.keras"], 1),
    ("path_every_second", 2, 1),
    ("sometimes", ["m-1.keras", "m-3.keras"], 1),
])  # fmt: skip
def test_epochs_without_the_monitor_are_passed_over(keras: Lab, name: str, expected: Any, times: int) -> None:
    """`validation_freq=2`, a list of epochs, a metric that somebody adds now and then: no crash, and said once."""
    ended, files, said = keras.said("missing_monitor")[name]
    shown = [file for file in files if not file.startswith(".")]
    assert ended == "returned"
    assert len(said) == times
    assert (len(shown) if isinstance(expected, int) else shown) == expected


def test_nan_is_no_best(keras: Lab) -> None:
    """After a first NaN Keras' own takes nothing for better; ours saves the first number, and what is better."""
    facts = keras.said("not_a_number")
    assert facts["keras"] == ["m-1.keras"]
    assert facts["tracker_keras"][1:] == ["m-2.keras", "m-4.keras"]


@pytest.mark.parametrize(("name", "files", "epochs"), [
    ("last", [2, 5, 6], None),
    ("best", [2, 4, 6], [1, 3, 5]),
    ("both", [2, 4, 6], [1, 3, 5]),
    ("all", [1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5]),
])  # fmt: skip
def test_files_are_pruned(keras: Lab, name: str, files: list[int], epochs: list[int] | None) -> None:
    """The last, the best, and always the newest and the best stay, on disk and in the catalogue; others' files too."""
    left, published, said = keras.said("local_files")[name]
    assert said == []
    assert [file for file in left if not file.startswith(".")] == [f"m-{number}.keras" for number in [*files, 9]]
    assert epochs is None or published == epochs
    assert len(published) >= len(files) - 1


def test_the_catalogue_is_not_pruned_for_others(keras: Lab) -> None:
    """Where one of two callbacks says nothing of how many it keeps, the run keeps all of both."""
    assert keras.said("local_files")["mixed"] == 6


def test_the_best_in_one_process(keras: Lab) -> None:
    """Another callback with the same path goes on with the model that was trained; a fresh training begins anew."""
    facts = keras.said("best_again")
    assert facts["first"] == [2, True, []]
    for name in ("same", "later"):
        best, is_saved, (said,) = facts[name]
        assert (best, is_saved) == (2, False)
        assert "goes on from the best score so far, 2" in said
    assert facts["fresh"] == [3, True, []]


TRAINING = """
import json, os, sys, threading
import keras
import numpy as np
from keras import ops
from tracker_keras import ModelCheckpoint

class Waits(keras.layers.Layer):
    stops = False
    def call(self, x):
        return x
    def save_own_variables(self, store):
        if Waits.stops:
            print("saving", flush=True)
            sys.stdin.readline()

class Says(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        logs["score"] = scores[epoch]
        Waits.stops = epoch == stop

scores, stop, name = json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1), Waits()])
model.compile("sgd", "mse")
saver = ModelCheckpoint(name, monitor="score", mode="min", save_best_only=True, save_weights_only=True)
x = np.ones((4, 3), "float32")
model.fit(x, x[:, :1], epochs=len(scores), verbose=0, callbacks=[Says(), saver])  # what it prints is read
print(json.dumps(float(saver.best)), flush=True)
"""


def train(folder: Path, scores: list[float], *, stop: int = -1) -> subprocess.Popen[str]:
    """A process that trains with these scores, and waits in the middle of the save of the epoch `stop`."""
    command = [sys.executable, "-c", TRAINING, json.dumps(scores), str(stop), str(folder / "m.weights.h5")]
    given = environment(folder, "tensorflow")
    return Preloaded(command, backend="tensorflow", env=given, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_kill_and_restart(tmp_path: Path) -> None:
    """Killed with -9 in the middle of a save, the old file is whole; what comes next knows the best, and sweeps."""
    path = tmp_path / "m.weights.h5"
    with train(tmp_path, [5, 2, 1], stop=2) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline().strip() == "saving"
        before = path.read_bytes()
        (beside,) = tmp_path.glob(".m.saving-*")
        os.kill(killed.pid, signal.SIGKILL)
    assert path.read_bytes() == before
    assert beside.exists()
    with train(tmp_path, [3, 4]) as worse:
        assert json.loads(worse.communicate(timeout=100)[0]) == 2
    assert path.read_bytes() == before, "worse than what the killed process saved"
    with train(tmp_path, [3, 1]) as better:
        assert json.loads(better.communicate(timeout=100)[0]) == 1
    assert path.read_bytes() != before
    eventually(lambda: list(itertools.chain(tmp_path.glob(".m.saving-*"))) == [])
