"""Whatever fails in tracking, the training does not notice."""

from __future__ import annotations

import pytest
from e2e.keras_lab import Lab


def test_errors_do_not_reach_fit(keras: Lab) -> None:
    """With a run that fails at every call `fit()` and `evaluate()` give exactly what they give without us."""
    assert keras.said("errors")["unharmed"] is True


def test_errors_are_said_once_and_counted(keras: Lab) -> None:
    """The first error of each kind of work is on the log with its traceback; the count tells of all."""
    facts = keras.said("errors")
    told = [said for said in facts["said"] if "Traceback" in said]
    kinds = [said.splitlines()[0] for said in told]
    assert any("start_fit is broken" in said for said in told)
    assert any("while logging a batch" in said for said in told)
    assert any("log_epoch is broken" in said for said in told)
    assert len(kinds) <= 2 * len(set(kinds))  # there were two callbacks
    early, late = facts["errors"]
    assert early >= 1
    assert late >= 2 * 4 + 2
    assert any("errors of tracking in all" in said for said in facts["said"])


def test_a_store_that_is_away(keras: Lab) -> None:
    """Training against a store that does not answer takes its normal time, and says where the points are kept."""
    facts = keras.said("store_away")
    assert facts["epochs"] == 3
    assert facts["seconds"] < 20
    assert any("still in the journal" in said for said in facts["said"])


def test_only_the_chief_records(keras: Lab) -> None:
    """Of a multi-worker training the chief's record alone is kept: the task `chief`, else worker 0."""
    facts = keras.said("workers")
    chiefs = {"worker 0", "chief"} if keras.backend == "tensorflow" else {name for name in facts if "opens" not in name}
    for name in (name for name in facts if "opens" not in name):
        assert len(keras.store.fits(facts[name])) == (1 if name in chiefs else 0), name
        assert facts[f"{name} opens a run"] is (name in chiefs)


@pytest.mark.parametrize("argument", ["run", "log_batches", "log_batches as a flag"])
def test_arguments_that_cannot_be_meant_are_refused(keras: Lab, argument: str) -> None:
    """A run that is none, or a number of steps that is none, is refused with the value and what would be right."""
    message = keras.said("misuse")[argument]
    assert argument.split()[0] in message
    assert "limit:" in message


# -- the trainings ------------------------------------------------------------------------------------------------------


def scenarios() -> None:
    """Scenarios in which something fails, is misused, or is nobody's to record."""
    import json
    import os
    import time
    from typing import Any

    import keras
    from keras_bench import Facts, X, Y, fit, linear, log_lines, scenario, verbose

    import tracker
    from tracker_keras import TrackerCallback

    @scenario
    def errors() -> Facts:
        """A run that fails at every turn."""

        class Broken:
            status = "running"

            def __getattr__(self, name: str) -> Any:
                def fails(*_: Any, **__: Any) -> Any:
                    raise RuntimeError(f"{name} is broken")

                return fails

        class BrokenFit(Broken):
            number = 1

            def step(self, steps: int) -> int:
                return steps

        class BrokenLater(Broken):
            def start_fit(self, **_: Any) -> Any:
                return BrokenFit()

        keras.utils.set_random_seed(1)
        wanted = fit(linear(), validation_data=(X, Y)).history
        with log_lines() as said:
            keras.utils.set_random_seed(1)
            early = TrackerCallback(Broken(), log_batches=1)  # type: ignore[arg-type]
            at_once = fit(linear(), early, validation_data=(X, Y)).history
            keras.utils.set_random_seed(1)
            late = TrackerCallback(BrokenLater(), log_batches=1)  # type: ignore[arg-type]
            later = fit(linear(), late, validation_data=(X, Y)).history
            linear().evaluate(X, Y, verbose=verbose(), callbacks=[late])
        return {"unharmed": wanted == at_once == later, "said": said, "errors": [early.guard.errors, late.guard.errors]}

    @scenario
    def store_away() -> Facts:
        with log_lines() as said:
            run = tracker.start_run(name="store_away", store="postgresql://nobody@127.0.0.1:9/nowhere")
            began = time.monotonic()
            history = fit(linear(), TrackerCallback(run, log_batches=1), epochs=3)
            took = time.monotonic() - began
            run.finish(timeout=1.0)
        return {"epochs": len(history.history["loss"]), "seconds": took, "said": said}

    @scenario
    def workers() -> Facts:
        """What each task of a multi-worker training records, by its `TF_CONFIG`."""
        cluster = {"worker": ["a:1", "b:1"]}
        tasks = {
            "worker 0": {"cluster": cluster, "task": {"type": "worker", "index": 0}},
            "worker 1": {"cluster": cluster, "task": {"type": "worker", "index": 1}},
            "worker 0 beside a chief": {
                "cluster": {**cluster, "chief": ["c:1"]},
                "task": {"type": "worker", "index": 0},
            },
            "chief": {"cluster": {**cluster, "chief": ["c:1"]}, "task": {"type": "chief", "index": 0}},
            "evaluator": {"cluster": cluster, "task": {"type": "evaluator", "index": 0}},
        }
        facts: Facts = {}
        for name, config in tasks.items():
            os.environ["TF_CONFIG"] = json.dumps(config)
            try:
                with tracker.start_run(name=f"workers.{name}") as run:
                    fit(linear(), TrackerCallback(run, log_batches=1), epochs=1)
                    facts[name] = run.id
                own = TrackerCallback()
                fit(linear(), own, epochs=1)
                facts[f"{name} opens a run"] = own.run is not None
            finally:
                del os.environ["TF_CONFIG"]
        return facts

    @scenario
    def misuse() -> Facts:
        facts: Facts = {}
        for name, make in {
            "run": lambda: TrackerCallback("my experiment"),  # type: ignore[arg-type]
            "log_batches": lambda: TrackerCallback(log_batches=-1),
            "log_batches as a flag": lambda: TrackerCallback(log_batches=True),
        }.items():
            try:
                make()
            except tracker.TrackerError as error:
                facts[name] = str(error)
        return facts
