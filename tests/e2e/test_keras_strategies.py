"""Trainings that several processes do together: real workers on this machine.

Keras 3 has no notion of a chief: every worker runs every callback.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from e2e.keras_lab import backends, environment
from preloaded import Preloaded

import tracker
from tracker.domain.ports import RunStore

WORKER = Path(__file__).with_name("keras_worker.py")
DEADLINE_S = 150


def free_ports(count: int) -> list[str]:
    """Ports that nobody listens on at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [str(one.getsockname()[1]) for one in sockets]


def train_together(kind: str, folder: Path) -> list[dict[str, Any]]:
    """What each of two workers said."""
    ports = free_ports(2)
    forked = functools.partial(Preloaded, backend=kind)
    # The chief looks whether ours imports TensorFlow with JAX; a process that is forked has imported it already.
    starts = [subprocess.Popen if kind == "jax" else forked, forked]
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(
                start(
                    [sys.executable, WORKER, kind, str(index), *ports],
                    env=environment(folder, kind),
                    cwd=folder,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
            )
            for index, start in enumerate(starts)
        ]
        try:
            said = [worker.communicate(timeout=DEADLINE_S) for worker in workers]
        finally:
            for worker in workers:
                if worker.poll() is None:  # a worker that waits for a dead one does not hear SIGTERM
                    os.killpg(worker.pid, signal.SIGKILL)
    for worker, (out, errors) in zip(workers, said, strict=True):
        assert worker.returncode == 0, errors[-4000:]
        assert out.strip(), errors[-4000:]
    return [json.loads(out.strip().splitlines()[-1]) for out, _ in said]


def store_of(folder: Path) -> RunStore:
    """The store that the workers shared."""
    return tracker.open_store(f"sqlite:///{folder / 'tracker.db'}")


@pytest.mark.parametrize("kind", backends(__name__))
def test_the_chief_alone_keeps_the_record(kind: str, tmp_path: Path) -> None:
    """Two workers run the same script: there is one run, each epoch is written once, and files are the chief's."""
    chief, other = train_together(kind, tmp_path)
    with contextlib.closing(store_of(tmp_path)) as store:
        (run,) = store.search_runs().runs
        assert (chief["run"], other["run"]) == (run.id, None)
        assert (chief["errors"], other["errors"]) == (0, 0)
        assert run.status == "finished"
        assert [(fit.number, fit.outcome) for fit in store.fits(run.id)] == [(1, "completed")]
        losses = store.history(run.id, "loss", raw=True)
        assert [int(step) for step in losses.steps] == [0, 1, 2]
        assert [float(value) for value in losses.values] == chief["loss"]
        # Each has its own part of the data, and both have the loss on all of it: they trained one model together.
        assert chief["loss"] == pytest.approx(other["loss"])
        if kind == "tensorflow":
            # Keras 3 cannot do it as it is; once it can, nothing needs to be mended in the worker.
            assert all("PerReplica" in one["refused"] for one in (chief, other))
        # To describe a model of JAX' nothing of TensorFlow is imported, which takes seconds.
        assert chief["tensorflow"] == (kind == "tensorflow")
        saved = store.checkpoints(run.id)
        assert [one.epoch for one in saved] == [0, 1, 2]
