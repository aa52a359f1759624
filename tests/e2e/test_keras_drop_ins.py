"""Our callbacks of Keras' names do what Keras' own do, but for their traps, and are recorded like them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from e2e.keras_lab import Lab

SCENARIOS = ("drop_ins",)


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
    assert message.startswith("ValueError: the learning rate for epoch 0 is no number")
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
