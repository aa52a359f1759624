"""What the Keras tests share: the scenarios, run once in processes of their own, and their records."""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import preloaded
from draws import EVERYTHING, SEED, daily
from templates import sqlite_store

import tracker
from tracker.domain.records import Run

BACKENDS = ("tensorflow", "jax")
SCENARIOS = Path(__file__).with_name("keras_scenarios.py")


def environment(folder: Path, backend: str) -> dict[str, str]:
    """The environment of a process that trains with `backend` and keeps all that it writes in `folder`."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("TRACKER_", "TF_CONFIG"))}
    return {
        **inherited,
        **preloaded.settings(backend),
        "FIELD_SEED": str(SEED),
        "TRACKER_HOME": str(folder / "home"),
        "TRACKER_STORE": f"sqlite:///{folder / 'tracker.db'}",
    }


def training(
    arguments: Sequence[Any], folder: Path, backend: str, *, timeout: float | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run Python in `folder` with Keras imported already; `more` is of its environment."""
    given = [sys.executable, *arguments]
    return preloaded.run(given, backend=backend, env=environment(folder, backend) | more, cwd=folder, timeout=timeout)


class Lab:
    """The records of scenarios with one backend, and what Keras itself said of each."""

    def __init__(self, backend: str, folder: Path) -> None:
        self.backend = backend
        self.store = tracker.open_store(sqlite_store(folder))
        self._folder = folder
        self._facts: dict[str, Any] = {}
        self._failed: dict[str, str] = {}

    def record(self, module: str) -> None:
        """Have the trainings of `scenarios()` in a test's module run, if they did not; they are one process'."""
        if module not in self._failed:
            facts = self._folder / f"{module}.json"
            # What a module leaves in its journals is not the next one's.
            more = {"TRACKER_HOME": str(self._folder / f"home of {module}"), "PYTHONPATH": str(SCENARIOS.parents[1])}
            done = training([SCENARIOS, module, facts], self._folder, self.backend, **more)
            self._failed[module] = done.stderr[-4000:] if done.returncode else ""
            if not done.returncode:
                self._facts |= json.loads(facts.read_text())
        assert not self._failed[module], self._failed[module]

    def said(self, scenario: str) -> dict[str, Any]:
        """What Keras said; the scenario's own failure fails the test."""
        facts: dict[str, Any] = self._facts[scenario]
        assert "error" not in facts, facts["error"]
        return facts

    def run(self, name: str) -> Run:
        """The run of that name."""
        (found,) = self.store.find_runs(name)
        return found

    def keys(self, run_id: str) -> set[str]:
        """The series of a run that its training logged; the machine's own are not of them."""
        return {key for key in self.store.metrics(run_id) if not key.startswith("system/")}

    def values(self, run_id: str, key: str) -> list[float]:
        """A series' values."""
        return [float(value) for value in self.store.history(run_id, key).values]

    def steps(self, run_id: str, key: str) -> list[int]:
        """A series' steps."""
        return [int(step) for step in self.store.history(run_id, key).steps]

    def told(self, name: str, *kinds: str) -> list[tuple[int | None, dict[str, Any]]]:
        """Epoch and detail of the events of these kinds of the run of that name, in their order."""
        events = self.store.events(self.run(name).id)
        return [(event.epoch, dict(event.detail)) for event in events if event.kind in kinds]

    def text(self, run: Run, path: str) -> str | None:
        """A text artifact; None if the run has none there."""
        file = Path(run.artifact_uri.removeprefix("file://")) / path
        return file.read_text() if file.exists() else None


@functools.cache
def lab(backend: str) -> Lab:
    """The lab of this process."""
    folder = tempfile.TemporaryDirectory(prefix="tracker-lab-", ignore_cleanup_errors=True)
    made = Lab(backend, Path(folder.name))
    atexit.register(folder.cleanup)
    atexit.register(made.store.close)
    return made


def backends(module: str) -> Sequence[str]:
    """With which backends a module's tests are run: both in `make field`, or one of the day.

    JAX has two of three modules: a training with TensorFlow takes five times as long.
    """
    return BACKENDS if EVERYTHING else daily((*BACKENDS, "jax"), module)
