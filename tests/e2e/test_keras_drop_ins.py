"""Our callbacks of Keras' names do what Keras' own do, but for their traps, and are recorded like them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from e2e.keras_lab import Lab


@pytest.mark.parametrize("name", ["patience", "restored", "baseline", "late", "max"])
def test_early_stopping_is_keras_own(keras: Lab, name: str) -> None:
    """With the same settings it stops at the same epoch with the same weights, and leaves the same record."""
    stock, ours = keras.said("early_stopping")[name]
    assert ours == stock
    assert ours[0] > 0
    records = []
    for kind in ("keras", "tracker_keras"):
        run = keras.run(f"early_stopping.{name}.{kind}")
        events = keras.store.events(run.id)
        records.append([(one.epoch, one.step, one.kind, dict(one.detail)) for one in events])
        assert "early_stopped" in [one.kind for one in events]
    assert records[0] == records[1]


def test_nan_is_no_best(keras: Lab) -> None:
    """After a first NaN Keras' own takes every number for worse, and stops; ours goes on to the best."""
    stock, ours = keras.said("early_stopping")["nan"]
    assert stock == [3, 0]
    assert ours == [6, 3]


@pytest.mark.parametrize(("name", "expected"), [
    ("float", [0.005, 0.0025, 0.00125]),
    ("tensor", [0.01, 0.009048374, 0.008187307]),
    ("int", [1.0, 1.0, 1.0]),
    ("numpy", [0.5] * 3),
    ("array", [0.25] * 3),
    ("alone", [0.5, 0.25, 0.5 / 3]),
    ("schedule", [0.5, 0.25, 0.25]),
])  # fmt: skip
def test_a_schedule_returns_any_number(keras: Lab, name: str, expected: list[float]) -> None:
    """Floats, ints, what NumPy and the backend have for one number; of the epoch and the rate, or the epoch alone."""
    facts = keras.said("schedules")
    assert facts[name] == pytest.approx(expected, rel=1e-5)
    if name in ("float", "alone"):
        assert facts["stock"][name] == facts[name]


def test_what_a_schedule_raises_is_raised(keras: Lab) -> None:
    """Its own TypeError comes out, after one call; Keras' own shows that of a second call instead."""
    facts = keras.said("schedules")
    assert "unsupported operand" in facts["mistaken"]
    assert facts["calls"] == [0]
    assert "missing 1 required positional argument" in facts["stock"]["mistaken"]


@pytest.mark.parametrize("name", ["nothing", "text", "many", "flag"])
def test_what_is_no_rate_is_refused(keras: Lab, name: str) -> None:
    """What is no number is named with the epoch and what would be right."""
    message = keras.said("schedules")[name]
    assert message.startswith("ValueError: the learning rate for epoch 0 is not a number")
    assert "a float, an int, or a tensor" in message


def test_several_optimizers(keras: Lab) -> None:
    """Each optimizer has the schedule applied to its own rate; `verbose=1` names it."""
    facts = keras.said("schedules")
    assert facts["several"] == [pytest.approx([0.005, 0.0025]), pytest.approx([0.05, 0.025])]
    assert "Epoch 1: LearningRateScheduler setting slow learning rate to 0.00" in facts["printed"]
    assert facts["said"] == []
    changes = [one for one in keras.store.events(keras.run("schedules.several").id) if "rate" in one.kind]
    assert {one.detail["by"] for one in changes} == {"LearningRateScheduler"}
    assert len(changes) == 4


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    """The names are there before Keras is."""
    code = "import sys, tracker_keras; print(*tracker_keras.__all__, 'keras' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    *names, has_keras = said.split()
    assert {"EarlyStopping", "LearningRateScheduler", "ModelCheckpoint", "TensorBoard", "TrackerCallback"} <= {*names}
    assert has_keras == "False"


# -- the trainings ------------------------------------------------------------------------------------------------------


def scenarios() -> None:
    """Scenarios of our callbacks that stand in for Keras' own."""
    import contextlib
    import io
    from collections.abc import Callable
    from typing import Any

    import keras
    import numpy as np
    from keras import ops
    from keras_bench import Facts, Truth, fit, linear, log_lines, scenario

    import tracker
    import tracker_keras
    from tracker_keras import TrackerCallback

    class Says(keras.callbacks.Callback):
        """Makes an epoch's `score` what the list says."""

        def __init__(self, *scores: float) -> None:
            super().__init__()
            self.scores = scores

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            logs["score"] = self.scores[epoch]

    @scenario
    def early_stopping() -> Facts:
        """Keras' own and ours with the same settings in the same fits."""
        settings: dict[str, dict[str, Any]] = {
            "patience": {"patience": 2},
            "restored": {"patience": 1, "restore_best_weights": True, "min_delta": 0.5},
            "baseline": {"patience": 2, "baseline": 7.0, "restore_best_weights": True},
            "late": {"patience": 1, "start_from_epoch": 4},
            "max": {"patience": 3, "mode": "max"},
        }
        facts: Facts = {}
        for name, given in settings.items():
            for kind in (keras.callbacks.EarlyStopping, tracker_keras.EarlyStopping):
                keras.utils.set_random_seed(5)
                model, stopping = linear(), kind("score", **{"mode": "min", **given})
                with tracker.start_run(name=f"early_stopping.{name}.{kind.__module__.split('.')[0]}") as run:
                    fit(model, Says(6, 4, 3.9, 5, 5, 2, 3, 4), TrackerCallback(run), stopping, epochs=8)
                weights = [weight.tolist() for weight in model.get_weights()]
                facts.setdefault(name, []).append([stopping.stopped_epoch, stopping.best_epoch, stopping.best, weights])
        stock, ours = (kind("score", mode="min", patience=3) for kind in (
            keras.callbacks.EarlyStopping, tracker_keras.EarlyStopping,
        ))  # fmt: skip
        for stopping in (stock, ours):
            fit(linear(), Says(np.nan, 4, 3, 2, np.nan, 3, 4), stopping, epochs=7)
        facts["nan"] = [[one.stopped_epoch, one.best_epoch] for one in (stock, ours)]
        return facts

    def rates_with(kind: Any, schedule: Callable[..., Any], **given: Any) -> Any:
        """The rates that epochs were trained with, or what went wrong instead."""
        truth = Truth()
        try:
            with tracker.start_run(name="schedules") as run:
                fit(linear(), TrackerCallback(run), kind(schedule, **given), truth, epochs=3)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return truth.rates

    @scenario
    def schedules() -> Facts:
        """Schedules as people write them, with Keras' own and with ours."""
        calls: list[int] = []

        def tutorials(epoch: int, rate: float) -> Any:
            return rate if epoch < 1 else rate * ops.exp(-0.1)

        def mistaken(epoch: int, rate: float) -> Any:
            calls.append(epoch)
            return rate + "0.1"  # type: ignore[operator]

        def alone(epoch: int) -> float:
            return 0.5 / (epoch + 1)

        given: dict[str, Callable[..., Any]] = {
            "float": lambda epoch, rate: rate / 2,
            "tensor": tutorials,
            "int": lambda epoch, rate: 1,
            "numpy": lambda epoch, rate: np.float16(0.5),
            "array": lambda epoch, rate: np.array([0.25]),
            "alone": alone,
            "schedule": keras.optimizers.schedules.PiecewiseConstantDecay([0], [0.5, 0.25]),
            "mistaken": mistaken,
            "nothing": lambda epoch, rate: None,
            "text": lambda epoch, rate: "0.5",
            "many": lambda epoch, rate: np.ones(2),
            "flag": lambda epoch, rate: True,
        }
        facts: Facts = {name: rates_with(tracker_keras.LearningRateScheduler, one) for name, one in given.items()}
        facts["calls"] = list(calls)
        facts["stock"] = {
            name: rates_with(keras.callbacks.LearningRateScheduler, given[name])
            for name in ("float", "alone", "tensor", "int", "mistaken")
        }
        with tracker.start_run(name="schedules.several") as run, log_lines() as said:
            slow, fast = keras.optimizers.SGD(0.01, name="slow"), keras.optimizers.Adam(0.1, name="fast")
            chosen = keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(slow, {".*bias": fast}))
            halves = tracker_keras.LearningRateScheduler(lambda epoch, rate: rate / 2, verbose=1)
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                history = fit(linear(chosen), halves, TrackerCallback(run)).history
        facts["several"] = [history["learning_rate_slow"], history["learning_rate_fast"]]
        return facts | {"printed": printed.getvalue(), "said": said}
