"""What the stock callbacks beside ours decide is on the run's timeline, wherever in the list ours stands."""

from __future__ import annotations

import pytest
from e2e.keras_lab import Lab

SCENARIOS = ("decisions",)


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
    """What is decided as an epoch ends comes after all its steps, also before our own callback is told."""
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
    """A rate that the user's own callback assigned is told with the first epoch that is trained with it."""
    ((epoch, detail),) = keras.told(f"assignments.{place}", "learning_rate_changed")
    assert (epoch, detail["to"], detail["by"]) == (2, 0.125, "assignment")


def test_nan(keras: Lab) -> None:
    """A loss that is NaN is told once, with who ended the fit for it; it is the outcome unless others ended it."""
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
