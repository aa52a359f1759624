"""`autolog()`, and loops without `fit()`. The numbers are those of the Keras facts that are tested."""

from __future__ import annotations

from e2e.keras_lab import Lab


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
    """Positional arguments after the callbacks are passed on: here `validation_split`."""
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


# -- the trainings ------------------------------------------------------------------------------------------------------


def scenarios() -> None:
    """Scenarios of fits that nobody passed a callback to, and of training loops without any `fit()`."""
    import contextlib
    import functools
    import inspect
    import threading
    from collections.abc import Callable, Iterator
    from typing import Any

    import keras
    from keras_bench import BATCH, STEPS, Facts, X, Y, fit, linear, scenario, verbose

    import tracker
    from tracker.client.lifecycle import open_runs
    from tracker.domain.errors import InvalidValue
    from tracker_keras import TrackerCallback, autolog, describe, log_data

    @contextlib.contextmanager
    def recorded(**options: Any) -> Iterator[None]:
        """With `autolog()`, and without it afterwards."""
        autolog(**options)
        try:
            yield
        finally:
            autolog(disable=True)

    class Seen(keras.callbacks.Callback):
        """The run that was opened last as an epoch ended."""

        def __init__(self) -> None:
            super().__init__()
            self.run: Any = None

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.run = open_runs()[-1]

    @scenario
    def autolog_forms() -> Facts:
        """Callbacks passed in every way that Keras takes."""
        model, one = linear(), keras.callbacks.Callback
        whole = keras.callbacks.CallbackList([one()], model=model, epochs=1, steps=STEPS)
        given: list[Any] = [one()]
        forms: dict[str, Callable[[], Any]] = {
            "absent": lambda: model.fit(X, Y, BATCH, 1, verbose()),
            "None": lambda: model.fit(X, Y, BATCH, 1, verbose(), callbacks=None),
            "positional": lambda: model.fit(X, Y, BATCH, 1, verbose(), given),
            "positional None": lambda: model.fit(X, Y, BATCH, 1, verbose(), None, 0.25),
            "empty": lambda: model.fit(X, Y, BATCH, 1, verbose(), callbacks=[]),
            "tuple": lambda: model.fit(X, Y, BATCH, 1, verbose(), callbacks=(one(), one())),
            "nested": lambda: model.fit(X, Y, BATCH, 1, verbose(), callbacks=[[one()], (one(), [one()])]),
            "single": lambda: model.fit(X, Y, BATCH, 1, verbose(), callbacks=one()),
            "CallbackList": lambda: model.fit(X, Y, BATCH, 1, verbose(), callbacks=whole),
        }
        size = len(whole.callbacks)
        with recorded():
            for name, call in forms.items():
                with tracker.start_run(name=f"autolog {name}"):
                    call()
            with tracker.start_run(name="autolog brings its own") as run:
                fit(model, TrackerCallback(run), epochs=1)
        return {"forms": list(forms), "left": len(given), "size": [size, len(whole.callbacks)]}

    @scenario
    def autolog_patch() -> Facts:
        """What `keras.Model.fit` is meanwhile and afterwards, also with another tool's wrapper on top."""
        before = keras.Model.fit
        facts: Facts = {}
        with recorded():
            facts["once"] = keras.Model.fit is before
            facts["same face"] = (
                inspect.signature(before) == inspect.signature(before.__wrapped__)
                and before.__doc__ == before.__wrapped__.__doc__
            )
        with contextlib.suppress(InvalidValue):
            autolog(log_batches=-1)

        @functools.wraps(before)
        def theirs(*args: Any, **kwargs: Any) -> Any:
            return before(*args, **kwargs)

        keras.Model.fit = theirs
        with tracker.start_run(name="autolog below another"):
            with recorded():
                linear().fit(X, Y, BATCH, 1, verbose())
            facts["left alone"] = keras.Model.fit is theirs
            linear().fit(X, Y, BATCH, 1, verbose())
            with recorded():
                linear().fit(X, Y, BATCH, 1, verbose())
        del keras.Model.fit  # a tool that took away what it found, and ours with it
        with recorded(), tracker.start_run(name="autolog again"):
            linear().fit(X, Y, BATCH, 1, verbose())
        keras.Model.fit = before
        return facts

    @scenario
    def autolog_runs() -> Facts:
        """Runs of fits for which none is open; one of them dies, one is interrupted."""
        seen = [Seen() for _ in range(4)]

        class Dies(keras.callbacks.Callback):
            def __init__(self, error: BaseException) -> None:
                super().__init__()
                self.error = error

            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                raise self.error

        raised = []
        with recorded(log_batches=2):
            fit(linear(), seen[0])
            fit(linear(), seen[1])
            for index, error in ((2, RuntimeError("the training died")), (3, KeyboardInterrupt())):
                try:
                    fit(linear(), seen[index], Dies(error))
                except BaseException as came:
                    raised.append(came is error)
        return {"runs": [one.run.id for one in seen], "ended": [one.run.status for one in seen], "raised": raised}

    @scenario
    def autolog_open_run() -> Facts:
        """Several fits in the open run, one that dies among them."""

        class Dies(keras.callbacks.Callback):
            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                if epoch == 1:
                    raise RuntimeError("the training died")

        model = linear()
        with recorded(), tracker.start_run(name="autolog_open_run"):
            fit(model)
            with contextlib.suppress(RuntimeError):
                fit(model, Dies())
            fit(model)
        return {}

    @scenario
    def autolog_nested() -> Facts:
        """A subclass with a `fit()` of its own, and a fit inside a callback of another."""
        seen = Seen()

        class Own(keras.Model):
            def __init__(self) -> None:
                super().__init__()
                self.dense = keras.layers.Dense(1)

            def call(self, inputs: Any) -> Any:
                return self.dense(inputs)

            def fit(self, x: Any, callbacks: Any = None, **kwargs: Any) -> Any:
                return super().fit(x, kwargs.pop("y"), callbacks=callbacks, **kwargs)

        class Inner(keras.callbacks.Callback):
            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                if epoch == 1:
                    fit(linear(name="inner"), seen, epochs=1)

        model = Own()
        model.compile("sgd", "mse")
        with recorded(), tracker.start_run(name="autolog_nested") as run:
            fit(model, Inner(), epochs=3)
        return {"outer": run.id, "inner": seen.run.id}

    @scenario
    def autolog_threads() -> Facts:
        """Two threads train at once, each with a run of its own open."""
        together = threading.Barrier(2)

        class Meets(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
                together.wait(60)

        def train(name: str) -> None:
            with tracker.start_run(name=name):
                fit(linear(), Meets(), epochs=2)

        with recorded():
            threads = [threading.Thread(target=train, args=(f"autolog thread {index}",)) for index in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(120)
        return {}

    @scenario
    def custom_loop() -> Facts:
        """A training loop without `fit()`: with a GradientTape on TensorFlow, with train_on_batch on the others."""
        model, losses = linear(), []
        with tracker.start_run(name="custom_loop") as run:
            describe(run, model)
            log_data(run, X, Y)
            log_data(run, X[:4], Y[:4], context="validation")
            for _ in range(2):
                with run.start_fit(epochs=2, steps_per_epoch=STEPS, batch_size=BATCH) as recorder:
                    for epoch in range(2):
                        for batch in range(STEPS):
                            part = slice(batch * BATCH, (batch + 1) * BATCH)
                            loss = _step(model, X[part], Y[part])
                            recorder.log_batch(epoch * STEPS + batch + 1, {"batch/loss": loss})
                        losses.append(loss)
                        recorder.log_epoch(epoch, {"loss": loss}, steps=(epoch + 1) * STEPS)
        return {"losses": losses}

    def _step(model: Any, x: Any, y: Any) -> float:
        if keras.backend.backend() != "tensorflow":
            return float(model.train_on_batch(x, y, return_dict=True)["loss"])
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = keras.ops.mean(keras.losses.mean_squared_error(y, model(x, training=True)))
        model.optimizer.apply(tape.gradient(loss, model.trainable_weights), model.trainable_weights)
        return float(loss)
