"""What a training was asked to do, as its record says: optimizer, loss, model, goals of the metrics."""

from __future__ import annotations

import json

import pytest
from e2e.keras_lab import Lab


def test_parameters_of_a_plain_training(keras: Lab) -> None:
    """Optimizer and its settings, loss, metrics, precision, compilation, model, sizes, backend and versions."""
    facts, params = keras.said("described"), keras.store.params(keras.run("described").id)
    expected = {
        "optimizer": "SGD",
        "optimizer.learning_rate": 0.01,
        "optimizer.momentum": 0.0,
        "loss": "mse",
        "metrics": ["mae", "squares"],
        "steps_per_execution": 1,
        "run_eagerly": False,
        "dtype_policy": "float32",
        "model.class": "Sequential",
        "model.name": "linear",
        "model.params": facts["params"],
        "model.trainable_params": 4,
        "model.non_trainable_params": 0,
        "backend": keras.backend,
        "keras_version": facts["keras"],
    }
    assert {key: params[key] for key in expected} == expected
    assert params["backend_version"]
    assert isinstance(params["jit_compile"], bool)
    assert "optimizer.clipnorm" not in params
    assert "optimizer.name" not in params


def test_an_optimizer_under_mixed_precision_is_itself(keras: Lab) -> None:
    """The optimizer that was asked for is on the record, and the loss scaling around it under keys of its own."""
    assert keras.said("mixed_precision")["wrapped"] == "LossScaleOptimizer"
    params = keras.store.params(keras.run("mixed_precision").id)
    assert params["optimizer"] == "Adam"
    assert params["optimizer.learning_rate"] == 0.125
    assert params["loss_scale"] == "LossScaleOptimizer"
    assert params["loss_scale.initial_scale"] == 32768.0
    assert params["loss_scale.dynamic_growth_steps"] == 2000
    assert params["dtype_policy"] == "mixed_float16"


def test_a_schedule_is_its_class_and_settings(keras: Lab) -> None:
    """A LearningRateSchedule, and a loss object, are their class, with their settings nested below."""
    params = keras.store.params(keras.run("settings").id)
    assert params["optimizer.learning_rate"] == "CosineDecay"
    assert params["optimizer.learning_rate.initial_learning_rate"] == 0.1
    assert params["optimizer.learning_rate.decay_steps"] == 100
    assert params["optimizer.momentum"] == 0.5
    assert (params["loss"], params["loss.from_logits"]) == ("BinaryCrossentropy", True)
    assert params["loss_weights"] == [0.5]


def test_settings_that_cannot_be_read_cost_only_themselves(keras: Lab) -> None:
    """An optimizer that raises in `get_config` is reported with its traceback; all the rest is recorded."""
    params = keras.store.params(keras.run("settings.odd").id)
    assert (params["optimizer"], params["loss"], params["backend"]) == ("Odd", "mse", keras.backend)
    (said,) = keras.said("settings")["said"]
    assert "this optimizer keeps its settings to itself" in said
    assert "Traceback" in said


def test_several_optimizers_each_have_their_settings(keras: Lab) -> None:
    """A MultiOptimizer's parts are on the record by their names."""
    params = keras.store.params(keras.run("two_optimizers").id)
    assert (params["optimizer"], params["optimizer.slow"], params["optimizer.fast"]) == (
        "MultiOptimizer",
        "SGD",
        "Adam",
    )
    assert (params["optimizer.slow.learning_rate"], params["optimizer.fast.learning_rate"]) == (0.01, 0.1)


def test_several_outputs(keras: Lab) -> None:
    """Losses, weights and metrics of several outputs are on the record by output."""
    run = keras.run("two_outputs")
    params = keras.store.params(run.id)
    assert (params["loss.left"], params["loss.right"]) == ("mse", "MeanAbsoluteError")
    assert (params["loss_weights.left"], params["loss_weights.right"]) == (1.0, 0.5)
    assert params["metrics.left"] == ["fit_quality"] or params["metrics"] == {"left": ["fit_quality"], "right": ["mae"]}
    assert sorted(keras.keys(run.id) - {"learning_rate"}) == keras.said("two_outputs")["keys"]
    series = keras.store.metrics(run.id)
    assert series["val_left_fit_quality"].goal == "max"
    assert series["right_mae"].goal == "min"


def test_the_model_is_kept_as_summary_and_architecture(keras: Lab) -> None:
    """A model that is built has its summary as text and its architecture as JSON among the run's files."""
    run = keras.run("described")
    summary = keras.text(run, "model/summary.txt")
    assert summary is not None
    assert 'Model: "linear"' in summary
    assert "Trainable params: 4" in summary
    architecture = json.loads(keras.text(run, "model/architecture.json") or "")
    assert (architecture["class_name"], architecture["config"]["name"]) == ("Sequential", "linear")


def test_a_model_that_is_built_by_its_first_batch(keras: Lab) -> None:
    """A model without an input shape has sizes, summary and architecture after its first epoch."""
    if keras.backend == "tensorflow":
        assert keras.said("unbuilt")["built"][0] is False
    run = keras.run("unbuilt")
    assert keras.store.params(run.id)["model.params"] == 4
    assert 'Model: "lazy"' in (keras.text(run, "model/summary.txt") or "")
    assert keras.text(run, "model/architecture.json")


def test_a_custom_model_does_no_harm(keras: Lab) -> None:
    """A subclassed model with a function inside has its summary, and nobody hears of the rest."""
    run = keras.run("unbuilt.custom")
    params = keras.store.params(run.id)
    assert (params["model.class"], params["model.params"], params["loss"]) == ("Custom", 4, "<lambda>")
    assert 'Model: "custom"' in (keras.text(run, "model/summary.txt") or "")
    assert keras.said("unbuilt")["said"] == []


def test_what_a_later_fit_changed_is_its_own(keras: Lab) -> None:
    """Freezing layers and compiling again between two fits is recorded under the second, with its own summary."""
    run = keras.run("unfrozen")
    params = keras.store.params(run.id)
    trainable = keras.said("unfrozen")["trainable"]
    assert (params["model.trainable_params"], params["fit.2.model.trainable_params"]) == (4, trainable)
    assert params["fit.2.optimizer.learning_rate"] == 0.001
    assert "fit.2.loss" not in params
    assert f"Trainable params: {trainable} " in (keras.text(run, "model/fit.2/summary.txt") or "")


def test_goals_are_those_of_keras(keras: Lab) -> None:
    """A metric whose name says nothing has the direction that Keras knows, as has its validation and batch twin."""
    series = keras.store.metrics(keras.run("goals").id)
    assert {key: series[key].goal for key in ("quality", "val_quality", "batch/quality", "mae", "val_loss")} == {
        "quality": "max", "val_quality": "max", "batch/quality": "max", "mae": "min", "val_loss": "min",
    }  # fmt: skip


def test_the_best_epoch_is_that_of_early_stopping(keras: Lab) -> None:
    """The metric that EarlyStopping watches decides the run's best epoch."""
    run, quality = keras.run("goals"), keras.said("goals")["quality"]
    assert run.best_metric == "val_quality"
    assert run.best_epoch == quality.index(max(quality))


def test_several_optimizers(keras: Lab) -> None:
    """A MultiOptimizer has a series for each of its optimizers, by its name."""
    run = keras.run("two_optimizers")
    assert keras.values(run.id, "learning_rate_slow") == pytest.approx([0.005, 0.0025])
    assert keras.values(run.id, "learning_rate_fast") == pytest.approx([0.05, 0.025])
    assert "learning_rate" not in keras.store.metrics(run.id)


def test_the_rate_under_mixed_precision(keras: Lab) -> None:
    """The rate of an optimizer that Keras wrapped for loss scaling is its own."""
    assert keras.values(keras.run("mixed_precision").id, "learning_rate") == [0.125, 0.125]


def test_changes_of_several_optimizers(keras: Lab) -> None:
    """A change names the optimizer whose rate it is."""
    changes = keras.told("two_optimizers", "learning_rate_changed")
    assert {(epoch, one["optimizer"], round(one["to"], 6)) for epoch, one in changes} == {
        (0, "slow", 0.005), (0, "fast", 0.05), (1, "slow", 0.0025), (1, "fast", 0.025),
    }  # fmt: skip
    assert {one["by"] for _, one in changes} == {"LearningRateScheduler"}


# -- the trainings ------------------------------------------------------------------------------------------------------


def scenarios() -> None:
    """Scenarios of hyperparameters, models and metrics of many kinds."""
    from typing import Any

    import keras
    import numpy as np
    from keras import ops
    from keras_bench import Facts, X, Y, fit, linear, log_lines, scenario

    import tracker
    from tracker_keras import TrackerCallback

    @scenario
    def described() -> Facts:
        with tracker.start_run(name="described") as run:
            model = linear(metrics=["mae", keras.metrics.MeanSquaredError(name="squares")])
            fit(model, TrackerCallback(run))
        return {"params": model.count_params(), "keras": keras.version()}

    @scenario
    def two_optimizers() -> Facts:
        slow, fast = keras.optimizers.SGD(0.01, name="slow"), keras.optimizers.Adam(0.1, name="fast")
        chosen = keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(slow, {".*bias": fast}))
        with tracker.start_run(name="two_optimizers") as run:
            fit(
                linear(chosen),
                TrackerCallback(run),
                keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2),
            )
        return {}

    @scenario
    def mixed_precision() -> Facts:
        with tracker.start_run(name="mixed_precision") as run:
            keras.config.set_dtype_policy("mixed_float16")
            try:
                model = linear(keras.optimizers.Adam(0.125))
            finally:
                keras.config.set_dtype_policy("float32")
            fit(model, TrackerCallback(run))
        return {"wrapped": type(model.optimizer).__name__}

    @scenario
    def settings() -> Facts:
        class Odd(keras.optimizers.SGD):
            def get_config(self) -> dict[str, Any]:
                raise NotImplementedError("this optimizer keeps its settings to itself")

        schedule = keras.optimizers.schedules.CosineDecay(0.1, decay_steps=100)
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        with tracker.start_run(name="settings") as run, log_lines() as said:
            fit(
                linear(keras.optimizers.SGD(schedule, momentum=0.5), loss=loss, loss_weights=[0.5]),
                TrackerCallback(run),
            )
        with tracker.start_run(name="settings.odd") as run, log_lines() as said:
            fit(linear(Odd(0.01)), TrackerCallback(run))
        return {"said": said}

    @scenario
    def two_outputs() -> Facts:
        shared = keras.Input((3,), name="features")
        outputs = {name: keras.layers.Dense(1, name=name)(shared) for name in ("left", "right")}
        model = keras.Model(shared, outputs)
        model.compile(
            "sgd",
            loss={"left": "mse", "right": keras.losses.MeanAbsoluteError()},
            loss_weights={"left": 1.0, "right": 0.5},
            metrics={"left": [keras.metrics.R2Score(name="fit_quality")], "right": ["mae"]},
        )
        with tracker.start_run(name="two_outputs") as run:
            history = fit(
                model, TrackerCallback(run), y={"left": Y, "right": Y}, validation_data=(X, {"left": Y, "right": Y})
            )
        return {"keys": sorted(history.history)}

    @scenario
    def unbuilt() -> Facts:
        built = []

        class Peeks(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
                built.append(self.model.built)

        class Custom(keras.Model):
            def __init__(self, function: Any) -> None:
                super().__init__(name="custom")
                self.dense, self.function = keras.layers.Dense(1), function

            def call(self, x: Any) -> Any:
                return self.function(self.dense(x))

        with tracker.start_run(name="unbuilt") as run:
            model = keras.Sequential([keras.layers.Dense(1)], name="lazy")
            model.compile("sgd", loss="mse")
            fit(model, Peeks(), TrackerCallback(run))
        with tracker.start_run(name="unbuilt.custom") as run, log_lines() as said:
            model = Custom(lambda x: x)
            model.compile("sgd", loss=lambda y, p: ops.mean(ops.square(y - p), axis=-1))
            fit(model, TrackerCallback(run))
        return {"built": built, "said": said}

    @scenario
    def unfrozen() -> Facts:
        with tracker.start_run(name="unfrozen") as run:
            model, callback = linear(), TrackerCallback(run)
            fit(model, callback)
            model.layers[0].trainable = False
            model.layers[0].bias.trainable = True
            model.compile(keras.optimizers.SGD(0.001), loss="mse")
            fit(model, callback)
        return {"trainable": sum(int(np.prod(w.shape)) for w in model.trainable_weights)}

    @scenario
    def goals() -> Facts:
        with tracker.start_run(name="goals") as run:
            stopping = keras.callbacks.EarlyStopping("val_quality", mode="max", patience=9)
            checkpoint = keras.callbacks.ModelCheckpoint("never.keras", monitor="nowhere", save_best_only=False)
            model = linear(metrics=[keras.metrics.R2Score(name="quality"), "mae"])
            checkpoint.set_model = lambda model: None  # it is there to be looked at, not to save
            checkpoint.on_epoch_end = lambda epoch, logs=None: None
            history = fit(
                model, checkpoint, stopping, TrackerCallback(run, log_batches=1), validation_data=(X, Y), epochs=3
            )
        return {"quality": history.history["val_quality"]}
