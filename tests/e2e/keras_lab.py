"""What the Keras tests share: the scenarios, run once a backend in a process of their own, and their records."""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tracker
from tracker.domain.ports import RunStore
from tracker.domain.records import Run

BACKENDS = ("tensorflow", "jax")
SCENARIOS = Path(__file__).with_name("keras_scenarios.py")


def environment(folder: Path, backend: str) -> dict[str, str]:
    """The environment of a process that trains with `backend` and keeps all that it writes in `folder`."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("TRACKER_", "TF_CONFIG"))}
    return inherited | {
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "TRACKER_HOME": str(folder / "home"),
        "TRACKER_PLUGINS": "off",
        "TRACKER_STORE": f"sqlite:///{folder / 'tracker.db'}",
    }


@dataclass(frozen=True)
class Lab:
    """The records of all scenarios with one backend, and what Keras itself said of each."""

    backend: str
    store: RunStore
    facts: dict[str, Any]

    def said(self, scenario: str) -> dict[str, Any]:
        """What Keras said; the scenario's own failure fails the test."""
        facts: dict[str, Any] = self.facts[scenario]
        assert "error" not in facts, facts["error"]
        return facts

    def run(self, name: str) -> Run:
        """The run of that name."""
        (found,) = self.store.find_runs(name)
        return found

    def values(self, run_id: str, key: str) -> list[float]:
        """A series' values."""
        return [float(value) for value in self.store.history(run_id, key).values]

    def steps(self, run_id: str, key: str) -> list[int]:
        """A series' steps."""
        return [int(step) for step in self.store.history(run_id, key).steps]

    def text(self, run: Run, path: str) -> str | None:
        """A text artifact; None if the run has none there."""
        file = Path(run.artifact_uri.removeprefix("file://")) / path
        return file.read_text() if file.exists() else None


@functools.cache
def lab(backend: str) -> Lab:
    """The records with `backend`, made at the first call."""
    folder = tempfile.TemporaryDirectory(prefix=f"tracker-keras-{backend}-", ignore_cleanup_errors=True)
    atexit.register(folder.cleanup)
    path = Path(folder.name)
    facts = path / "facts.json"
    done = subprocess.run(
        [sys.executable, SCENARIOS, facts],
        env=environment(path, backend),
        cwd=path,
        capture_output=True,
        text=True,
        timeout=570,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    store = tracker.open_store(f"sqlite:///{path / 'tracker.db'}")
    atexit.register(store.close)
    return Lab(backend=backend, store=store, facts=json.loads(facts.read_text()))
