"""A training in a Jupyter kernel: its cells, a cell that is run again, an interrupt, a restart."""

from __future__ import annotations

import os
import queue
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from e2e.field.trials import TESTS
from e2e.keras_lab import environment
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.manager import KernelManager
from jupyter_client.provisioning import LocalProvisioner
from preloaded import Preloaded

import tracker

pytestmark = pytest.mark.timeout(600)
BEGIN = """
import sys
import keras, tracker
from tracker_keras import TrackerCallback
from keras_bench import X, Y, linear
keras.utils.set_random_seed(7)
model = linear()
run = tracker.start_run("notebook", name="cells", resume="auto")
callback = TrackerCallback(run, resume=True)
"""
FIT = "model.fit(X, Y, batch_size=5, epochs=3, callbacks=[callback])"
LONG = """
class Waits(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            print("in the middle", flush=True)
            __import__("time").sleep(300)
model.fit(X, Y, batch_size=5, epochs=3, callbacks=[callback, Waits()])
"""


class ForkedKernel(LocalProvisioner):
    """Starts a kernel from a process that has imported Keras; it is signalled and ended as any other."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """`cmd` without the options of a new interpreter."""
        command = [cmd[0], *cmd[cmd.index("-m") :]]
        self.process = Preloaded(
            command,
            backend="jax",
            env=kwargs["env"],
            cwd=kwargs["cwd"],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.pid = self.pgid = self.process.pid
        return self.connection_info


class Notebook:
    """A kernel whose cells are run one by one."""

    def __init__(self, folder: Path) -> None:
        self._manager = KernelManager(kernel_name="python3")
        self._manager.provisioner = ForkedKernel(parent=self._manager, kernel_spec=self._manager.kernel_spec)
        settings = environment(folder, "jax") | {"PYTHONPATH": os.pathsep.join([str(TESTS / "e2e"), str(TESTS)])}
        self._manager.start_kernel(env=settings, cwd=str(folder))
        self._connect()

    def _connect(self) -> None:
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=200)

    def run(self, cell: str, *, interrupt_at: str | None = None) -> str:
        """Run a cell; return the name of the error that it ended with, or nothing. Interrupt it once it says so."""
        message = self._client.execute(cell)
        while True:
            try:
                heard = self._client.get_iopub_msg(timeout=200)
            except queue.Empty as error:
                raise AssertionError(f"nothing came of {cell}") from error
            if heard["parent_header"].get("msg_id") != message:
                continue
            if interrupt_at is not None and interrupt_at in heard["content"].get("text", ""):
                self._manager.interrupt_kernel()
            if heard["msg_type"] == "status" and heard["content"]["execution_state"] == "idle":
                break
        while (reply := self._client.get_shell_msg(timeout=200))["parent_header"].get("msg_id") != message:
            pass
        return str(reply["content"].get("ename", ""))

    def restart(self) -> None:
        """Kernel → Restart."""
        self._client.stop_channels()
        self._manager.restart_kernel()
        self._connect()

    def close(self) -> None:
        """Kernel → Shut down."""
        self._client.stop_channels()
        self._manager.shutdown_kernel()


@pytest.fixture
def notebook(tmp_path: Path) -> Iterator[Notebook]:
    """A new kernel in the test's folder."""
    with closing(Notebook(tmp_path)) as kernel:
        yield kernel


def test_cells_again_interrupted_and_restarted(notebook: Notebook, tmp_path: Path) -> None:
    """Each fit of a cell is one of the run, an interrupt is one fit's, and after a restart the run goes on."""
    assert notebook.run(BEGIN) == ""
    assert notebook.run(FIT) == ""
    assert notebook.run(FIT) == ""
    assert notebook.run(LONG, interrupt_at="in the middle") == "KeyboardInterrupt"
    assert notebook.run(FIT) == ""
    notebook.restart()
    assert notebook.run(BEGIN + "print(run.id)") == ""
    assert notebook.run(FIT) == ""
    assert notebook.run("assert run.problems == {}, run.problems; run.finish()") == ""
    with closing(tracker.open_store(f"sqlite:///{tmp_path / 'tracker.db'}")) as store:
        again, first = store.find_runs("cells")
        assert (first.status, again.status) == ("finished", "finished")
        fits = store.fits(first.id)
        assert [fit.outcome for fit in fits] == ["completed", "completed", "interrupted", "completed"]
        assert [fit.first_epoch for fit in fits] == [0, 3, 6, 7]  # the last goes on from the state of epoch 6
        assert [epoch.number for epoch in store.epochs(first.id)] == list(range(9))
        assert [epoch.number for epoch in store.epochs(again.id)] == [0, 1, 2]
