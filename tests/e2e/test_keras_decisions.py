"""Decisions of the stock callbacks are on the run's timeline, wherever our callback is in the list."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import pytest
from e2e.children import DEADLINE_S, eventually
from e2e.cli_lab import installed, invoke, record
from e2e.keras_lab import Lab, environment
from e2e.server_lab import Server
from preloaded import Preloaded

import tracker

PLACES = pytest.mark.parametrize("place", range(6))


@PLACES
def test_early_stopping(keras: Lab, place: int) -> None:
    """The stop has its epoch, the best one and its value, in the run's numbers, and decides the fit's outcome."""
    facts, name = keras.said("decisions")[str(place)], f"decisions.{place}"
    stopped, best_epoch, best = facts["stopped"]
    assert (stopped, best_epoch) == (3, 1)
    detail = {"stopped_epoch": 5, "best_epoch": 3, "best": best, "patience": 2, "monitor": "loss"}
    assert keras.told(name, "early_stopped") == [(5, {**detail, "value": facts["history"]["loss"][-1]})]
    assert [fit.outcome for fit in keras.store.fits(keras.run(name).id)] == ["completed", "stopped_early"]


@PLACES
def test_restored_weights(keras: Lab, place: int) -> None:
    """What Keras restored as the fit returned is part of the fit, with the metrics of the epoch that it went back to."""
    facts, run = keras.said("decisions")[str(place)], keras.run(f"decisions.{place}")
    assert facts["result"] < facts["stopped"][2]  # the weights at the end of the best epoch, not of the last
    best = keras.store.epochs(run.id)[3]
    assert keras.told(run.name, "weights_restored") == [(3, {"epoch": 3, "metrics": dict(best.metrics)})]
    assert [event.kind for event in keras.store.events(run.id)][-2:] == ["weights_restored", "fit_ended"]
    assert run.best_epoch == 3


@PLACES
def test_3_who_changed_the_rate(keras: Lab, place: int) -> None:
    """Each change of the rate has the callback that made it, though another takes it back before the next batch."""
    rate = keras.said("decisions")[str(place)]["history"]["learning_rate"][0]
    assert keras.told(f"decisions.{place}", "learning_rate_changed") == [
        (4, {"from": rate, "to": 1.5, "by": "LearningRateScheduler"}),
        (4, {"from": 1.5, "to": 0.75, "by": "ReduceLROnPlateau"}),
        (5, {"from": 0.75, "to": 1.5, "by": "LearningRateScheduler"}),
        (5, {"from": 1.5, "to": 0.75, "by": "ReduceLROnPlateau"}),
    ]


@PLACES
def test_improvements_are_the_runs(keras: Lab, place: int) -> None:
    """Each epoch that was the run's best so far says so, across its fits."""
    run = keras.run(f"decisions.{place}")
    losses = keras.values(run.id, "loss")
    assert keras.told(run.name, "best_improved") == [
        (epoch, {"metric": "loss", "from": losses[epoch - 1] if epoch else None, "to": losses[epoch]})
        for epoch in range(4)
    ]


@PLACES
def test_events_have_their_step(keras: Lab, place: int) -> None:
    """What is decided as an epoch ends comes after all its steps, even if our callback is called later."""
    events = keras.store.events(keras.run(f"decisions.{place}").id)
    at = {(event.kind, event.detail.get("by")): event.step for event in events}
    assert (at["early_stopped", None], at["learning_rate_changed", "ReduceLROnPlateau"]) == (24, 24)
    assert at["learning_rate_changed", "LearningRateScheduler"] == 20


@PLACES
def test_the_callbacks_are_left_as_they_were(keras: Lab, place: int) -> None:
    """After the fit nothing of ours is on them, and nobody heard of us."""
    facts = keras.said("decisions")[str(place)]
    assert (facts["left"], facts["said"]) == ([], [])


@pytest.mark.parametrize("place", ["before", "after"])
def test_an_assignment(keras: Lab, place: int) -> None:
    """A rate that the user's callback assigned is recorded with the first epoch that is trained with it."""
    ((epoch, detail),) = keras.told(f"assignments.{place}", "learning_rate_changed")
    assert (epoch, detail["to"], detail["by"]) == (2, 0.125, "assignment")


def test_nan(keras: Lab) -> None:
    """A NaN loss is recorded once, with the callback that ended the fit for it; it is the outcome unless another ended it."""
    assert "NaN or Inf loss" in keras.said("nan")["raised"]
    assert [fit.outcome for fit in keras.store.fits(keras.run("nan").id)] == [
        "nan", "stopped_early", "nan", "completed",
    ]  # fmt: skip
    nan = {"metric": "loss", "value": "NaN"}
    assert keras.told("nan", "nan_detected") == [(0, {**nan, "by": "TerminateOnNaN"}), (0, nan), (2, nan), (4, nan)]


def test_what_is_watched_is_the_users(keras: Lab) -> None:
    """It can be copied and watched by two meanwhile, nothing is on batches; after a death we are silent, then gone."""
    facts = keras.said("left_alone")
    assert facts["meanwhile"] == ["on_epoch_end"]
    assert facts["copies"] == [True, True]
    assert facts["afterwards"] == []
    for name in ("left_alone.one", "left_alone.two"):
        fits = keras.store.fits(keras.run(name).id)
        assert [fit.outcome for fit in fits] == ["failed", "stopped_early"]
        assert [epoch for epoch, _ in keras.told(name, "early_stopped")] == [2]


def test_configurations(keras: Lab) -> None:
    """Classes and arguments of all callbacks are parameters, also of those in lists in the list."""
    params = keras.store.params(keras.run("configured").id)
    assert keras.said("configured")["said"] == []
    found = {key.removeprefix("callbacks."): value for key, value in params.items() if key.startswith("callbacks.")}
    assert params["callbacks"] == [
        "EarlyStopping", "ModelCheckpoint", "LearningRateScheduler", "LearningRateScheduler", "LambdaCallback", "Mine",
    ]  # fmt: skip
    assert found == {
        "EarlyStopping.monitor": "loss",
        "EarlyStopping.min_delta": 0.25,
        "EarlyStopping.patience": 5,
        "EarlyStopping.verbose": 0,
        "EarlyStopping.mode": "auto",
        "EarlyStopping.restore_best_weights": False,
        "EarlyStopping.start_from_epoch": 0,
        "ModelCheckpoint.filepath": "m.keras",
        "ModelCheckpoint.monitor": "loss",
        "ModelCheckpoint.verbose": 0,
        "ModelCheckpoint.save_best_only": True,
        "ModelCheckpoint.save_weights_only": False,
        "ModelCheckpoint.mode": "auto",
        "ModelCheckpoint.save_freq": "epoch",
        "ModelCheckpoint.min_delta": 0,
        "LearningRateScheduler.schedule": "diverging",
        "LearningRateScheduler.verbose": 0,
        "LearningRateScheduler_2.schedule": "lambda",
        "LearningRateScheduler_2.verbose": 0,
        "Mine.width": 3,
    }
    assert params["fit.2.callbacks.EarlyStopping.patience"] == 7
    assert params["fit.2.callbacks"] == ["EarlyStopping"]
    assert "fit.2.callbacks.EarlyStopping.min_delta" not in params


ENDLESS = """
import keras_bench, tracker
from tracker_keras import TrackerCallback

with tracker.start_run(name="endless") as run:
    keras_bench.fit(keras_bench.linear(), TrackerCallback(run), epochs=10**6)
"""


@pytest.mark.parametrize(("name", "epochs", "outcome"), [
    ("epoch", 2, "stopped"), ("batch", 2, "stopped"), ("last", 2, "completed"),
])  # fmt: skip
def test_a_fit_stops_on_request(keras: Lab, name: str, epochs: int, outcome: str) -> None:
    """It ends with the epoch in which the request arrives, as its callbacks see; in its last epoch it is not stopped."""
    assert keras.said("stops")[name] == [epochs, True]
    run = keras.run(f"stops.{name}")
    assert keras.store.fits(run.id)[0].outcome == outcome
    assert len([epoch for epoch in keras.store.epochs(run.id) if epoch.fit == 1]) == epochs
    told = [(event.epoch, event.detail) for event in keras.store.events(run.id) if event.kind == "stopped"]
    assert told[:1] == ([(1, {"by": "request"})] if outcome == "stopped" else [])
    assert run.status == "finished"


def test_with_batches_it_stops_within_the_epoch(keras: Lab) -> None:
    """With `log_batches` the fit ends with the batch in which it hears of it."""
    assert keras.steps(keras.run("stops.batch").id, "batch/loss") == [1, 2, 3, 4, 5, 6]
    assert len(keras.steps(keras.run("stops.epoch").id, "loss")) == 3


def test_a_later_fit_of_the_run_stops_too(keras: Lab) -> None:
    """The request is the run's: what it trains next ends after one epoch."""
    second = keras.store.fits(keras.run("stops.epoch").id)[1]
    assert (second.outcome, second.first_epoch) == ("stopped", 2)


def test_tracker_stop_through_a_server(store_url: str, tmp_path: Path) -> None:
    """`tracker stop` ends a training in another process that records through the same server."""
    with Server(store_url) as server:
        url = f"http://127.0.0.1:{server.port}"
        variables = environment(tmp_path, "jax") | {"TRACKER_STORE": url, "PYTHONPATH": str(Path(__file__).parent)}
        with Preloaded([sys.executable, "-c", ENDLESS], backend="jax", env=variables, cwd=tmp_path) as training:
            try:
                with closing(tracker.open_store(url)) as store:
                    eventually(lambda: any(store.epochs(run.id) for run in store.find_runs("endless")))
                    done = installed("stop", "endless", "--store", url)
                    assert (done.returncode, done.stdout) == (0, "")
                    assert "asked endless to stop" in done.stderr
                    assert training.wait(DEADLINE_S) == 0
                    (run,) = store.find_runs("endless")
                    (fit,) = store.fits(run.id)
                    kinds = [event.kind for event in store.events(run.id)]
            finally:
                training.kill()
    assert (run.status, fit.outcome) == ("finished", "stopped")
    assert [kind for kind in kinds if "stop" in kind] == ["stop_requested", "stopped"]


def test_only_what_runs_can_be_stopped(store_url: str) -> None:
    """A run that is over is named with how it ended, and one that there is not is not found."""
    record("over", [0.5])
    assert "over is not running, it is finished" in invoke("stop", "over").stderr
    done = invoke("stop", "nobody")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "nobody" in done.stderr


# -- the trainings ------------------------------------------------------------------------------------------------------


def scenarios() -> None:
    """Scenarios of decisions: who stopped a fit, restored its weights, or changed its learning rate, and what is recorded."""
    import contextlib
    import copy
    import io
    import pickle
    from typing import Any

    import keras
    import numpy as np
    from keras_bench import Facts, X, Y, fit, linear, log_lines, scenario, verbose

    import tracker
    from tracker_keras import TrackerCallback

    class Ends(keras.callbacks.Callback):
        """How a fit ended for somebody else's callback."""

        def __init__(self) -> None:
            super().__init__()
            self.epochs = 0
            self.ended = False

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.epochs = epoch + 1

        def on_train_end(self, logs: Any = None) -> None:
            self.ended = True

    @scenario
    def stops() -> Facts:
        """Somebody asks the run to stop in the middle of its second epoch; the fit hears of it then.

        Who asks stands before ours, which so hears of it in the same batch.
        """

        def ask(run: Any) -> None:
            run.flush()
            with tracker.open_store() as store:
                store.request_stop(run.id)
            run.log({"asked": 1.0})
            run.flush()
            assert run.should_stop

        class Asks(keras.callbacks.Callback):
            def __init__(self, run: Any, at: int) -> None:
                super().__init__()
                self._run, self._at = run, at

            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                self._at -= 1
                if self._at == 0:
                    ask(self._run)

        facts: Facts = {}
        for name, at, every, epochs in (("epoch", 6, 0, 5), ("batch", 6, 1, 5), ("last", 6, 0, 2)):
            with tracker.start_run(name=f"stops.{name}") as run:
                ends, early = Ends(), keras.callbacks.EarlyStopping("loss", patience=9, restore_best_weights=True)
                fit(
                    linear(),
                    Asks(run, at),
                    TrackerCallback(run, log_batches=every),
                    early,
                    ends,
                    epochs=epochs,
                    ordered=True,
                )
                facts[name] = [ends.epochs, ends.ended]
                if name == "epoch":
                    fit(linear(), TrackerCallback(run), epochs=3)
        return facts

    def diverging(epoch: int, _: float) -> float:
        """Rates with which the loss falls for two epochs, and then grows."""
        return 0.01 if epoch < 2 else 1.5

    class Watched:
        """The stock callbacks of a fit that goes wrong after two epochs, and is stopped and mended by them."""

        def __init__(self) -> None:
            known = keras.callbacks
            self.stopping = known.EarlyStopping("loss", patience=2, min_delta=0.001, restore_best_weights=True)
            self.list: list[Any] = [
                known.LearningRateScheduler(diverging),
                self.stopping,
                known.ReduceLROnPlateau("loss", factor=0.5, patience=1),
                known.TerminateOnNaN(),
                known.ModelCheckpoint("best.keras", monitor="loss", save_best_only=True),
            ]

    @scenario
    def decisions() -> Facts:
        """Our callback at each place among those that decide, in a second fit of its run."""
        facts: Facts = {}
        for place in range(6):
            keras.utils.set_random_seed(3)
            with tracker.start_run(name=f"decisions.{place}") as run, log_lines() as said:
                model, ours, watched = linear(), TrackerCallback(run), Watched()
                fit(model, ours, epochs=2)
                callbacks = [*watched.list[:place], ours, *watched.list[place:]]
                history = fit(model, *callbacks, epochs=9, ordered=True).history
                result = model.evaluate(X, Y, verbose=verbose(), return_dict=True)
                left = [name for one in watched.list for name in vars(one) if name.startswith("on_")]
            facts[str(place)] = {
                "history": history,
                "stopped": [watched.stopping.stopped_epoch, watched.stopping.best_epoch, watched.stopping.best],
                "result": result["loss"],
                "left": left,
                "said": said,
            }
        return facts

    @scenario
    def assignments() -> Facts:
        """The user's own callback assigns a rate, before ours or after it."""

        class Assigns(keras.callbacks.Callback):
            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                if epoch == 1:
                    self.model.optimizer.learning_rate = 0.125

        for name in ("before", "after"):
            with tracker.start_run(name=f"assignments.{name}") as run:
                ours = TrackerCallback(run)
                fit(linear(), *([Assigns(), ours] if name == "before" else [ours, Assigns()]), epochs=4, ordered=True)
        return {}

    @scenario
    def nan() -> Facts:
        """NaN that TerminateOnNaN raises for, that EarlyStopping ends, that nobody minds, and that passes."""

        class Breaks(keras.callbacks.Callback):
            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                if epoch == 0:
                    logs["loss"] = float("nan")

        facts: Facts = {}
        with tracker.start_run(name="nan") as run, contextlib.redirect_stdout(io.StringIO()):
            ours = TrackerCallback(run)
            try:
                fit(linear(), ours, keras.callbacks.TerminateOnNaN(raise_error=True), x=X * np.nan, epochs=5)
            except RuntimeError as error:
                facts["raised"] = str(error)
            fit(linear(), keras.callbacks.EarlyStopping("loss", patience=1), ours, x=X * np.nan, epochs=5)
            fit(linear(), ours, x=X * np.nan, epochs=2)
            fit(linear(), Breaks(), ours, epochs=2)
        return facts

    @scenario
    def left_alone() -> Facts:
        """What is watched can be copied meanwhile, watched by two at once, and used again after a fit that died."""
        early = keras.callbacks.EarlyStopping("loss", patience=1, min_delta=1e9)
        terminate = keras.callbacks.TerminateOnNaN()
        facts: Facts = {}

        def hooks_of(*callbacks: Any) -> list[str]:
            return sorted(name for one in callbacks for name in vars(one) if name.startswith("on_"))

        class Dies(keras.callbacks.Callback):
            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                facts["meanwhile"] = hooks_of(early, terminate)
                early._model, model = None, early._model  # a model copies itself in its own ways
                copied, pickled = copy.deepcopy(early), pickle.loads(pickle.dumps(early))
                early._model = model
                facts["copies"] = [one.on_epoch_end.__self__ is one for one in (copied, pickled)]
                raise RuntimeError("the training died")

        with tracker.start_run(name="left_alone.one") as one, tracker.start_run(name="left_alone.two") as two:
            ours = (TrackerCallback(one), TrackerCallback(two))
            with contextlib.suppress(RuntimeError):
                fit(linear(), *ours, early, terminate, Dies(), epochs=3)
            fit(linear(), early, epochs=3)
            facts["not ours"] = hooks_of(early)
            fit(linear(), ours[0], early, ours[1], epochs=3)
            facts["afterwards"] = hooks_of(early)
        return facts

    @scenario
    def configured() -> Facts:
        """Callbacks of every kind, as they are configured in two fits."""

        class Mine(keras.callbacks.Callback):
            def __init__(self, width: int, *, data: Any = None) -> None:
                super().__init__()
                self.width, self.data = width, data

        with tracker.start_run(name="configured") as run, log_lines() as said:
            ours, early = TrackerCallback(run), keras.callbacks.EarlyStopping("loss", patience=5, min_delta=0.25)
            others = (
                keras.callbacks.ModelCheckpoint("m.keras", monitor="loss", save_best_only=True),
                keras.callbacks.LearningRateScheduler(diverging),
                keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate),
                keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None),
                Mine(3, data=np.zeros(3)),
            )
            fit(linear(), keras.callbacks.CallbackList([early, others[0]]), ours, *others[1:], epochs=1)
            early.patience = 7
            fit(linear(), early, ours, epochs=1)
        return {"said": said}
