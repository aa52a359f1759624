"""Searches copy the callbacks that they are given: KerasTuner each trial, scikit-learn's `clone` each estimator."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from e2e.keras_lab import training

import tracker

pytestmark = pytest.mark.timeout(300)
SEARCHES = Path(__file__).with_name("keras_searches.py")


def test_copies_of_a_callback_record_into_its_run(tmp_path: Path) -> None:
    """Deep copies record into the same run, unpickled ones open it by its id, and those without a run open their own."""
    done = training([SEARCHES, "facts.json"], tmp_path, "jax", PYTHONPATH=str(SEARCHES.parent))
    assert done.returncode == 0, done.stderr[-4000:]
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert facts["said"] == []
    assert facts["deep"] == [True, False]
    assert facts["pickled"] is True
    with closing(tracker.open_store(f"sqlite:///{tmp_path / 'tracker.db'}")) as store:
        runs = store.search_runs().runs
        assert {run.status for run in runs} == {"finished"}
        fits = {run.name: [(fit.number, fit.outcome) for fit in store.fits(run.id)] for run in runs}
        epochs = {run.name: [epoch.number for epoch in store.epochs(run.id)] for run in runs}
        (run,) = [run for run in runs if run.name == "pickled"]
    # Three trials; two values on two folds each, and the better one on everything.
    for name, count in {"tuner": 3, "grid": 5, "deep": 2, "pickled": 3}.items():
        assert fits.pop(name) == [(number, "completed") for number in range(1, count + 1)]
        assert epochs[name] == list(range(2 * count))
    assert list(fits.values()) == [[(1, "completed")]] * 3
    assert facts["elsewhere"] == [run.id, run.id]
