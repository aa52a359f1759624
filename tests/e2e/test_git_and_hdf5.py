"""Git runs during a training: its child processes must not hold the locks of files that Keras writes."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import h5py

from tracker_system.git import state_of


def test_a_file_is_written_again_while_git_is_asked(tmp_path: Path) -> None:
    """HDF5 refuses a file whose lock a forked child still has; ModelCheckpoint would raise out of `fit()`."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    asked, over = 0, threading.Event()

    def ask() -> None:
        nonlocal asked
        while not over.is_set():
            assert state_of(tmp_path, with_diff=False) is not None
            asked += 1

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        while asked < 20:
            with h5py.File(tmp_path / "best.weights.h5", "w") as file:
                file["weights"] = list(range(100))
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_a_file_that_stays_open_is_not_waited_for(tmp_path: Path) -> None:
    """Data that is trained on may lie in one."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    with h5py.File(tmp_path / "data.h5", "w"):
        found = state_of(tmp_path, with_diff=False)
    assert found is not None
    assert found.root == str(tmp_path.resolve())
