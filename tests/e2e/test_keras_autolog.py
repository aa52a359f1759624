"""`autolog()`, and loops without `fit()`. The numbers are those of the Keras facts that are tested."""

from __future__ import annotations

from e2e.keras_lab import Lab

SCENARIOS = ("autolog",)


def test_callbacks_in_every_form_are_recorded(keras: Lab) -> None:
    """However its callbacks were passed, a fit is in the open run, once, and the user's lists are as they were."""
    facts = keras.said("autolog_forms")
    for form in [*facts["forms"], "brings its own"]:
        run = keras.run(f"autolog {form}")
        assert [fit.outcome for fit in keras.store.fits(run.id)] == ["completed"], form
        assert keras.steps(run.id, "loss") == [0], form
        assert run.status == "finished"
    assert facts["left"] == 1
    assert facts["size"][0] == facts["size"][1]


def test_arguments_beside_the_callbacks_are_the_users(keras: Lab) -> None:
    """What stands after the callbacks among positional arguments still arrives: here `validation_split`."""
    assert keras.steps(keras.run("autolog positional None").id, "val_loss") == [0]
    assert "val_loss" not in keras.store.metrics(keras.run("autolog positional").id)


def test_autolog_changes_nothing_that_others_see(keras: Lab) -> None:
    """`keras.Model.fit` is wrapped once, keeps its signature and docstring, and is the same with and without autolog."""
    facts = keras.said("autolog_patch")
    assert {name: facts[name] for name in ("once", "same face")} == {"once": True, "same face": True}


def test_autolog_works_below_another_tool(keras: Lab) -> None:
    """Another tool's wrapper on top stays and fits are recorded once; one that took ours away does not silence it."""
    assert keras.said("autolog_patch")["left alone"]
    assert len(keras.store.fits(keras.run("autolog below another").id)) == 2
    assert len(keras.store.fits(keras.run("autolog again").id)) == 1


def test_a_fit_without_a_run_has_its_own_which_ends_with_it(keras: Lab) -> None:
    """Each fit's run is over as the fit is, and says how: also when it died, with the error, or was interrupted."""
    facts = keras.said("autolog_runs")
    assert facts["ended"] == ["finished", "finished", "failed", "interrupted"]
    assert facts["raised"] == [True, True]
    assert len(set(facts["runs"])) == 4
    for run, status, outcome in zip(
        facts["runs"], facts["ended"], ("completed", "completed", "failed", "interrupted"), strict=True
    ):
        assert keras.store.get_run(run).status == status
        assert [fit.outcome for fit in keras.store.fits(run)] == [outcome]
    (failed,) = [event for event in keras.store.events(facts["runs"][2]) if event.kind == "run_failed"]
    assert failed.detail["message"] == "the training died"
    assert keras.steps(facts["runs"][0], "batch/loss") == [2, 4, 6, 8]


def test_19_fits_of_the_open_run_are_its_phases(keras: Lab) -> None:
    """Fits in an open run follow one another; one that died is failed at once, and the model is described once."""
    run = keras.run("autolog_open_run")
    fits = keras.store.fits(run.id)
    assert [(fit.number, fit.phase, fit.first_epoch, fit.outcome) for fit in fits] == [
        (1, 1, 0, "completed"), (2, 2, 2, "failed"), (3, 3, 4, "completed"),
    ]  # fmt: skip
    assert fits[1].ended_ms is not None
    assert fits[1].ended_ms <= fits[2].started_ms
    assert run.status == "finished"
    assert keras.text(run, "model/summary.txt") is not None
    assert keras.text(run, "model/fit.2/summary.txt") is None


def test_a_subclass_with_its_own_fit_is_recorded_once(keras: Lab) -> None:
    """A model whose `fit()` calls its parent's has one fit on record."""
    run = keras.run("autolog_nested")
    assert [fit.outcome for fit in keras.store.fits(run.id)] == ["completed"]
    assert keras.steps(run.id, "loss") == [0, 1, 2]


def test_a_fit_inside_a_fit_has_a_run_of_its_own(keras: Lab) -> None:
    """It disturbs nothing of the outer one, which is its parent in MLflow's words."""
    facts = keras.said("autolog_nested")
    assert facts["inner"] != facts["outer"]
    assert [fit.outcome for fit in keras.store.fits(facts["inner"])] == ["completed"]
    assert keras.store.tags(facts["inner"])["mlflow.parentRunId"] == facts["outer"]
    assert keras.store.get_run(facts["inner"]).status == "finished"


def test_autolog_keeps_threads_apart(keras: Lab) -> None:
    """Of two threads that train at once, each has its fit in the run that it opened."""
    keras.said("autolog_threads")
    for name in ("autolog thread 0", "autolog thread 1"):
        assert [fit.outcome for fit in keras.store.fits(keras.run(name).id)] == ["completed"]
        assert keras.steps(keras.run(name).id, "loss") == [0, 1]


def test_a_loop_without_fit_has_the_same_record(keras: Lab) -> None:
    """A GradientTape loop and a train_on_batch loop have fits, epochs, steps, a model and data on record."""
    run, losses = keras.run("custom_loop"), keras.said("custom_loop")["losses"]
    fits = keras.store.fits(run.id)
    assert [(fit.number, fit.phase, fit.first_epoch, fit.outcome) for fit in fits] == [
        (1, 1, 0, "completed"), (2, 2, 2, "completed"),
    ]  # fmt: skip
    assert keras.values(run.id, "loss") == losses
    assert keras.steps(run.id, "batch/loss") == list(range(1, 17))
    params = keras.store.params(run.id)
    assert (params["optimizer"], params["model.params"]) == ("SGD", 4)
    assert (params["data.samples"], params["data.validation.samples"]) == (20, 4)
    assert keras.text(run, "model/architecture.json") is not None
