"""The same script, killed and started again, goes on as if it had never died."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from e2e.keras_lab import Lab, training
from e2e.proxy_lab import proxied
from e2e.server_lab import Server, away

import tracker
from tracker.api import sync_journals
from tracker.domain.records import Checkpoint, Event

pytestmark = pytest.mark.timeout(280)
SCRIPT = Path(__file__).with_name("keras_resume.py")


def start(folder: Path, backend: str, how: str, epoch: int = 0, batch: int = 0, **more: str) -> int:
    """Start the script in `folder`, and return how its process ended."""
    given = [str(SCRIPT), how, str(epoch), str(batch), "facts.json"]
    done = training(given, folder, backend, timeout=120, **more)
    assert done.returncode != 1, done.stderr[-4000:]
    return done.returncode


def same(folder: Path, store: str) -> tuple[str, list[Event], list[Checkpoint]]:
    """The resumed training is the one that never died, on record too; its run, what happened, and its states."""
    facts = json.loads((folder / "facts.json").read_text())
    assert facts["apart"] < 1e-6
    assert facts["states"][0] == facts["states"][1]
    assert facts["iterations"][0] == facts["iterations"][1]
    with closing(tracker.open_store(store)) as opened:
        (run,) = opened.find_runs("script")
        assert run.status == "finished"
        for key, values in facts["history"].items():
            found = opened.history(run.id, key)
            assert found.steps.tolist() == list(range(len(values)))
            if key != "learning_rate":  # Keras notes the rate after the cut
                assert found.values == pytest.approx(values, abs=1e-6)
        states = [one for one in opened.checkpoints(run.id) if one.role == "state"]
        return run.id, [*opened.events(run.id)], states


def test_killed_again_and_again(tmp_path: Path) -> None:
    """SIGKILL in the middle of an epoch, in the middle of a save, and SIGTERM: every time it goes on from its state."""
    assert start(tmp_path, "tensorflow", "kill", 1, 2) == -9
    assert start(tmp_path, "tensorflow", "save", 2) == -9
    left = list((tmp_path / "home" / "states").rglob("*.weights.h5"))
    assert left, "the save was not interrupted"
    left[0].parents[1].rename(tmp_path / "home" / "states" / "another-run-that-nobody-goes-on-with")
    assert start(tmp_path, "tensorflow", "term", 3, 1) in (-15, 143)
    assert start(tmp_path, "tensorflow", "end") == 0
    store = f"sqlite:///{tmp_path / 'tracker.db'}"
    run_id, events, states = same(tmp_path, store)
    assert [one.epoch for one in events if one.kind == "resumed"] == [1, 2, 3]
    with closing(tracker.open_store(store)) as opened:
        fits = [(one.phase, one.first_epoch, one.resumed_from) for one in opened.fits(run_id)]
        assert fits == [(1, 0, None), (1, 1, 0), (1, 2, 1), (1, 3, 2)]
    assert [one.status for one in states].count("published") == 1
    assert not list((tmp_path / "home" / "states").iterdir())


def test_offline_it_goes_on_from_its_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed and started again without a store, the training is after one sync what it would have been with one."""
    offline = {"TRACKER_MODE": "offline", "STEPS": "3"}
    assert start(tmp_path, "tensorflow", "kill", 1, 2, **offline) == -9
    assert start(tmp_path, "tensorflow", "kill", 3, 1, **offline) == -9
    assert start(tmp_path, "tensorflow", "end", **offline) == 0
    assert not (tmp_path / "tracker.db").exists()
    monkeypatch.setenv("TRACKER_HOME", str(tmp_path / "home"))
    store = f"sqlite:///{tmp_path / 'tracker.db'}"
    monkeypatch.setenv("TRACKER_STORE", store)
    assert [one.error for one in sync_journals()] == [None] * 3
    run_id, _, states = same(tmp_path, store)
    with closing(tracker.open_store(store)) as opened:
        assert [(one.number, one.phase, one.outcome) for one in opened.fits(run_id)] == [
            (1, 1, "lost"), (2, 1, "lost"), (3, 1, "completed")]  # fmt: skip
        assert [one.number for one in opened.epochs(run_id)] == list(range(7))
    assert [one.status for one in states].count("published") == 1


def test_it_goes_on_while_its_server_is_away(tmp_path: Path, store_url: str) -> None:
    """The state is next to the journal of the killed process; when the server is back, everything is stored once."""
    with Server(store_url) as server, proxied(server) as proxy:
        there = {"TRACKER_STORE": proxy.url}
        proxy.passes = lambda path: "/artifacts/" not in path  # so that states wait next to the journal
        assert start(tmp_path, "tensorflow", "kill", 2, 1, **there) == -9
        proxy.away = True
        assert start(tmp_path, "tensorflow", "kill", 4, 1, **there) == -9
        proxy.away, proxy.passes = False, lambda path: True
        assert start(tmp_path, "tensorflow", "end", **there) == 0
    run_id, _, _ = same(tmp_path, store_url)
    with closing(tracker.open_store(store_url)) as opened:
        assert [one.number for one in opened.epochs(run_id)] == list(range(7))
        assert [one.number for one in opened.fits(run_id)] == [1, 2, 3]


def test_over_a_server_in_the_middle_of_an_epoch(tmp_path: Path, store_url: str) -> None:
    """The state comes from the server's artifacts, on a machine that has nothing of the first."""
    with Server(store_url) as server:
        there = {"TRACKER_STORE": server.url, "STEPS": "3"}
        assert start(tmp_path, "jax", "kill", 2, 2, **there) == -9
        assert start(tmp_path, "jax", "end", **there) == 0
        _, events, _ = same(tmp_path, server.url)
    (resumed,) = [one for one in events if one.kind == "resumed"]
    assert (resumed.epoch, resumed.detail["step"]) == (2, 9)


def test_a_server_that_is_away_as_the_script_starts(tmp_path: Path, store_url: str) -> None:
    """Without a journal of the run the script ends before it trains from the beginning; once the server answers, it resumes."""
    with away(store_url) as server:
        server.start()
        there = {"TRACKER_STORE": server.url}
        assert start(tmp_path, "jax", "kill", 2, 2, **there) == -9
        server.end()
        with pytest.raises(AssertionError, match="the store did not answer as the run was opened"):
            start(tmp_path, "jax", "end", **there, TRACKER_HOME=str(tmp_path / "elsewhere"))
        server.start()
        assert start(tmp_path, "jax", "end", **there) == 0
        with closing(tracker.open_store(server.url)) as opened:
            assert [one.status for one in opened.find_runs("script")] == ["finished"]
            (run,) = [one for one in opened.find_runs("script") if one.status == "finished"]
            assert [one.first_epoch for one in opened.fits(run.id)] == [0, 2]


@pytest.mark.parametrize("name", ["epochs", "ours", "steps", "dataset", "hostile"])
def test_a_resumed_training_is_the_same(keras: Lab, name: str) -> None:
    """Weights, optimizer, callbacks and each epoch's metrics are those of a training that never died."""
    facts = keras.said(f"resume_{name}")
    resumed, whole = facts[f"resume_{name}"], facts[f"resume_{name}.whole"]
    for one, other in zip(resumed.pop("weights"), whole.pop("weights"), strict=True):
        assert one == pytest.approx(other, abs=1e-6)
    assert resumed == whole
    assert resumed["left"] is None
    pieces, one_piece = keras.run(f"resume_{name}"), keras.run(f"resume_{name}.whole")
    assert pieces.status == one_piece.status == "finished"
    keys = keras.keys(pieces.id)
    assert keys == keras.keys(one_piece.id)
    for key in keys:
        found, expected = (keras.store.history(run.id, key) for run in (pieces, one_piece))
        assert found.steps.tolist() == expected.steps.tolist(), key
        assert np.allclose(found.values, expected.values, rtol=0, atol=1e-6, equal_nan=True), key
    said = [line for lines in facts[f"resume_{name}.said"] for line in lines]
    if name == "steps":  # it died before its first state
        assert "the fit died and no state to resume from was saved" in said.pop(0)
        assert said.pop(0).endswith("1 problems in all (no_state_at_end: 1)")
    assert said == []


@pytest.mark.parametrize(("name", "resumed", "fits"), [
    ("epochs", [(3, 16), (3, 16)], [(0, 1), (4, 17), (4, 17)]),
    ("ours", [(2, 12)], [(0, 1), (3, 13)]),
    ("steps", [(0, 3), (2, 12)], [(0, 1), (0, 1), (0, 4), (3, 13)]),
    ("dataset", [(1, 8), (3, 20)], [(0, 1), (1, 9), (3, 21)]),
])  # fmt: skip
def test_what_was_resumed_is_on_record(
    keras: Lab, name: str, resumed: list[tuple[int, int]], fits: list[tuple[int, int]]
) -> None:
    """Each fit says where it went on, in one phase; the event names the state, of which the newest alone is kept."""
    run = keras.run(f"resume_{name}")
    found = keras.store.fits(run.id)
    assert [(one.first_epoch, one.first_step) for one in found] == fits
    assert {one.phase for one in found} == {1}
    states = {one.id: one for one in keras.store.checkpoints(run.id) if one.role == "state"}
    told = [one.detail for one in keras.store.events(run.id) if one.kind == "resumed"]
    assert [(one["epoch"], one["step"]) for one in told] == resumed
    assert all(one["checkpoint"] in states for one in told)
    assert [one.status for one in states.values()].count("published") == 1


def test_what_early_stopping_knew_is_told(keras: Lab) -> None:
    """The best epoch was trained by a process that is dead: its metrics are recorded all the same, its best once."""
    run, whole = keras.run("resume_epochs"), keras.run("resume_epochs.whole")
    kinds = ("early_stopped", "weights_restored", "best_improved", "learning_rate_changed")
    # What was decided in an epoch that was killed is decided again, and both are told.
    told = [
        {(one.kind, one.epoch, one.step, json.dumps(dict(one.detail))) for one in keras.store.events(each.id)}
        for each in (run, whole)
    ]
    seen, expected = ({one for one in some if one[0] in kinds} for some in told)
    assert seen == expected
    assert {kind for kind, *_ in seen} == set(kinds)


def test_no_later_fit_skips_epochs(keras: Lab) -> None:
    """Keras never clears what makes a model begin late; after a resumed fit every other begins at its first epoch."""
    facts = keras.said("test_09")
    assert facts["resumed"] == [2, 3]
    assert facts["later"] == facts["phase"] == [0, 1, 2, 3]
    assert facts["left"] is None
    epochs = keras.store.epochs(facts["run"])
    assert [one.number for one in epochs] == [*range(9)]


def test_a_training_that_was_complete_is_not_trained_again(keras: Lab) -> None:
    """The script of a finished run, resumed once more, trains nothing, and that is said."""
    facts = keras.said("test_09")
    assert facts["first again"] == facts["second again"] == []
    assert facts["more"] == [0]
    assert "already has its 4 epochs" in facts["said"][1]


def test_the_second_training_of_a_script_goes_on(keras: Lab) -> None:
    """Killed in its second fit, a script does not train its first again."""
    facts = keras.said("resume_two_fits")
    assert (facts["first"], facts["second"]) == ([], [1, 2])
    assert "fit 1 of this script is complete, training goes on in fit 2" in facts["said"][0]
    run = keras.run("resume_two_fits")
    assert [one.number for one in keras.store.epochs(run.id)] == [0, 1, 2, 3, 4]
    assert [one.phase for one in keras.store.fits(run.id) if (one.epochs or 0) > one.first_epoch] == [1, 2, 2]


def test_a_fit_that_died_is_resumed_in_the_same_process(keras: Lab) -> None:
    """Also a new model goes on where the one before died."""
    assert keras.said("resume_here")["epochs"] == [2, 3]
    assert [one.number for one in keras.store.epochs(keras.run("resume_here").id)] == [0, 1, 2, 3]


def test_the_best_epoch_is_saved_again_with_its_epoch(keras: Lab) -> None:
    """Trained again after a kill it is as good, and its checkpoint replaces the superseded one."""
    assert keras.said("resume_best")["best"] is not None
    rows = [one for one in keras.store.checkpoints(keras.run("resume_best").id) if one.role == "model"]
    assert [(one.epoch, one.superseded) for one in rows] == [(0, False), (1, False), (2, True), (2, False)]
    assert rows[-1].is_best


def test_a_worker_beside_the_chief_goes_on_too(keras: Lab) -> None:
    """It reads the run's id from TRACKER_RUN_ID, loads its state and records nothing; without it is refused at once."""
    facts = keras.said("resume_worker")
    assert [one.number for one in keras.store.epochs(keras.run("resume_worker").id)] == [0, 1]
    if keras.backend == "tensorflow":
        assert "TRACKER_RUN_ID" in facts["refused"]
        assert (facts["epochs"], facts["errors"]) == ([2, 3], 0)


def test_another_model_is_an_error_at_once(keras: Lab) -> None:
    """What differs is named, nothing is trained, and the model trains from its first epoch afterwards."""
    facts = keras.said("resume_another_model")
    assert "is not the one whose state was saved: variable 0 was" in facts["wider"]
    assert "momentum float32(3, 1) is new" in facts["optimizer"]
    assert facts["wider later"] == facts["optimizer later"] == [0]
    assert len(keras.store.epochs(keras.run("resume_another_model").id)) == 2


def test_ours_wins_over_backup_and_restore(keras: Lab) -> None:
    """Before and after ours in the list, with an older state of its own."""
    facts = keras.said("resume_beside_backup")
    assert facts["before"] == facts["after"] == [3, 4]


def test_what_can_only_begin_an_epoch_anew_is_said(keras: Lab) -> None:
    """With a generator the wish for steps is answered as the training begins; the epoch is trained from its begin."""
    first, again = keras.said("resume_generator")["said"]
    assert "the batches of a generator cannot be passed over" in first[0]
    assert "begins again with its first batch" in again[0]
    run = keras.run("resume_generator")
    assert [(one.first_epoch, one.first_step) for one in keras.store.fits(run.id)] == [(0, 1), (2, 9)]


# -- the trainings ------------------------------------------------------------------------------------------------------


def scenarios() -> None:
    """Scenarios of trainings that die and are resumed; within one process a training dies of an exception."""
    import json
    import os
    import tempfile
    from collections.abc import Iterator
    from pathlib import Path

    import keras
    import numpy as np
    from keras_bench import BATCH, STEPS, Facts, X, Y, anywhere, linear, log_lines, scenario, verbose

    import tracker
    import tracker_keras
    from tracker.domain.errors import InvalidValue
    from tracker_keras import TrackerCallback

    stock = keras.callbacks

    class Died(Exception):
        """What a training dies of here."""

    class Dies(stock.Callback):
        """Kills the training after a batch of an epoch."""

        def __init__(self, epoch: int, batch: int) -> None:
            super().__init__()
            self.at = (epoch, batch)
            self.epoch = 0

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.epoch = epoch

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if (self.epoch, batch) == self.at:
                raise Died

    class Counts(stock.Callback):
        """A callback of the user's own with a state, which it forgets as stock callbacks do."""

        def on_train_begin(self, logs: Any = None) -> None:
            self.epochs = 0

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.epochs += 1

        def state_dict(self) -> dict[str, int]:
            return {"epochs": self.epochs}

        def load_state_dict(self, state: dict[str, int]) -> None:
            self.epochs = state["epochs"]

    class Decays(stock.Callback):
        """Lowers the rate after every batch."""

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.model.optimizer.learning_rate = float(self.model.optimizer.learning_rate) * 0.99

    class Raw(keras.Model):
        """A model that nobody builds before its first batch, and that draws random numbers of its own."""

        def __init__(self) -> None:
            super().__init__(name="raw")
            self.inner, self.outer = keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(1)
            self.drop = keras.layers.Dropout(0.1)

        def call(self, x: Any) -> Any:
            return self.outer(self.drop(self.inner(x)))

    def raw(optimizer: Any = None, **compiled: Any) -> Any:
        """Compiled, with weights that follow from the seed."""
        keras.utils.set_random_seed(3)
        model = Raw()
        model.compile(optimizer or keras.optimizers.Adam(0.05), loss="mse", metrics=["mae"], **compiled)
        return model

    def train(
        name: str,
        deaths: list[tuple[int, int]],
        make: Any = raw,
        callbacks: Any = list,
        given: Any = None,
        **fitted: Any,
    ) -> Facts:
        """The same script again and again: with the given kills, then to its end; compared with one that is never killed."""
        facts: Facts = {}
        settings = {"resume": True, **(given or {})}
        for run_name, ends in ((f"{name}.whole", [None]), (name, [*deaths, None])):
            for end in ends:
                model, beside = make(), callbacks()
                with log_lines() as lines, tracker_run(run_name) as run:
                    # In another place of the list in every process; the kinds keep their order.
                    every = anywhere([*beside, *([Dies(*end)] if end else []), TrackerCallback(run, **settings)])
                    arguments = {
                        "x": X,
                        "y": Y,
                        "batch_size": BATCH,
                        "epochs": 6,
                        "verbose": verbose(),
                        "shuffle": False,
                    }
                    try:
                        model.fit(**(arguments | {"validation_data": (X[:10], Y[:10])} | fitted), callbacks=every)
                    except Died:
                        run.finish("failed")
                facts.setdefault(f"{run_name}.said", []).append([line[:3000] for line in lines])
            facts[run_name] = {
                "weights": [weight.ravel().tolist() for weight in model.get_weights()],
                "iterations": int(model.optimizer.iterations),
                "left": model._initial_epoch,
                "states": [states(one) for one in beside],
            }
        return facts

    def tracker_run(name: str) -> Any:
        """The run of that name, gone on with if it did not finish."""
        return tracker.start_run(name=name, resume="auto")

    def states(callback: Any) -> Any:
        """The numbers that a callback has in the end."""
        names = ("wait", "best", "best_epoch", "stopped_epoch", "cooldown_counter", "epochs", "_ema_weights_in_model")
        return {name: getattr(callback, name) for name in names if hasattr(callback, name)}

    @scenario
    def resume_epochs() -> Facts:
        """Killed twice in the same epoch."""
        folder = tempfile.mkdtemp()

        def callbacks() -> list[Any]:
            return [
                stock.EarlyStopping(patience=2, min_delta=0.25, restore_best_weights=True),
                stock.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
                stock.ReduceLROnPlateau("loss", patience=1, min_delta=0.4, cooldown=1, factor=0.5),
                stock.ModelCheckpoint(f"{folder}/{{epoch}}.keras", save_best_only=True),
                Counts(),
            ]

        return train("resume_epochs", [(4, 2), (4, 3)], callbacks=callbacks)

    @scenario
    def resume_ours() -> Facts:
        """Our own callbacks, and a best that is infinite when it is saved."""
        folder = tempfile.mkdtemp()

        def callbacks() -> list[Any]:
            return [
                tracker_keras.LearningRateScheduler(lambda epoch, rate: rate * 0.8),
                tracker_keras.EarlyStopping("mae", patience=9, restore_best_weights=True),
                tracker_keras.ModelCheckpoint(
                    f"{folder}/m.keras", save_best_only=True, initial_value_threshold=-np.inf
                ),
                stock.SwapEMAWeights(swap_on_epoch=True),
            ]

        def make() -> Any:
            return raw(keras.optimizers.SGD(0.05, momentum=0.9, use_ema=True, ema_momentum=0.8))

        return train("resume_ours", [(3, 0)], make, callbacks, {"checkpoint": "epoch"})

    @scenario
    def resume_steps() -> Facts:
        """Before any state, then in the middle of epochs, with the order that shuffle=True draws from the seed.

        The rate is changed as epochs begin, by what it is, and with every batch.
        """

        def callbacks() -> list[Any]:
            return [stock.LearningRateScheduler(lambda epoch, rate: rate * 0.9), Decays()]

        given = {"checkpoint": 3, "log_batches": 1}
        return train("resume_steps", [(0, 1), (1, 1), (3, 2)], callbacks=callbacks, given=given, shuffle=True)

    class Unheard(stock.Callback):
        """Keeps no params, and says nothing."""

        def set_params(self, params: Any) -> None:
            self.given = params

    class Plateau(stock.ReduceLROnPlateau):
        """A stock callback that keeps no params."""

        def set_params(self, params: Any) -> None:
            self.given = params

    class Validates(stock.Callback):
        """Evaluates as epochs end, with callbacks of the fit."""

        def __init__(self, others: list[Any]) -> None:
            super().__init__()
            self.others = others

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.evaluate(X, Y, verbose=verbose(), callbacks=self.others)
            logs["added"] = float(epoch)

    @scenario
    def resume_hostile() -> Facts:
        """Neighbours first and last that keep no params, evaluate with the same callbacks, and add to the logs."""

        def callbacks() -> list[Any]:
            inner = [Unheard(), Plateau("loss", patience=1, min_delta=0.4, factor=0.5), stock.EarlyStopping(patience=9)]
            return [*inner, Validates(inner), stock.History(), Unheard()]

        return train("resume_hostile", [(1, 1), (3, 2)], callbacks=callbacks, given={"checkpoint": 3})

    @scenario
    def resume_dataset() -> Facts:
        """A data set of tf.data that goes on through epochs of five steps, two steps at once."""
        import tensorflow as tf

        def make() -> Any:
            return raw(steps_per_execution=2)

        data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(2).repeat(3)
        return train(
            "resume_dataset",
            [(1, 5), (3, 3)],
            make,
            given={"checkpoint": 4},
            x=data,
            y=None,
            batch_size=None,
            steps_per_epoch=6,
            epochs=5,
            shuffle=True,
        )

    @scenario
    def resume_generator() -> Facts:
        """Data that cannot be skipped: an epoch starts from its beginning, which is logged."""

        def batches() -> Iterator[tuple[Any, Any]]:
            while True:
                for start in range(0, len(X), BATCH):
                    yield X[start : start + BATCH], Y[start : start + BATCH]

        facts: Facts = {}
        for end in ((2, 2), None):
            with log_lines() as lines, tracker_run("resume_generator") as run:
                every = [TrackerCallback(run, resume=True, checkpoint=2), *([Dies(*end)] if end else [])]
                try:
                    raw().fit(batches(), steps_per_epoch=STEPS, epochs=4, verbose=verbose(), callbacks=every)
                except Died:
                    run.finish("failed")
            facts.setdefault("said", []).append(lines[:])
        return facts

    @scenario
    def test_09() -> Facts:
        """A resumed fit, one more of the same model, and a fit that was complete."""
        facts: Facts = {}
        for end in ((2, 1), None):
            model = raw()
            with tracker_run("resume_leak") as run:
                callback = TrackerCallback(run, resume=True)
                given: dict[str, Any] = {"batch_size": BATCH, "epochs": 4, "verbose": verbose()}
                try:
                    facts["resumed"] = model.fit(
                        X, Y, callbacks=[callback, *([Dies(*end)] if end else [])], **given
                    ).epoch
                    facts["later"] = model.fit(X, Y, **given).epoch
                    facts["phase"] = model.fit(X, Y, callbacks=[callback], **given).epoch
                    facts["left"] = model._initial_epoch
                except Died:
                    run.finish("failed")
        with log_lines() as lines, tracker.start_run(run_id=run.id, resume="must") as again:
            model = raw()
            callback = TrackerCallback(again, resume=True)
            facts["first again"] = model.fit(X, Y, callbacks=[callback], **given).epoch
            facts["second again"] = model.fit(X, Y, callbacks=[callback], **given).epoch
            facts["more"] = model.fit(X, Y, callbacks=[TrackerCallback(again)], **given | {"epochs": 1}).epoch
        return facts | {"said": lines, "run": run.id}

    @scenario
    def resume_two_fits() -> Facts:
        """A script of two trainings, the second killed: the first is not trained again, the second goes on."""
        for end in ((1, 1), None):
            model = raw()
            with log_lines() as lines, tracker_run("resume_two_fits") as run:
                callback = TrackerCallback(run, resume=True)
                given: dict[str, Any] = {"batch_size": BATCH, "verbose": verbose()}
                first = model.fit(X, Y, epochs=2, callbacks=[callback], **given)
                try:
                    second = model.fit(X, Y, epochs=3, callbacks=[callback, *([Dies(*end)] if end else [])], **given)
                except Died:
                    run.finish("failed")
        return {"first": first.epoch, "second": second.epoch, "said": lines}

    @scenario
    def resume_here() -> Facts:
        """A fit that died, taken up by the next one of the same process."""
        model = raw()
        with tracker.start_run(name="resume_here") as run:
            callback = TrackerCallback(run, resume=True)
            given: dict[str, Any] = {"batch_size": BATCH, "epochs": 4, "verbose": verbose()}
            try:
                model.fit(X, Y, callbacks=[callback, Dies(2, 1)], **given)
            except Died:
                model.stop_training = True
            again = raw()
            return {"epochs": again.fit(X, Y, callbacks=[callback], **given).epoch}

    @scenario
    def resume_best() -> Facts:
        """Killed when our ModelCheckpoint had saved the best epoch, and its state had not been saved."""
        folder = tempfile.mkdtemp()

        def die(epoch: int, logs: Any = None) -> None:
            if epoch == 2:
                raise Died

        for deadly in ([stock.LambdaCallback(on_epoch_end=die)], []):
            with tracker_run("resume_best") as run:
                best = tracker_keras.ModelCheckpoint(f"{folder}/best.keras", "loss", save_best_only=True)
                every = [TrackerCallback(run, resume=True), best, *deadly]
                try:
                    raw().fit(X, Y, batch_size=BATCH, epochs=3, shuffle=False, verbose=verbose(), callbacks=every)
                except Died:
                    run.finish("failed")
        return {"best": best.best}

    @scenario
    def resume_worker() -> Facts:
        """A worker other than the chief, by TF_CONFIG."""
        facts: Facts = {}
        given: dict[str, Any] = {"batch_size": BATCH, "verbose": verbose()}
        with tracker.start_run(name="resume_worker") as run:
            raw().fit(X, Y, epochs=2, callbacks=[TrackerCallback(run, resume=True)], **given)
            run.finish("failed")
        if keras.backend.backend() != "tensorflow":
            return facts
        cluster = {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 1}})
        try:
            try:
                raw().fit(X, Y, epochs=2, callbacks=[TrackerCallback(resume=True)], **given)
            except InvalidValue as error:
                facts["refused"] = str(error)
            os.environ["TRACKER_RUN_ID"] = run.id
            callback = TrackerCallback(resume=True)
            facts["epochs"] = raw().fit(X, Y, epochs=4, callbacks=[callback], **given).epoch
            facts["errors"] = callback.guard.errors
        finally:
            del os.environ["TF_CONFIG"]
            os.environ.pop("TRACKER_RUN_ID", None)
        return facts

    @scenario
    def resume_another_model() -> Facts:
        """Models that the state is not of; and a run that trained two."""
        facts: Facts = {}
        with tracker.start_run(name="resume_another_model") as run:
            linear().fit(X, Y, epochs=2, verbose=verbose(), callbacks=[TrackerCallback(run, resume=True)])
            run.finish("failed")
        others = {"wider": raw, "optimizer": lambda: linear(keras.optimizers.Adam())}
        for name, make in others.items():
            model = make()
            plain = stock.History()
            with tracker.start_run(run_id=run.id, resume="must") as again:
                try:
                    model.fit(X, Y, epochs=4, verbose=verbose(), callbacks=[TrackerCallback(again, resume=True), plain])
                except InvalidValue as error:
                    facts[name] = str(error)
            facts[f"{name} later"] = model.fit(X, Y, epochs=1, verbose=verbose(), callbacks=[plain]).epoch
        return facts

    @scenario
    def resume_beside_backup() -> Facts:
        """Keras' BackupAndRestore, which is older by an epoch, before and after ours."""
        facts: Facts = {}
        for name, first in (("before", True), ("after", False)):
            folder = tempfile.mkdtemp()
            for end in ((3, 1), None):
                model = linear()
                with tracker_run(f"resume_beside_backup.{name}") as run:
                    ours = TrackerCallback(run, resume=True)
                    backup = stock.BackupAndRestore(folder, save_freq="epoch" if end is None else 7)
                    every = [backup, ours] if first else [ours, backup]
                    try:
                        history = model.fit(
                            X,
                            Y,
                            batch_size=BATCH,
                            epochs=5,
                            verbose=verbose(),
                            callbacks=[*every, *([Dies(*end)] if end else [])],
                        )
                    except Died:
                        run.finish("failed")
            facts[name] = history.epoch
            facts[f"{name} left"] = [one.name for one in Path(folder).parent.iterdir() if one == Path(folder)]
        return facts
