"""Scenarios in which something fails, is misused, or is nobody's to record."""

from __future__ import annotations

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
        "worker 0 beside a chief": {"cluster": {**cluster, "chief": ["c:1"]}, "task": {"type": "worker", "index": 0}},
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
