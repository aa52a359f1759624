"""Epochs, fits, phases and outcomes of real `fit()` calls. The numbers are those of the Keras facts that are tested."""

from __future__ import annotations

import math

import pytest
from e2e.keras_lab import Lab


def test_the_scenarios_ran_with_the_backend(keras: Lab) -> None:
    """Each backend's process really used that backend."""
    assert keras.said("backend")["name"] == keras.backend


def test_epochs_are_those_of_keras_history(keras: Lab) -> None:
    """Every metric of every epoch is recorded with Keras' own name and value, with the epoch's seconds."""
    history, run = keras.said("plain")["history"], keras.run("plain")
    epochs = keras.store.epochs(run.id)
    assert [epoch.number for epoch in epochs] == [0, 1, 2]
    for epoch in epochs:
        expected = {key: values[epoch.number] for key, values in history.items()}
        assert {key: value for key, value in epoch.metrics.items() if key != "learning_rate"} == expected
        assert epoch.seconds is not None
        assert 0 < epoch.seconds < 60
    assert run.best_epoch == min(range(3), key=lambda number: history["val_loss"][number])
    assert run.status == "finished"


def test_a_fit_knows_its_epochs_steps_and_batch_size(keras: Lab) -> None:
    """The fit's row has planned epochs, steps an epoch, and the batch size that Keras tells no callback."""
    (fit,) = keras.store.fits(keras.run("plain").id)
    assert (fit.number, fit.phase, fit.first_epoch, fit.epochs) == (1, 1, 0, 3)
    assert (fit.steps_per_epoch, fit.batch_size, fit.outcome) == (4, 5, "completed")
    assert fit.ended_ms is not None
    params = keras.store.params(keras.run("plain").id)
    assert (params["epochs"], params["steps_per_epoch"], params["batch_size"]) == (3, 4, 5)


def test_a_second_fit_is_a_phase_whose_epochs_go_on(keras: Lab) -> None:
    """A fit from Keras' epoch 0 in a run with epochs is a new phase, numbered on from the last."""
    first, second, _ = keras.store.fits(keras.run("phases").id)
    assert (first.phase, first.first_epoch, first.epochs) == (1, 0, 3)
    assert (second.phase, second.first_epoch, second.epochs) == (2, 3, 5)


def test_initial_epoch_continues_the_phase_and_supersedes(keras: Lab) -> None:
    """`initial_epoch=1` goes on in the phase that is there: its epochs replace those trained there before."""
    run = keras.run("phases")
    third = keras.store.fits(run.id)[2]
    assert (third.phase, third.first_epoch, third.epochs, third.resumed_from) == (2, 4, 7, 3)
    assert [(epoch.number, epoch.fit) for epoch in keras.store.epochs(run.id)] == [
        (0, 1), (1, 1), (2, 1), (3, 2), (4, 3), (5, 3), (6, 3),
    ]  # fmt: skip
    raw = keras.store.history(run.id, "loss", raw=True)
    assert [int(step) for step in raw.steps].count(4) == 2


def test_a_fit_without_epochs_is_recorded_and_explained(keras: Lab) -> None:
    """A fit that BackupAndRestore's leftover turns into nothing is on the record, hides nothing, and is explained."""
    facts, run = keras.said("empty_fits"), keras.run("empty_fits")
    trained, empty = keras.store.fits(run.id)
    assert [fit.outcome for fit in (trained, empty)] == ["completed", "completed"]
    assert [(epoch.number, epoch.fit) for epoch in keras.store.epochs(run.id)] == [(0, 1), (1, 1), (2, 1)]
    (said,) = facts["said"]
    assert "trained no epoch" in said
    assert "_initial_epoch = None" in said


def test_validation_inside_fit_is_no_evaluation(keras: Lab) -> None:
    """Validation is in the epoch's `val_` metrics alone, on the epochs that had one; `evaluate()` is one event."""
    result, run = keras.said("evaluation")["result"], keras.run("evaluation")
    assert keras.steps(run.id, "val_loss") == [1]
    evaluated = [event for event in keras.store.events(run.id) if event.kind == "evaluated"]
    assert [(event.epoch, event.detail["metrics"]) for event in evaluated] == [(1, pytest.approx(result))]
    assert len(keras.store.epochs(run.id)) == 2
    assert keras.keys(run.id) == {
        "loss", "mae", "val_loss", "val_mae", "learning_rate", "evaluate/loss", "evaluate/mae",
    }  # fmt: skip


def test_an_evaluation_in_the_middle_of_a_fit_does_not_disturb_it(keras: Lab) -> None:
    """Another model's `evaluate()` with our callback is an event; the fit goes on with its own model and params."""
    run = keras.run("evaluation_inside")
    assert [event.kind for event in keras.store.events(run.id)].count("evaluated") == 3
    assert keras.steps(run.id, "val_loss") == [0, 1, 2]
    assert keras.values(run.id, "learning_rate") == pytest.approx([0.01] * 3)
    assert keras.store.params(run.id)["epochs"] == 3


def test_12_outcomes_are_what_happened(keras: Lab) -> None:
    """Stopped early, stopped for NaN, ended with NaN, died, and completed after that: each says so."""
    fits = keras.store.fits(keras.run("outcomes").id)
    assert [fit.outcome for fit in fits] == ["stopped_early", "nan", "nan", "failed", "completed"]
    assert [fit.first_epoch for fit in fits] == [0, 2, 3, 4, 5]
    losses = keras.values(keras.run("outcomes").id, "loss")
    assert [math.isnan(loss) for loss in losses] == [False, False, True, True, False, False]
    told = [event for event in keras.store.events(keras.run("outcomes").id) if event.kind == "nan_detected"]
    nan = {"metric": "loss", "value": "NaN"}
    assert [(event.epoch, event.detail) for event in told] == [(2, {**nan, "by": "TerminateOnNaN"}), (3, nan)]


def test_an_evaluation_after_a_fit_that_died_is_recorded(keras: Lab) -> None:
    """Keras ends no fit that died; an `evaluate()` after it is nevertheless not taken for its validation."""
    events = keras.store.events(keras.run("outcomes").id)
    (evaluated,) = [event for event in events if event.kind == "evaluated"]
    assert "loss" in evaluated.detail["metrics"]


def test_keras_max_epochs_is_the_truth(keras: Lab) -> None:
    """A limit on epochs set in Keras is what the fit planned, not the argument."""
    (fit,) = keras.store.fits(keras.run("max_epochs").id)
    assert (fit.epochs, fit.outcome) == (2, "completed")


def test_20_any_form_of_callbacks_and_loops_of_the_users_own(keras: Lab) -> None:
    """A tuple of callbacks works, and so does a CallbackList that a loop with `train_on_batch` drives."""
    run = keras.run("other_lists")
    assert [fit.outcome for fit in keras.store.fits(run.id)] == ["completed", "completed"]
    assert [(epoch.number, epoch.fit) for epoch in keras.store.epochs(run.id)] == [(0, 1), (1, 1), (2, 2), (3, 2)]


def test_one_callback_serves_several_models_in_turns(keras: Lab) -> None:
    """Fits of two models with one callback are fits of one run, each with the rate of its own optimizer."""
    run = keras.run("two_models")
    assert len(keras.store.fits(run.id)) == 4
    assert keras.values(run.id, "learning_rate") == pytest.approx([0.01, 0.001, 0.01, 0.001])
    params = keras.store.params(run.id)
    assert (params["optimizer"], params["fit.2.optimizer"]) == ("SGD", "Adam")
    assert (params["model.name"], params["fit.2.model.name"]) == ("one", "two")


def test_odd_logs_cost_only_themselves(keras: Lab) -> None:
    """Strings, None and arrays among the logs are left out; one-element arrays and infinities are kept."""
    run = keras.run("odd_logs")
    (epoch,) = keras.store.epochs(run.id)
    assert set(epoch.metrics) == {"loss", "mae", "learning_rate", "one", "infinite"}
    assert epoch.metrics["one"] == 1.0
    assert math.isinf(epoch.metrics["infinite"])


def test_the_shared_logs_are_left_as_they_were(keras: Lab) -> None:
    """A callback after ours sees in `logs` what those before ours put there, and nothing more."""
    before, after = keras.said("odd_logs")["seen"]
    assert set(after) - set(before) == {"text", "nothing", "array", "one", "infinite"}


def test_without_a_run_the_callback_opens_one(keras: Lab) -> None:
    """One run for all fits and evaluations of a callback; a copy made before its first fit has its own."""
    facts = keras.said("runs_of_our_own")
    assert (facts["before"], facts["kept"], facts["status"]) == (None, True, "running")
    assert len(keras.store.fits(facts["first"])) == 2
    assert [event.kind for event in keras.store.events(facts["first"])].count("evaluated") == 1
    assert len(keras.store.fits(facts["copied"])) == 1
    assert facts["anew"]


def test_runs_that_callbacks_opened_end(keras: Lab) -> None:
    """The run of a callback that is gone is finished when the next is opened; the rest at the process's end."""
    facts = keras.said("runs_of_our_own")
    assert facts["dropped status"] == "finished"
    assert facts["alive"] == ["running", "running"]
    assert {keras.store.get_run(facts[name]).status for name in ("first", "copied", "dropped")} == {"finished"}


# -- the trainings ------------------------------------------------------------------------------------------------------


def scenarios() -> None:
    """Scenarios of epochs, fits, phases, evaluations and the runs that they belong to."""
    import contextlib
    import copy
    import io
    import warnings
    from typing import Any

    import keras
    import numpy as np
    from keras_bench import STEPS, Facts, X, Y, fit, linear, log_lines, scenario, verbose

    import tracker
    from tracker_keras import TrackerCallback

    @scenario
    def plain() -> Facts:
        with tracker.start_run(name="plain") as run:
            model = linear(metrics=["mae", keras.metrics.MeanSquaredError(name="squares")])
            history = fit(model, TrackerCallback(run), validation_data=(X, Y), epochs=3)
        return {"history": history.history}

    @scenario
    def phases() -> Facts:
        with tracker.start_run(name="phases") as run:
            model, callback = linear(), TrackerCallback(run)
            fit(model, callback, epochs=3)
            fit(model, callback, epochs=2)
            fit(model, callback, epochs=4, initial_epoch=1)
        return {}

    @scenario
    def evaluation() -> Facts:
        with tracker.start_run(name="evaluation") as run:
            model, callback = linear(), TrackerCallback(run)
            fit(model, callback, validation_data=(X, Y), validation_freq=2)
            result = model.evaluate(X, Y, verbose=verbose(), return_dict=True, callbacks=[callback])
            model.predict(X, verbose=verbose(), callbacks=[callback])
        return {"result": result}

    @scenario
    def evaluation_inside() -> Facts:
        """Somebody evaluates another model with the same callback in the middle of the fit."""
        other = linear(name="other", rate=0.5)

        class Evaluates(keras.callbacks.Callback):
            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                other.evaluate(X, Y, verbose=verbose(), callbacks=[callback])

        with tracker.start_run(name="evaluation_inside") as run:
            callback = TrackerCallback(run)
            fit(linear(), Evaluates(), callback, validation_data=(X, Y), epochs=3)
        return {}

    @scenario
    def empty_fits() -> Facts:
        with tracker.start_run(name="empty_fits") as run, log_lines() as said:
            model, callback = linear(), TrackerCallback(run)
            fit(model, callback, epochs=3)
            model._initial_epoch = 2  # what BackupAndRestore leaves behind
            fit(model, callback, epochs=2)
        return {"said": said}

    @scenario
    def max_epochs() -> Facts:
        keras.config.set_max_epochs(2)
        try:
            with tracker.start_run(name="max_epochs") as run, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                fit(linear(), TrackerCallback(run), epochs=5)
        finally:
            keras.config.set_max_epochs(None)
        return {}

    @scenario
    def outcomes() -> Facts:
        """Fits that end in every way. Our callback is first where one raises, since its epoch is counted."""

        class Dies(keras.callbacks.Callback):
            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                raise RuntimeError("the training died")

        with tracker.start_run(name="outcomes") as run:
            callback = TrackerCallback(run)
            fit(linear(), callback, keras.callbacks.EarlyStopping("loss", min_delta=1e9, patience=1), epochs=5)
            with contextlib.redirect_stdout(io.StringIO()):
                fit(linear(), callback, keras.callbacks.TerminateOnNaN(), x=X * np.nan, epochs=5)
            fit(linear(), callback, x=X * np.nan, epochs=1)
            with contextlib.suppress(RuntimeError):
                fit(linear(), callback, Dies(), epochs=5, ordered=True)
            linear().evaluate(X, Y, verbose=verbose(), callbacks=[callback])
            fit(linear(), callback, epochs=1)
        return {}

    @scenario
    def other_lists() -> Facts:
        """Callbacks as a tuple, and as a CallbackList of the user's own in a loop of the user's own."""
        with tracker.start_run(name="other_lists") as run:
            fit(linear(), callbacks=(TrackerCallback(run),))
            model, logs = linear(), {}
            callbacks = keras.callbacks.CallbackList([TrackerCallback(run)], model=model)
            callbacks.on_train_begin()
            for epoch in range(2):
                callbacks.on_epoch_begin(epoch)
                for batch in range(STEPS):
                    callbacks.on_train_batch_begin(batch)
                    logs = model.train_on_batch(X, Y, return_dict=True)
                    callbacks.on_train_batch_end(batch, logs)
                callbacks.on_epoch_end(epoch, logs)
            callbacks.on_train_end(logs)
        return {}

    @scenario
    def two_models() -> Facts:
        with tracker.start_run(name="two_models") as run:
            one, two, callback = linear(name="one"), linear("adam", name="two"), TrackerCallback(run)
            for _ in range(2):
                fit(one, callback, epochs=1)
                fit(two, callback, epochs=1)
        return {}

    @scenario
    def odd_logs() -> Facts:
        class Adds(keras.callbacks.Callback):
            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                logs.update(text="high", nothing=None, array=np.zeros(3), one=np.ones((1, 1)), infinite=float("inf"))

        seen: list[list[str]] = []

        class Looks(keras.callbacks.Callback):
            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                seen.append(sorted(logs))

        with tracker.start_run(name="odd_logs") as run:
            # Not drawn: with other values Keras' own progress bar averages the text and raises.
            fit(linear(), Looks(), Adds(), TrackerCallback(run), Looks(), epochs=1, verbose=0)
        return {"seen": seen}

    @scenario
    def runs_of_our_own() -> Facts:
        """Without a run the callback opens one, once; those of callbacks that are gone do not stay open."""
        callback = TrackerCallback()
        copied = copy.deepcopy(callback)
        before = callback.run
        fit(linear(), callback)
        first = callback.run
        fit(linear(), callback)
        linear().evaluate(X, Y, verbose=verbose(), callbacks=[callback])
        assert first is not None
        facts: Facts = {"before": before, "kept": callback.run is first, "first": first.id, "status": first.status}
        fit(linear(), copied)
        facts["copied"] = copied.run.id if copied.run else None
        dropped = TrackerCallback()
        fit(linear(), dropped)
        run = dropped.run
        del dropped
        fit(linear(), TrackerCallback())
        facts["dropped"], facts["dropped status"] = run.id if run else None, run.status if run else None
        facts["alive"] = [first.status, copied.run.status if copied.run else None]
        first.finish()
        fit(linear(), callback)
        facts["anew"] = callback.run is not first
        return facts
