"""Scenarios of checkpoints: what Keras' own callbacks save beside ours, and what our ModelCheckpoint does instead."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from pathlib import Path
from typing import Any

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
    """A stock checkpoint every three batches, in place; ours stands before it, the watcher after."""
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
        "threshold.keras": {"save_best_only": True, "monitor": "score", "mode": "min", "initial_value_threshold": 3.5},
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
