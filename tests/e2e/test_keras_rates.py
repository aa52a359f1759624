"""The learning rate of an epoch is the one that it was trained with, wherever in the list our callback stands."""

from __future__ import annotations

import pytest
from e2e.keras_lab import Lab

SCENARIOS = ("steps",)


@pytest.mark.parametrize("order", ["scheduler_before", "scheduler_after"])
def test_3_learning_rate_scheduler(keras: Lab, order: str) -> None:
    """LearningRateScheduler sets the rate as an epoch begins, before or after our own hook ran."""
    expected = keras.said("rates")[order]
    assert expected == pytest.approx([0.01, 0.005, 0.01 / 3, 0.0025])
    assert keras.values(keras.run(f"rates.{order}").id, "learning_rate") == expected


@pytest.mark.parametrize("order", ["plateau_before", "plateau_after", "two_plateaus_before", "around"])
def test_reduce_lr_on_plateau(keras: Lab, order: str) -> None:
    """ReduceLROnPlateau cuts the rate as an epoch ends, before or after our own hook ran, and whoever else does."""
    expected = keras.said("rates")[order]
    assert len(set(expected)) > 2
    assert keras.values(keras.run(f"rates.{order}").id, "learning_rate") == expected


def test_a_schedule_in_stairs(keras: Lab) -> None:
    """An optimizer's schedule that falls between epochs shows the stair on which the epoch was trained."""
    expected = keras.said("rates_of_a_schedule")["rates"]
    assert expected == pytest.approx([0.1, 0.05, 0.025, 0.0125])
    assert keras.values(keras.run("rates_of_a_schedule").id, "learning_rate") == pytest.approx(expected)


def test_a_function(keras: Lab) -> None:
    """An optimizer whose rate is a function shows what the function said, and Keras is not made to warn of it."""
    run = keras.run("rates_of_a_function")
    assert keras.values(run.id, "learning_rate") == pytest.approx([0.025] * 4)
    assert keras.store.params(run.id)["optimizer.learning_rate"] == "lambda"
    assert not [warning for warning in keras.said("rates_of_a_function")["warned"] if "lambda" in warning]


def test_no_optimizer(keras: Lab) -> None:
    """A model that was compiled without an optimizer has no rate; what a loop of one's own tells nobody is said once."""
    run = keras.run("no_optimizer")
    assert keras.keys(run.id) == {"loss", "batch/loss"}
    assert "optimizer" not in keras.store.params(run.id)
    (said,) = keras.said("no_optimizer")["said"]
    assert "not recorded of it: the batch size; the data (said once" in said


def test_a_schedule(keras: Lab) -> None:
    """An optimizer's schedule changes the rate from epoch to epoch, as the series shows it."""
    rates = keras.said("rates_of_a_schedule")["rates"]
    assert keras.told("rates_of_a_schedule", "learning_rate_changed") == [
        (epoch, {"from": pytest.approx(rates[epoch - 1]), "to": pytest.approx(rates[epoch]), "by": "schedule"})
        for epoch in (1, 2, 3)
    ]
    assert keras.told("rates_of_a_function", "learning_rate_changed") == []
