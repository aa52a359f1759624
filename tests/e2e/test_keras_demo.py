"""`python -m tracker_keras.demo`, from the command line to the store."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from e2e.keras_lab import training

import tracker

RUNS = ["periodic-checkpoint", "best-only", "early-stopping", "learning-rate-schedule", "tensorboard"]


def demo(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the demo in `folder` with its output as plain text."""
    given = {"COLUMNS": "80"} | variables
    return training(["-m", "tracker_keras.demo", *arguments], folder, "tensorflow", timeout=200, **given)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The demo with few epochs, and the folder that it ran in."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, demo(folder, "--epochs", "2")


def test_the_demo_records_five_trainings(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """Five finished runs are in the store, each with its epochs, validation, parameters and learning rate."""
    folder, done = finished
    assert done.returncode == 0, done.stderr
    store = tracker.open_store(f"sqlite:///{folder / 'tracker.db'}")
    try:
        for name in RUNS:
            (run,) = store.find_runs(name)
            assert (run.status, run.experiment) == ("finished", "digits")
            assert [epoch.number for epoch in store.epochs(run.id)] == [0, 1]
            assert {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"} <= set(store.metrics(run.id))
            assert store.params(run.id)["optimizer"] == "Adam"
            assert store.fits(run.id)[0].batch_size == 32
        (scheduled,) = store.find_runs("learning-rate-schedule")
        first, second = store.history(scheduled.id, "learning_rate").values
        assert second == pytest.approx(first * 0.904837, rel=1e-5)
    finally:
        store.close()


def test_the_stock_callbacks_did_their_work(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """Checkpoint files and event files are where the demo says, and there are no others."""
    folder, _ = finished
    written = {path.relative_to(folder).parts[0] for path in folder.rglob("*") if path.is_file()}
    assert written <= {"demo", "home", "tracker.db", "tracker.db-wal", "tracker.db-shm", "tracker-artifacts"}
    files = {path.relative_to(folder / "demo").as_posix() for path in (folder / "demo").rglob("*") if path.is_file()}
    assert {"periodic-checkpoint/cp-0001.weights.h5", "best-only/best.keras", "early-stopping/best.keras"} <= files
    assert any(name.startswith("tensorboard/train/events.out.tfevents") for name in files)


def test_the_output_is_for_people(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """It names the trainings, compares the runs in 80 columns, says what to try next, and no library talks."""
    _, done = finished
    lines = done.stdout.splitlines()
    assert done.stderr == ""
    assert max(len(line) for line in lines if " finished" in line) <= 80
    assert [
        name for name in RUNS if any(name in line and "finished" in line and "2/2" in line for line in lines)
    ] == RUNS
    for command in (
        "ui",
        "runs",
        "show early-stopping",
        "compare best-only",
        "history learning-rate-schedule learning_rate",
    ):
        assert any(f"tracker {command}" in line for line in lines), command
    assert "%|" not in done.stdout
    assert len(lines) < 50


def test_a_store_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    """A store URL with a typo ends the demo with what is wrong with it, and no traceback."""
    done = demo(tmp_path, "--epochs", "1", "--store", "sqlit:///x.db")
    assert done.returncode == 1
    assert "sqlit" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """Without the backend's library the demo names it and how to get it, before anything is imported."""
    done = demo(tmp_path, KERAS_BACKEND="torch")
    assert done.returncode == 2
    assert "PyTorch" in done.stderr
    assert "pip install 'callback-tracker[demo]'" in done.stderr


@pytest.mark.parametrize("arguments", [["--epochs", "0"], ["--epochs", "many"], ["--what"]])
def test_bad_usage(tmp_path: Path, arguments: list[str]) -> None:
    """Arguments that make no sense are refused as bad usage."""
    done = demo(tmp_path, *arguments)
    assert done.returncode == 2
    assert "usage:" in done.stderr
