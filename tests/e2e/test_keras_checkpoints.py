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
    """Whether a checkpoint has the moving averages depends on the place of SwapEMAWeights in the list; the row says which."""
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
    """Another callback with the same path goes on with the model that was trained; a fresh training starts from the beginning."""
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


# -- the trainings ------------------------------------------------------------------------------------------------------


def scenarios() -> None:
    """Scenarios of checkpoints: what Keras' own callbacks save in a recorded fit, and what our ModelCheckpoint does instead."""
    import contextlib
    import hashlib
    import io
    import os
    from pathlib import Path

    import keras
    import numpy as np
    from keras import ops
    from keras_bench import STEPS, Facts, X, Y, fit, linear, log_lines, scenario

    import tracker
    import tracker_keras
    from tracker.api import sync_journals
    from tracker_keras import TrackerCallback

    Stock = keras.callbacks.ModelCheckpoint
    Ours = tracker_keras.ModelCheckpoint
    VALIDATED = {"validation_data": (X, Y)}

    class Says(keras.callbacks.Callback):
        """Makes an epoch's `score`, or whatever its name is, what the list says; None leaves it out."""

        def __init__(self, *scores: float | None, name: str = "score") -> None:
            super().__init__()
            self.scores, self.name = scores, name

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if self.scores[epoch] is not None:
                logs[self.name] = self.scores[epoch]

    class Looks(keras.callbacks.Callback):
        """Notes the digest of each file right after somebody may have saved it, if it is another than before."""

        def __init__(self, *patterns: str) -> None:
            super().__init__()
            self.seen: dict[str, list[Any]] = {pattern: [] for pattern in patterns}

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.look(f"batch {batch}")

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.look(f"epoch {epoch}", epoch=epoch + 1)

        def look(self, when: str, **given: int) -> None:
            for pattern, seen in self.seen.items():
                with contextlib.suppress(KeyError, FileNotFoundError):
                    digest = digest_of(pattern.format(**given))
                    if digest not in [one for _, one in seen]:
                        seen.append([when, digest])

    def digest_of(path: str | os.PathLike[str]) -> str:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()

    def files_in(folder: Path) -> dict[str, str]:
        return {str(file.relative_to(folder)): digest_of(file) for file in folder.rglob("*") if file.is_file()}

    def place(name: str) -> Path:
        folder = Path("checkpoints", name)
        folder.mkdir(parents=True)
        return folder

    def predicted(model: Any) -> list[float]:
        return [float(one) for one in ops.convert_to_numpy(model(X)).ravel()]

    def loaded(path: Path) -> list[float]:
        """What the model of a checkpoint predicts; its weights are loaded into a fresh one where it is no whole model."""
        if path.name.endswith(".weights.h5"):
            model = linear()
            model.load_weights(path)
        else:
            model = keras.models.load_model(path, compile=path.suffix == ".keras")
        return predicted(model)

    def kept(run: Any) -> list[Facts]:
        """The run's checkpoints, and what their files predict."""
        with tracker.open_store() as store:
            return [{"epoch": one.epoch, "sha256": one.sha256, "format": one.format,
                     "predicts": loaded(Path(one.uri.removeprefix("file://")))}
                    for one in store.checkpoints(run.id) if one.status == "published"]  # fmt: skip

    @scenario
    def picked_up() -> Facts:
        """Stock checkpoints of every kind, overwritten in place or not."""
        folder = place("picked_up")
        best, each, old = str(folder / "best.keras"), str(folder / "m-{epoch}.weights.h5"), str(folder / "old.h5")
        model, looks = linear(), Looks(best, each, old)
        with tracker.start_run(name="picked_up") as run, log_lines() as said:
            fit(
                model,
                Says(3, 4, 2),
                Stock(best, monitor="score", mode="min", save_best_only=True),
                Stock(each, save_weights_only=True),
                TrackerCallback(run),
                Stock(old),
                looks,
                epochs=3,
                **VALIDATED,
            )
        return {"looks": looks.seen, "kept": kept(run), "predicts": predicted(model), "said": said}

    @scenario
    def picked_up_batches() -> Facts:
        """A stock checkpoint every three batches, in place; our callback is before it in the list, the watcher after."""
        path = str(place("picked_up_batches") / "m.weights.h5")
        looks = Looks(path)
        with tracker.start_run(name="picked_up_batches") as run, log_lines() as said:
            saver = Stock(path, save_weights_only=True, save_freq=3)
            fit(linear(), TrackerCallback(run), saver, looks, epochs=3)
            hooks = sorted(name for name in vars(saver) if name.startswith("on_"))
        return {"looks": looks.seen[path], "said": said, "hooks": hooks}

    @scenario
    def picked_up_orders() -> Facts:
        """Ours first, and last, as the name of the run says; and a subclass that asks nobody whether to save."""

        class Own(Stock):  # type: ignore[misc]
            def _save_model(self, epoch: int, batch: Any, logs: Any) -> None:
                if epoch != 1:
                    self.model.save(self._get_file_path(epoch, batch, logs))

        facts: Facts = {}
        model = linear()
        for name, kind in (("first", Stock), ("last", Stock), ("own", Own), ("ours", Ours)):
            path = place(f"picked_up_orders.{name}") / "m.keras"
            looks = Looks(str(path))
            with tracker.start_run(name=f"picked_up_orders.{name}") as run, log_lines() as said:
                ours, saver = TrackerCallback(run), kind(str(path), monitor="loss", save_best_only=True)
                callbacks = (ours, saver) if name == "first" else (saver, ours)
                fit(model, *callbacks, looks, epochs=4, ordered=True)
            facts[name] = {"looks": looks.seen[str(path)], "said": said}
        return facts

    @scenario
    def over_budget() -> Facts:
        """One path that is written over, one that is not, and the run has room for three files of all."""
        facts: Facts = {}
        model = linear()
        weights = place("over_budget") / "size.weights.h5"
        model.save_weights(weights)
        for name, room, mode in (
            ("small", 3, "online"),
            ("none", 0, "online"),
            ("usual", None, "online"),
            ("offline", 3, "offline"),  # the last: no later run may ship its journal, and say so, in the background
        ):
            folder = place(f"over_budget.{name}")
            os.environ["TRACKER_MODE"] = mode
            if room is not None:
                os.environ["TRACKER_CHECKPOINT_BUDGET"] = str(int(room * weights.stat().st_size * 1.2))
            try:
                with log_lines() as said, tracker.start_run(name=f"over_budget.{name}") as run:
                    best = Stock(
                        str(folder / "best.weights.h5"),
                        monitor="score",
                        mode="min",
                        save_weights_only=True,
                        save_best_only=True,
                    )
                    each = Stock(str(folder / "m-{epoch}.weights.h5"), save_weights_only=True, save_freq=3 * STEPS)
                    fit(model, Says(9, 8, 3, 6, 5, 4), best, TrackerCallback(run), each, epochs=6)
                    second = Stock(str(folder / "best.weights.h5"), monitor="score", mode="min", save_weights_only=True)
                    fit(model, Says(9, 8, 7, 6), TrackerCallback(run), second, epochs=4)
            finally:
                os.environ.pop("TRACKER_CHECKPOINT_BUDGET", None)
                os.environ.pop("TRACKER_MODE")
            facts[name] = {"id": run.id, "said": said}
        list(sync_journals())
        return facts

    @scenario
    def backed_up() -> Facts:
        """BackupAndRestore deletes its folder as the fit returns; the last thing that it saved is kept."""
        folder = place("backed_up") / "backup"
        looks = Looks(str(folder / "latest.weights.h5"))
        model = linear()
        with tracker.start_run(name="backed_up") as run, log_lines() as said:
            fit(model, TrackerCallback(run), keras.callbacks.BackupAndRestore(str(folder)), looks, epochs=3)
        facts = {"looks": next(iter(looks.seen.values())), "said": said, "is_there": folder.exists()}
        return facts | {"kept": kept(run), "predicts": predicted(model)}

    @scenario
    def orbax() -> Facts:
        """Orbax saves folders in the background and deletes all but the newest."""
        folder = place("orbax").resolve()
        with tracker.start_run(name="orbax") as run, log_lines() as said:
            fit(linear(), TrackerCallback(run), keras.callbacks.OrbaxCheckpoint(str(folder)), epochs=3)
        again = tracker.load_checkpoint(run.id, "latest")
        keras.models.load_model(again)
        left = sorted(path.name for path in folder.parent.iterdir() if path.name.startswith((".orbax", "orbax")))
        return {"said": said, "files": files_in(folder), "again": files_in(again), "left": left}

    @scenario
    def averaged() -> Facts:
        """SwapEMAWeights before and after the checkpoint, and not there at all."""
        facts: Facts = {}
        for name in ("before", "after", "without"):
            folder = place(f"averaged.{name}")
            swap = [] if name == "without" else [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)]
            saver = Stock(str(folder / "m-{epoch}.weights.h5"), save_weights_only=True)
            with tracker.start_run(name=f"averaged.{name}") as run, log_lines() as said:
                model = linear(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9))
                fit(model, *([*swap, saver] if name == "before" else [saver, *swap]), TrackerCallback(run), epochs=2)
            facts[name] = {"said": said, "predicts": [one["predicts"] for one in kept(run)]}
        return facts

    @scenario
    def died_saving() -> Facts:
        """A fit dies right after a save, and files are deleted under our hands.

        Ours stands last where the fit dies: it does not hear of the end of the epoch.
        """
        folder = place("died_saving")

        class Dies(keras.callbacks.Callback):
            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                raise RuntimeError("died")

        path = str(folder / "m.keras")
        with tracker.start_run(name="died_saving") as run, log_lines() as said:
            with contextlib.suppress(RuntimeError):
                fit(linear(), Stock(path), Dies(), TrackerCallback(run), ordered=True)
        facts: Facts = {"digest": digest_of(path), "said": said}
        os.remove(path)

        class Deletes(Stock):  # type: ignore[misc]
            def _save_model(self, epoch: int, batch: Any, logs: Any) -> None:
                super()._save_model(epoch, batch, logs)
                if epoch < 2:
                    os.remove(self._get_file_path(epoch, batch, logs))

        with tracker.start_run(name="died_saving.deleted") as run, log_lines() as said:
            fit(linear(), TrackerCallback(run), Deletes(str(folder / "d-{epoch}.keras")), epochs=3)
        return facts | {"said_deleted": said}

    # -- ours ------------------------------------------------------------------------------------------------------------

    @scenario
    def ours_as_stock() -> Facts:
        """The same settings for Keras' own and for ours: the same files, attributes and messages.

        `verbose` is 0, since what they print is compared.
        """
        facts: Facts = {}
        settings: dict[str, dict[str, Any]] = {
            "{epoch:02d}-{val_loss:.2f}.keras": {},
            "best.keras": {"save_best_only": True, "monitor": "score", "mode": "min"},
            "most.weights.h5": {"save_best_only": True, "save_weights_only": True, "monitor": "score", "mode": "max"},
            "old.h5": {"save_freq": 3},
            "batch-{epoch}-{batch}.keras": {"save_freq": 5},
            "threshold.keras": {
                "save_best_only": True,
                "monitor": "score",
                "mode": "min",
                "initial_value_threshold": 3.5,
            },
        }
        model = linear()
        weights = model.get_weights()
        for number, (name, given) in enumerate(settings.items()):
            for kind in (Stock, Ours):
                folder = place(f"ours_as_stock.{number}.{kind.__module__.split('.')[0]}")
                keras.utils.set_random_seed(5)
                model.set_weights(weights)
                saver = kind(folder / name, verbose=1, **given)
                with contextlib.redirect_stdout(io.StringIO()) as printed:
                    validated = VALIDATED if number == 0 else {}
                    # Not drawn: what the callbacks print is compared, so Keras' own bar must not print among it.
                    fit(model, Says(5, 3, 4), saver, epochs=3, shuffle=False, verbose=0, **validated)
                files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
                printed_lines = [line.replace(str(folder), "") for line in printed.getvalue().splitlines() if line]
                predictions = [[round(one, 5) for one in loaded(path)] for path in files]
                names = [path.name for path in files]
                facts.setdefault(name, []).append([names, saver.best, printed_lines, predictions])
        for kind in (Stock, Ours):
            (folder := place(f"ours_as_stock.folder.{kind.__module__}") / "m.keras").mkdir()
            facts.setdefault("folder", []).append(outcome(model, kind(folder)))
        return facts

    def outcome(model: Any, *callbacks: Any, **given: Any) -> str:
        """How a fit ends."""
        try:
            fit(model, *callbacks, **given)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "returned"

    @scenario
    def best_by_batches() -> Facts:
        """`save_freq=1` with `save_best_only`, which kills a fit with Keras' own; and where batches lack the monitor."""
        facts: Facts = {}
        model = linear()
        for kind in (Stock, Ours):
            path = str(place(f"best_by_batches.{kind.__module__}") / "m.keras")
            saver = kind(path, monitor="loss", save_best_only=True, save_freq=1)
            facts[kind.__module__.split(".")[0]] = [outcome(model, saver), saver.best]
        folder = place("best_by_batches.val")
        looks = Looks(str(folder / "m.keras"))
        with log_lines() as said, tracker.start_run(name="best_by_batches") as run:
            saver = Ours(folder / "m.keras", save_best_only=True, save_freq=3)
            ended = outcome(model, TrackerCallback(run), saver, looks, epochs=3, **VALIDATED)
        return facts | {"val": [ended, saver.best], "looks": looks.seen[str(folder / "m.keras")], "said": said}

    @scenario
    def missing_monitor() -> Facts:
        """What is not in the logs, or not in those of every epoch."""
        facts: Facts = {}
        cases: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
            "typo": ({"monitor": "val_lose", "save_best_only": True}, VALIDATED),
            "unvalidated": ({"save_best_only": True}, {}),
            "keep_best": ({"keep_best": 1}, {}),
            "never": ({"save_best_only": True}, {**VALIDATED, "validation_freq": 7}),
            "path": ({}, {}),
            "path_typo": ({}, {}),
            "plain": ({}, {}),
            "every_second": ({"save_best_only": True}, {**VALIDATED, "validation_freq": 2}),
            "listed": ({"save_best_only": True}, {**VALIDATED, "validation_freq": [2, 4]}),
            "path_every_second": ({}, {**VALIDATED, "validation_freq": 2}),
            "sometimes": ({"monitor": "score", "save_best_only": True, "mode": "min"}, {}),
        }
        names = {
            "path": "{val_loss}.keras",
            "path_typo": "{los}.keras",
            "path_every_second": "{epoch}-{val_loss:.3f}.keras",
        }
        model = linear()
        for name, (given, fit_with) in cases.items():
            folder = place(f"missing_monitor.{name}")
            saver = Ours(folder / names.get(name, "m-{epoch}.keras"), **given)
            with log_lines() as said:
                ended = outcome(model, Says(3, None, 2, None), saver, epochs=4, **fit_with)
            files = sorted(path.name for path in folder.glob("*"))
            facts[name] = [ended, files, said]
        stock = place("missing_monitor.stock")
        savers = Stock(stock / "{val_loss}.keras"), Stock(stock / "m.keras", save_best_only=True)
        facts["stock"] = [outcome(model, saver) for saver in savers]
        facts["stock_saved"] = (stock / "m.keras").exists()
        return facts

    @scenario
    def not_a_number() -> Facts:
        """A first NaN is no best."""
        facts: Facts = {}
        model = linear()
        for kind in (Stock, Ours):
            folder = place(f"not_a_number.{kind.__module__}")
            saver = kind(folder / "m-{epoch}.keras", monitor="score", mode="min", save_best_only=True)
            fit(model, Says(np.nan, 4, np.nan, 3), saver, epochs=4)
            facts[kind.__module__.split(".")[0]] = sorted(path.name for path in folder.glob("*"))
        return facts

    @scenario
    def local_files() -> Facts:
        """What `keep_last` and `keep_best` leave on disk and in the catalogue; files of others stay."""
        scores = (5, 1, 4, 3, 6, 7)
        facts: Facts = {}
        model = linear()
        for name, given in {
            "last": {"keep_last": 2},
            "best": {"keep_best": 2},
            "both": {"keep_last": 1, "keep_best": 2},
            "all": {},
        }.items():
            folder = place(f"local_files.{name}")
            (folder / "m-9.keras").write_text("somebody else's")
            saver = Ours(folder / "m-{epoch}.keras", monitor="score", mode="min", **given)
            with tracker.start_run(name=f"local_files.{name}") as run, log_lines() as said:
                fit(model, Says(*scores), TrackerCallback(run), saver, epochs=6)
            with tracker.open_store() as store:
                there = [one.epoch for one in store.checkpoints(run.id) if one.status == "published"]
            facts[name] = [sorted(path.name for path in folder.glob("*")), there, said]
        folder = place("local_files.mixed")
        savers = Ours(folder / "a-{epoch}.keras", keep_last=1), Stock(folder / "b-{epoch}.keras")
        with tracker.start_run(name="local_files.mixed") as run:
            fit(model, TrackerCallback(run), *savers, epochs=3)
        with tracker.open_store() as store:
            facts["mixed"] = len([one for one in store.checkpoints(run.id) if one.status == "published"])
        return facts

    @scenario
    def best_again() -> Facts:
        """Another callback with the same path in this process: of a model trained before, of a fresh one, of another shape."""
        path = place("best_again") / "m.keras"
        facts: Facts = {}

        def best(model: Any, score: float, **given: Any) -> list[Any]:
            before = digest_of(path) if path.exists() else ""
            saver = Ours(path, monitor="score", mode="min", save_best_only=True)
            with log_lines() as said:
                fit(model, Says(score, score), saver, **given)
            return [saver.best, digest_of(path) != before, said]

        model = linear()
        facts["first"] = best(model, 2, epochs=1)
        facts["same"] = best(model, 3, epochs=1)
        facts["later"] = best(linear(), 3, epochs=2, initial_epoch=1)
        facts["fresh"] = best(linear(), 3, epochs=1)
        return facts
