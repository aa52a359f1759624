"""What the Keras tests share: the scenarios, run once a backend in a process of their own, and their records."""

from __future__ import annotations

import atexit
import contextlib
import datetime
import fcntl
import functools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import preloaded

import tracker
from tracker.domain.ports import RunStore
from tracker.domain.records import Run

BACKENDS = ("tensorflow", "jax")
SCENARIOS = Path(__file__).with_name("keras_scenarios.py")
SEED = int(os.environ.get("FIELD_SEED") or datetime.date.today().toordinal())
"""What the tests of Keras and of the field draw by: other conditions every day, or those that FIELD_SEED says."""


def environment(folder: Path, backend: str) -> dict[str, str]:
    """The environment of a process that trains with `backend` and keeps all that it writes in `folder`."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("TRACKER_", "TF_CONFIG"))}
    return inherited | {
        "FIELD_SEED": str(SEED),
        # JAX compiles each model once a session.
        "JAX_COMPILATION_CACHE_DIR": str(_labs.folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "TRACKER_HOME": str(folder / "home"),
        "TRACKER_STORE": f"sqlite:///{folder / 'tracker.db'}",
    }


def training(
    arguments: Sequence[Any], folder: Path, backend: str, *, timeout: float | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run Python in `folder` with Keras imported already; `more` is of its environment."""
    given = [sys.executable, *arguments]
    return preloaded.run(given, backend=backend, env=environment(folder, backend) | more, cwd=folder, timeout=timeout)


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

    def keys(self, run_id: str) -> set[str]:
        """The series of a run that its training logged; the machine's own are not of them."""
        return {key for key in self.store.metrics(run_id) if not key.startswith("system/")}

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


@dataclass
class _Labs:
    """Where the labs of this session are, whether other processes use them too, and who makes them for this one."""

    folder: Path
    shared: bool
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)


_labs: _Labs


def begin(folder: Path, backends: Sequence[str], *, shared: bool) -> None:
    """Have the labs of `backends` made in `folder` beside the caller; others are made when they are asked for."""
    global _labs
    _labs = _Labs(folder, shared)
    for backend in backends:
        _begin(backend)


def _begin(backend: str) -> Path:
    """Start the process that makes the lab, if nobody did. It holds the lock of the lab's folder until it ends."""
    path = _labs.folder / f"keras-{backend}"
    path.mkdir(exist_ok=True)
    with (path / "lock").open("a") as lock, contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.getsize(lock.name) == 0:
            lock.write("begun")
            lock.flush()
            with (path / "errors").open("w") as errors:
                process = subprocess.Popen(
                    [sys.executable, SCENARIOS, path / "facts.json"],
                    env=environment(path, backend),
                    cwd=path,
                    stdout=errors,
                    stderr=errors,
                    pass_fds=[lock.fileno()],
                )
            _labs.processes.append(process)
            atexit.register(process.poll if _labs.shared else process.wait)
            if not _labs.shared:
                atexit.register(process.kill)
    return path


@functools.cache
def lab(backend: str) -> Lab:
    """The records with `backend`, once they are made."""
    path = _begin(backend)
    with (path / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # until that process has ended
    facts = path / "facts.json"
    assert facts.exists(), (path / "errors").read_text()[-4000:]
    store = tracker.open_store(f"sqlite:///{path / 'tracker.db'}")
    atexit.register(store.close)
    return Lab(backend=backend, store=store, facts=json.loads(facts.read_text()))
