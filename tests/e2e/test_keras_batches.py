"""Batch logging: at the right steps, and without a hook where nobody asked for it."""

from __future__ import annotations

import pytest
from e2e.keras_lab import Lab


def test_every_n_steps(keras: Lab) -> None:
    """`log_batches=3` records each metric of the batch logs at every third step of the optimizer, across epochs."""
    run = keras.run("batches.single")
    assert keras.steps(run.id, "batch/loss") == [3, 6, 9, 12, 15, 18]
    assert keras.steps(run.id, "batch/mae") == [3, 6, 9, 12, 15, 18]
    assert keras.store.metrics(run.id)["batch/loss"].axis == "step"


def test_steps_per_execution(keras: Lab) -> None:
    """With three steps an execution, and ten an epoch, steps are the optimizer's own: none is beyond the tenth."""
    assert keras.said("batches")["several"] == [10, 20]
    assert keras.steps(keras.run("batches.several").id, "batch/loss") == [3, 6, 9, 10, 13, 16, 19, 20]


def test_multiples_that_are_crossed(keras: Lab) -> None:
    """A multiple that falls inside an execution is recorded at its end, not missed."""
    assert keras.steps(keras.run("batches.rarely").id, "batch/loss") == [6, 10, 16, 20]


def test_8_the_last_step_of_data_of_unknown_length(keras: Lab) -> None:
    """Where Keras knows no number of steps, the last execution's overshoot is found out all the same."""
    assert keras.said("batches_of_unknown_length")["iterations"] == [20]
    assert keras.steps(keras.run("batches_of_unknown_length").id, "batch/loss") == [3, 6, 9, 12, 15, 18, 20]


def test_no_batch_hook_unless_asked(keras: Lab) -> None:
    """Neither the class nor an object that logs no batches defines a batch hook, nor is one left after a fit."""
    facts = keras.said("hooks")
    assert (facts["defined"], facts["on the object"], facts["left on the object"]) == ([], [], [])


def test_dispatch_stays_as_asynchronous_as_it_was(keras: Lab) -> None:
    """With us, and even with batch logging, callbacks are dispatched as they are without us."""
    facts = keras.said("hooks")
    assert facts["async without us"] is (keras.backend != "tensorflow")
    assert facts["async with us"] is facts["async with batches"] is facts["async without us"]


def test_the_model_is_not_synchronised_each_batch(keras: Lab) -> None:
    """On JAX, where each look at the model in an epoch costs a synchronisation, batch logging takes none."""
    facts = keras.said("hooks")
    assert facts["syncs with us"] == facts["syncs with batches"] == facts["syncs without us"]


def test_all_batches_arrive_whatever_thread_they_come_in(keras: Lab) -> None:
    """Each of the steps is recorded once, in order, though JAX runs the hooks in a pool of threads."""
    assert keras.steps(keras.run("hooks").id, "batch/loss") == list(range(41, 81))


def test_a_subclass_keeps_its_own_batch_hook(keras: Lab) -> None:
    """A batch hook that a subclass of ours defines is called as well as ours, and is not declared as async-safe to Keras."""
    facts = keras.said("subclass_of_ours")
    assert facts["seen"] == [0, 1, 2, 3]
    assert facts["async safe"] is False
    assert keras.steps(keras.run("subclass_of_ours").id, "batch/loss") == [1, 2, 3, 4]


def test_what_the_data_does_not_say_is_not_invented(keras: Lab) -> None:
    """A stream of unknown length has neither steps an epoch nor a batch size on its record."""
    run = keras.run("batches_of_unknown_length")
    (fit,) = keras.store.fits(run.id)
    assert (fit.steps_per_epoch, fit.batch_size) == (None, None)
    assert not {"steps_per_epoch", "batch_size"} & set(keras.store.params(run.id))


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
    assert "not recorded of it: the batch size; the data; how it ends, if an exception ends it (logged once" in said


def test_a_schedule(keras: Lab) -> None:
    """An optimizer's schedule changes the rate from epoch to epoch, as the series shows it."""
    rates = keras.said("rates_of_a_schedule")["rates"]
    assert keras.told("rates_of_a_schedule", "learning_rate_changed") == [
        (epoch, {"from": pytest.approx(rates[epoch - 1]), "to": pytest.approx(rates[epoch]), "by": "schedule"})
        for epoch in (1, 2, 3)
    ]
    assert keras.told("rates_of_a_function", "learning_rate_changed") == []


# -- the trainings ------------------------------------------------------------------------------------------------------


def scenarios() -> None:
    """Scenarios of what changes from step to step and epoch to epoch: learning rates, batches."""
    import warnings
    from collections.abc import Iterator
    from typing import Any

    import keras
    from keras_bench import STEPS, Facts, Truth, X, Y, fit, linear, log_lines, scenario, verbose

    import tracker
    from tracker_keras import TrackerCallback

    def _recorded_rates(name: str, model: Any, *around: Any, **arguments: Any) -> Facts:
        """Fit with `around`, in which None marks the place of TrackerCallback: the places are compared."""
        with tracker.start_run(name=name) as run:
            truth = Truth()
            fit(
                model,
                *(TrackerCallback(run) if one is None else one for one in around),
                truth,
                epochs=4,
                ordered=True,
                **arguments,
            )
        return {"rates": truth.rates}

    @scenario
    def rates() -> Facts:
        def scheduler() -> Any:
            return keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.01 / (epoch + 1))

        def plateau() -> Any:
            return keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9)

        around = {
            "scheduler_before": (scheduler(), None),
            "scheduler_after": (None, scheduler()),
            "plateau_before": (plateau(), None),
            "plateau_after": (None, plateau()),
            "two_plateaus_before": (plateau(), plateau(), None),
            "around": (plateau(), None, scheduler()),
        }
        return {
            name: _recorded_rates(f"rates.{name}", linear(), *callbacks)["rates"] for name, callbacks in around.items()
        }

    @scenario
    def rates_of_a_schedule() -> Facts:
        stairs = keras.optimizers.schedules.ExponentialDecay(0.1, decay_steps=STEPS, decay_rate=0.5, staircase=True)
        return _recorded_rates("rates_of_a_schedule", linear(keras.optimizers.SGD(stairs)), None)

    @scenario
    def rates_of_a_function() -> Facts:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            facts = _recorded_rates("rates_of_a_function", linear(keras.optimizers.SGD(lambda: 0.025)), None)
        return {**facts, "warned": [str(warning.message) for warning in warned]}

    @scenario
    def no_optimizer() -> Facts:
        """A model that learns nothing can be compiled without an optimizer; no backend's own loop will train it."""
        with tracker.start_run(name="no_optimizer") as run, log_lines() as said:
            model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Rescaling(2.0)])
            model.compile(optimizer=None, loss="mse")
            callbacks = keras.callbacks.CallbackList(
                [TrackerCallback(run, log_batches=1)], model=model, epochs=1, steps=2
            )
            callbacks.on_train_begin()
            callbacks.on_epoch_begin(0)
            for batch in range(2):
                callbacks.on_train_batch_begin(batch)
                callbacks.on_train_batch_end(batch, {"loss": 1.0})
            callbacks.on_epoch_end(0, {"loss": 1.0})
            callbacks.on_train_end()
        return {"said": said}

    @scenario
    def batches() -> Facts:
        facts: Facts = {}
        for name, steps_at_once, every in (("single", 1, 3), ("several", 3, 1), ("rarely", 3, 5)):
            with tracker.start_run(name=f"batches.{name}") as run:
                truth = Truth()
                callbacks = (TrackerCallback(run, log_batches=every), truth)
                fit(linear(steps_per_execution=steps_at_once), *callbacks, batch_size=2)  # 10 steps an epoch
            facts[name] = truth.iterations
        return facts

    @scenario
    def batches_of_unknown_length() -> Facts:
        def data() -> Iterator[Any]:
            for _ in range(2):  # two epochs of ten steps, as one stream that nobody knows the length of
                for start in range(0, 20, 2):
                    yield X[start : start + 2], Y[start : start + 2]

        class Batches(keras.utils.PyDataset):
            def __len__(self) -> int:
                return 10

            def __getitem__(self, index: int) -> Any:
                return X[index * 2 : index * 2 + 2], Y[index * 2 : index * 2 + 2]

        with tracker.start_run(name="batches_of_unknown_length") as run, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            truth = Truth()
            stream = linear(steps_per_execution=3)
            stream.fit(data(), epochs=1, verbose=verbose(), callbacks=[TrackerCallback(run, log_batches=1), truth])
        with tracker.start_run(name="batches_of_unknown_length.set") as run:
            linear().fit(Batches(), epochs=1, verbose=verbose(), callbacks=[TrackerCallback(run)])
        return {"iterations": truth.iterations}

    @scenario
    def hooks() -> Facts:
        """What Keras sees of us, and what we make it do."""

        class Counted(keras.Sequential):
            syncs = 0

            def jax_state_sync(self) -> None:
                if getattr(self, "_jax_state", None) and not self._jax_state_synced:
                    Counted.syncs += 1
                super().jax_state_sync()

        def syncs(*callbacks: Any) -> int:
            model = Counted([keras.layers.Input((3,)), keras.layers.Dense(1)])
            model.compile("sgd", loss="mse")
            Counted.syncs = 0
            fit(model, *callbacks, batch_size=1)
            return Counted.syncs

        def is_async(callback: Any) -> bool:
            return bool(keras.callbacks.CallbackList([callback])._async_train)

        names = [name for name in dir(keras.callbacks.Callback) if "batch" in name]
        with tracker.start_run(name="hooks") as run:
            quiet = TrackerCallback(run)
            facts = {
                "defined": [
                    name
                    for name in names
                    if getattr(TrackerCallback, name) is not getattr(keras.callbacks.Callback, name)
                ],
                "on the object": [name for name in names if name in vars(quiet)],
                "async without us": is_async(keras.callbacks.Callback()),
                "async with us": is_async(quiet),
                "async with batches": is_async(TrackerCallback(run, log_batches=1)),
                "syncs without us": syncs(),
                "syncs with us": syncs(quiet),
                "syncs with batches": syncs(TrackerCallback(run, log_batches=1)),
            }
            facts["left on the object"] = [name for name in names if name in vars(quiet)]
        return facts

    @scenario
    def subclass_of_ours() -> Facts:
        seen: list[int] = []

        class Mine(TrackerCallback):
            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                seen.append(batch)

        with tracker.start_run(name="subclass_of_ours") as run:
            mine = Mine(run, log_batches=1)
            fit(linear(), mine, epochs=1)
        return {"seen": seen, "async safe": mine.async_safe}
