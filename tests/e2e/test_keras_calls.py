"""What is recorded of a fit does not depend on how `fit()` was called."""

from __future__ import annotations

import pytest
from e2e.keras_lab import Lab


def test_verbose_and_place_change_nothing(keras: Lab) -> None:
    """Whatever `verbose` is and wherever our callback is in the list: each epoch's rate, its state, and no problems."""
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
    """A metric that another callback adds to the logs after ours was called is recorded, also if it is in an outer list."""
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
    """In the first epoch, at the fit's end, when the run is opened again, and as its training starts from the beginning."""
    facts = keras.said("states_missing")
    assert facts["same"]
    assert (facts["problems"]["no_state"], facts["problems"]["no_state_at_end"]) == (1, 1)
    assert sum("an epoch is over and no state to resume from was saved" in line for line in facts["said"]) == 1
    assert sum("the fit ended and no state to resume from was saved" in line for line in facts["said"]) == 1
    (before,) = facts["before"]
    assert "has 2 epochs, and none of its states could be saved" in before
    assert any("2 epochs and no state to resume from" in line for line in facts["again"])


# -- the trainings ------------------------------------------------------------------------------------------------------


def scenarios() -> None:
    """Scenarios of the same training, called in many ways: what is recorded of it must not depend on how."""
    import contextlib
    import functools
    import io
    from collections.abc import Callable, Mapping
    from typing import Any

    import keras
    import numpy as np
    from keras_bench import BATCH, Facts, Truth, X, Y, anywhere, linear, log_lines, scenario, verbose

    import tracker
    from tracker.domain.errors import InvalidValue
    from tracker_keras import TrackerCallback, autolog

    stock = keras.callbacks
    VERBOSE: Mapping[str, dict[str, Any]] = {
        "0": {"verbose": 0},
        "1": {"verbose": 1},
        "2": {"verbose": 2},
        "auto": {"verbose": "auto"},
        "not given": {},
    }
    PLACES = ("first", "middle", "last")

    def put(ours: Any, others: list[Any], place: str) -> list[Any]:
        """`others` with `ours` among them."""
        index = {"first": 0, "middle": len(others) // 2, "last": len(others)}[place]
        return [*others[:index], ours, *others[index:]]

    def beside() -> list[Any]:
        """Callbacks that decide something at the end of each epoch; Truth notes what was."""
        return [
            Truth(),
            stock.ReduceLROnPlateau("loss", patience=1, min_delta=1e9, factor=0.5),
            stock.EarlyStopping("loss", patience=9, restore_best_weights=True),
        ]

    @scenario
    def called_with_verbose() -> Facts:
        """`fit(verbose=…)` in every form, with our callback first, in the middle and last."""
        facts: Facts = {"runs": {}}
        model = linear()
        for form, given in VERBOSE.items():
            for place in PLACES:
                name, others = f"verbose {form}, {place}", beside()
                model.optimizer.learning_rate = 0.01
                with (
                    log_lines() as said,
                    tracker.start_run(name=name) as run,
                    contextlib.redirect_stdout(io.StringIO()),
                ):
                    callbacks = put(TrackerCallback(run, resume=True), others, place)
                    history = model.fit(X, Y, batch_size=BATCH, epochs=4, callbacks=callbacks, **given)
                facts["runs"][name] = {"rates": others[0].rates, "loss": history.history["loss"], "said": said}
        return facts

    class Overrides(stock.Callback):
        """Keeps neither the params nor the model that Keras gives it."""

        def set_params(self, params: Any) -> None:
            self.given = params

        def set_model(self, model: Any) -> None:
            self.trained = model

    class Adds(stock.Callback):
        """Puts a metric of its own among the logs, as an epoch ends."""

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            logs["added"] = 10.0 + epoch

    class Evaluates(stock.Callback):
        """Evaluates the model in the middle of the fit, with the same callbacks."""

        def __init__(self) -> None:
            super().__init__()
            self.callbacks: list[Any] = []

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.evaluate(X, Y, verbose=verbose(), callbacks=self.callbacks)

    @scenario
    def called_in_forms() -> Facts:
        """The callbacks in every form that Keras takes, and `fit` itself in some."""
        facts: Facts = {"runs": {}}
        model = linear()
        given: dict[str, Any] = {"batch_size": BATCH, "epochs": 2, "shuffle": False, "verbose": verbose()}
        forms: Mapping[str, Callable[[Any], Any]] = {
            "alone": lambda ours: model.fit(X, Y, callbacks=ours, **given),
            "mapping": lambda ours: model.fit(X, Y, callbacks={"ours": ours, "other": Overrides()}, **given),
            "tuple": lambda ours: model.fit(X, Y, callbacks=(Overrides(), ours), **given),
            "nested": lambda ours: model.fit(
                X, Y, callbacks=[stock.CallbackList([ours], model=model), Adds()], **given
            ),
            "positional": lambda ours: model.fit(X, Y, BATCH, 2, verbose(), [ours], shuffle=False),
            "partial": lambda ours: functools.partial(model.fit, X, Y, **given)(callbacks=[ours]),
            "whole list": lambda ours: model.fit(
                X, Y, callbacks=stock.CallbackList([ours], add_history=True, model=model), **given
            ),
            "hostile": lambda ours: model.fit(X, Y, callbacks=hostile(ours), **given),
        }

        def hostile(ours: Any) -> list[Any]:
            evaluates = Evaluates()
            evaluates.callbacks = [Overrides(), evaluates, ours, Adds(), stock.History()]
            return evaluates.callbacks

        for form, call in forms.items():
            name = f"form {form}"
            with log_lines() as said, tracker.start_run(name=name) as run, contextlib.redirect_stdout(io.StringIO()):
                history = call(TrackerCallback(run, resume=True, checkpoint=2, log_batches=1))
                run.in_background(lambda: None).result(60)
                facts["runs"][name] = {"history": history.history, "said": said, "problems": dict(run.problems)}
        return facts

    @scenario
    def stopped_by_callbacks() -> Facts:
        """Callbacks of the user's own that end a training, as an epoch ends or in its batches."""

        class AtEpochEnd(stock.Callback):
            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                self.model.stop_training = epoch == 1

        class InBatch(stock.Callback):
            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                if batch == 1:
                    self.model.stop_training = True

        class Patient(stock.EarlyStopping):
            def set_params(self, params: Any) -> None:
                """Keeps none."""

        model = linear()
        lambdas = stock.LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", True))
        stoppers = {
            "AtEpochEnd": AtEpochEnd(),
            "InBatch": InBatch(),
            "LambdaCallback": lambdas,
            "Patient": Patient("loss", patience=1, min_delta=1e9),
        }
        for name, stopper in stoppers.items():
            with tracker.start_run(name=f"stopped by {name}") as run, contextlib.redirect_stdout(io.StringIO()):
                callbacks = anywhere([stock.CSVLogger("log.csv"), TrackerCallback(run), stopper, Adds()])
                model.fit(X, Y, batch_size=BATCH, epochs=5, verbose=verbose(), callbacks=callbacks)
        return {"names": list(stoppers)}

    @scenario
    def loop_without_params() -> Facts:
        """A loop of the user's own over a CallbackList that was given nothing, with a wish to be resumed; one that dies."""
        facts: Facts = {}
        for name, dies in (("loop", False), ("loop that dies", True)):
            with log_lines() as said, tracker.start_run(name=name) as run, contextlib.suppress(ZeroDivisionError):
                model, logs = linear(), {}
                callbacks = stock.CallbackList([Adds(), TrackerCallback(run, resume=True)], model=model)
                callbacks.on_train_begin()
                for epoch in range(3):
                    callbacks.on_epoch_begin(epoch)
                    logs = model.train_on_batch(X, Y, return_dict=True)
                    callbacks.on_epoch_end(epoch, logs)
                    _ = 1 / (epoch - 1 if dies else 1)
                callbacks.on_train_end(logs)
            facts[name] = {"said": said, "problems": dict(run.problems)}
        return facts

    @scenario
    def died_and_ended() -> Facts:
        """What the record says of a fit right after it died, while its run goes on."""

        class Dies(stock.Callback):
            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                raise SystemExit(self.code)

        facts: Facts = {}
        with tracker.start_run(name="died_and_ended") as run:
            for code in (3, 0):
                dies = Dies()
                dies.code = code
                with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
                    linear().fit(X, Y, batch_size=BATCH, verbose=verbose(), callbacks=[dies, TrackerCallback(run)])
                run.flush()
                with contextlib.closing(tracker.open_store()) as store:
                    facts[str(code)] = [fit.outcome for fit in store.fits(run.id)]
        return facts

    @scenario
    def evaluations() -> Facts:
        """`evaluate()` after a fit, and after EarlyStopping went back."""
        facts: Facts = {}
        with tracker.start_run(name="evaluations") as run, contextlib.redirect_stdout(io.StringIO()):
            model, callback = linear(), TrackerCallback(run)
            model.fit(X, Y, batch_size=BATCH, epochs=2, verbose=verbose(), callbacks=[callback])
            facts["first"] = model.evaluate(X, Y, verbose=verbose(), callbacks=[callback], return_dict=True)
            early = stock.EarlyStopping("loss", patience=1, min_delta=1e9, restore_best_weights=True)
            model.fit(X, Y, batch_size=BATCH, epochs=5, verbose=verbose(), callbacks=anywhere([early, callback]))
            facts["restored"] = model.evaluate(X, Y, verbose=verbose(), callbacks=[callback], return_dict=True)
        return facts

    @scenario
    def two_losses() -> Facts:
        """Two outputs, whose losses are metrics too; and weights with NaN among them."""
        inputs = keras.Input((3,))
        outputs = {"a": keras.layers.Dense(1, name="a")(inputs), "b": keras.layers.Dense(1, name="b")(inputs)}
        model = keras.Model(inputs, outputs)
        model.compile("sgd", {"a": "mse", "b": "mae"})
        with tracker.start_run(name="two_losses") as run, contextlib.redirect_stdout(io.StringIO()):
            model.fit(X, {"a": Y, "b": Y}, verbose=verbose(), callbacks=[TrackerCallback(run)])
        spoiled = linear()
        weights = spoiled.get_weights()
        weights[0][:2] = np.nan
        spoiled.set_weights(weights)
        with log_lines() as said, tracker.start_run(name="spoiled") as run, contextlib.redirect_stdout(io.StringIO()):
            callbacks = [Spoils(weights), TrackerCallback(run, histograms=1)]
            spoiled.fit(X, Y, epochs=1, verbose=verbose(), callbacks=callbacks)
            run.in_background(lambda: None).result(60)
            problems = dict(run.problems)
        return {"said": said, "problems": problems}

    class Spoils(stock.Callback):
        """Sets weights as an epoch ends."""

        def __init__(self, weights: list[Any]) -> None:
            super().__init__()
            self.weights = weights

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.set_weights(self.weights)

    @scenario
    def runs_described() -> Facts:
        """Runs that a callback and autolog open, with an experiment, a name and tags."""
        facts: Facts = {}
        with contextlib.redirect_stdout(io.StringIO()):
            callback = TrackerCallback(experiment="described", name="by callback", tags={"who": "callback"})
            linear().fit(X, Y, verbose=verbose(), callbacks=[callback])
            autolog(experiment="described", name="by autolog", tags={"who": "autolog"})
            try:
                linear().fit(X, Y, verbose=verbose())
            finally:
                autolog(disable=True)
            with tracker.start_run("described", name="mine") as run:
                TrackerCallback(run, experiment="described", name="mine")
                for contradiction in ({"experiment": "other"}, {"name": "other"}, {"tags": {"a": "b"}}):
                    try:
                        TrackerCallback(run, **contradiction)
                    except InvalidValue as error:
                        facts[next(iter(contradiction))] = str(error)
        return facts

    @scenario
    def states_missing() -> Facts:
        """A training that asked for states, of which none could be saved, and one that is started again after it."""
        model = linear()
        model.save_weights = lambda path: 1 / 0
        facts: Facts = {}
        with log_lines() as said, tracker.start_run(name="states_missing") as run:
            with contextlib.redirect_stdout(io.StringIO()):
                model.fit(X, Y, epochs=2, verbose=verbose(), callbacks=[TrackerCallback(run, resume=True)])
            run.in_background(lambda: None).result(60)
            facts["problems"] = dict(run.problems)
            run.finish("failed")
        facts["said"] = said
        with log_lines() as said, tracker.start_run(name="states_missing", resume="auto") as again:
            facts["same"], facts["before"] = again.id == run.id, list(said)
            with contextlib.redirect_stdout(io.StringIO()):
                linear().fit(X, Y, epochs=1, verbose=verbose(), callbacks=[TrackerCallback(again, resume=True)])
        facts["again"] = said
        return facts
