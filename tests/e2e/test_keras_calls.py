"""What is recorded of a fit does not depend on how `fit()` was called."""

from __future__ import annotations

import pytest
from e2e.keras_lab import Lab

SCENARIOS = ("calls",)


def test_verbose_and_place_change_nothing(keras: Lab) -> None:
    """Whatever `verbose` is and wherever our callback stands: each epoch's rate, its state, and no problems."""
    runs = keras.said("called_with_verbose")["runs"]
    assert len(runs) == 15
    for name, facts in runs.items():
        run = keras.run(name)
        assert keras.values(run.id, "learning_rate") == pytest.approx(facts["rates"]), name
        assert keras.values(run.id, "loss") == pytest.approx(facts["loss"]), name
        (state,) = [one for one in keras.store.checkpoints(run.id) if one.status == "published"]
        assert (state.role, state.epoch, state.step) == ("state", 3, 16), name
        kinds = [event.kind for event in keras.store.events(run.id)]
        assert (kinds.count("learning_rate_changed"), kinds.count("weights_restored")) == (3, 1), name
        assert facts["said"] == [], name


def test_the_form_of_the_call_changes_nothing(keras: Lab) -> None:
    """A list, none, a mapping, nested, a whole CallbackList, hostile neighbours: epochs, batches, state, and no problem."""
    runs = keras.said("called_in_forms")["runs"]
    assert len(runs) == 8
    for name, facts in runs.items():
        run = keras.run(name)
        (fit,) = keras.store.fits(run.id)
        known = (fit.epochs, fit.steps_per_epoch, fit.batch_size, fit.outcome)
        assert known == (2, 4, 5, "completed"), name
        assert "data.digest" in keras.store.params(run.id), name
        for key, values in facts["history"].items():
            assert keras.values(run.id, key) == pytest.approx(values), (name, key)
        assert keras.steps(run.id, "batch/loss") == [1, 2, 3, 4, 5, 6, 7, 8], name
        (state,) = [one for one in keras.store.checkpoints(run.id) if one.status == "published"]
        assert (state.role, state.epoch, state.step) == ("state", 1, 8), name
        assert (facts["said"], facts["problems"]) == ([], {}), name


def test_what_a_later_callback_adds_is_on_record(keras: Lab) -> None:
    """A metric that another callback puts among the logs after ours was told, also outside of a list around ours."""
    keras.said("called_in_forms")
    for name in ("form nested", "form hostile"):
        assert keras.values(keras.run(name).id, "added") == [10.0, 11.0], name


@pytest.mark.parametrize(("by", "epoch"), [("AtEpochEnd", 1), ("InBatch", 0), ("LambdaCallback", 0)])
def test_a_stop_by_the_users_own_callback(keras: Lab, by: str, epoch: int) -> None:
    """The outcome is `stopped`, and the event has the class that did it."""
    assert by in keras.said("stopped_by_callbacks")["names"]
    run = keras.run(f"stopped by {by}")
    assert [fit.outcome for fit in keras.store.fits(run.id)] == ["stopped"]
    stops = [event for event in keras.store.events(run.id) if "stopped" in event.kind]
    assert [(one.kind, one.epoch, dict(one.detail)) for one in stops] == [("stopped", epoch, {"by": by})]


def test_a_stop_by_a_kind_of_early_stopping(keras: Lab) -> None:
    """A subclass that keeps no params is EarlyStopping all the same."""
    run = keras.run("stopped by Patient")
    assert [fit.outcome for fit in keras.store.fits(run.id)] == ["stopped_early"]
    assert [one.epoch for one in keras.store.events(run.id) if one.kind == "early_stopped"] == [1]


def test_a_loop_over_a_list_without_params(keras: Lab) -> None:
    """Its epochs are recorded, what cannot be known is said once, and that it is not resumed; no false warning."""
    facts = keras.said("loop_without_params")["loop"]
    run = keras.run("loop")
    assert [epoch.number for epoch in keras.store.epochs(run.id)] == [0, 1, 2]
    assert [fit.outcome for fit in keras.store.fits(run.id)] == ["completed"]
    assert keras.steps(run.id, "added") == [0, 1, 2]
    assert facts["problems"] == {"no_state": 1, "unknown_of_fit": 1}
    (unknown,) = [line for line in facts["said"] if "a loop of its own and" in line]
    assert "the batch size; the data; how many epochs are planned; how many steps an epoch has" in unknown
    assert not any("already" in line for line in facts["said"])


def test_a_loop_that_died_is_recorded_as_far_as_it_came(keras: Lab) -> None:
    """Nobody sees how it ended; with its run's end it is failed."""
    keras.said("loop_without_params")
    run = keras.run("loop that dies")
    assert [epoch.number for epoch in keras.store.epochs(run.id)] == [0, 1]
    assert [fit.outcome for fit in keras.store.fits(run.id)] == ["failed"]


def test_a_fit_that_died_has_ended_at_once(keras: Lab) -> None:
    """Its outcome is on record while its run goes on: failed, or stopped by an exit that is none of an error."""
    facts = keras.said("died_and_ended")
    assert (facts["3"], facts["0"]) == (["failed"], ["failed", "stopped"])


def test_evaluations_are_metrics(keras: Lab) -> None:
    """`evaluate()` is a series at the epoch that the model was at, which EarlyStopping may have gone back to."""
    facts, run = keras.said("evaluations"), keras.run("evaluations")
    for key in ("loss", "mae"):
        assert keras.steps(run.id, f"evaluate/{key}") == [1, 2]
        assert keras.values(run.id, f"evaluate/{key}") == pytest.approx([facts["first"][key], facts["restored"][key]])
        assert keras.store.metrics(run.id)[f"evaluate/{key}"].goal == "min"
    assert [event.epoch for event in keras.store.events(run.id) if event.kind == "evaluated"] == [1, 2]
    assert [epoch.number for epoch in keras.store.epochs(run.id)] == [0, 1, 2, 3]


def test_losses_of_single_outputs_have_a_goal(keras: Lab) -> None:
    """They are better small, as their sum is."""
    keras.said("two_losses")
    found = keras.store.metrics(keras.run("two_losses").id)
    assert [found[key].goal for key in ("loss", "a_loss", "b_loss")] == ["min", "min", "min"]


def test_a_histogram_says_what_it_left_out(keras: Lab) -> None:
    """Several NaN among the weights are counted on the log and in the run's problems."""
    facts = keras.said("two_losses")
    (said,) = [line for line in facts["said"] if "NaN or infinite" in line]
    assert "2 of the 3 values of" in said
    assert [count for kind, count in facts["problems"].items() if kind.startswith("histogram ")] == [1]


def test_runs_that_are_opened_here_are_described(keras: Lab) -> None:
    """TrackerCallback and autolog open runs of the experiment, name and tags that they were given."""
    facts = keras.said("runs_described")
    for who in ("callback", "autolog"):
        run = keras.run(f"by {who}")
        assert run.experiment == "described"
        assert keras.store.tags(run.id)["who"] == who
        assert len(keras.store.fits(run.id)) == 1
    assert "experiment" in facts["experiment"]
    assert "'other'" in facts["name"]
    assert "run.set_tags" in facts["tags"]


def test_states_that_could_not_be_saved_are_missed_aloud(keras: Lab) -> None:
    """In the first epoch, at the fit's end, when the run is opened again, and as its training begins anew."""
    facts = keras.said("states_missing")
    assert facts["same"]
    assert (facts["problems"]["no_state"], facts["problems"]["no_state_at_end"]) == (1, 1)
    assert sum("an epoch is over and no state to resume from was saved" in line for line in facts["said"]) == 1
    assert sum("the fit ended and no state to resume from was saved" in line for line in facts["said"]) == 1
    (before,) = facts["before"]
    assert "has 2 epochs, and none of its states could be saved" in before
    assert any("2 epochs and no state to go on from" in line for line in facts["again"])
