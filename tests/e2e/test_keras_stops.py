"""A training that is asked to stop does so, and says why it ended."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import pytest
from e2e.children import DEADLINE_S, eventually
from e2e.cli_lab import installed, invoke, record
from e2e.keras_lab import Lab, environment
from e2e.server_lab import Server
from preloaded import Preloaded

import tracker

SCENARIOS = ("decisions",)
ENDLESS = """
import keras_bench, tracker
from tracker_keras import TrackerCallback

with tracker.start_run(name="endless") as run:
    keras_bench.fit(keras_bench.linear(), TrackerCallback(run), epochs=10**6)
"""


@pytest.mark.parametrize(("name", "epochs", "outcome"), [
    ("epoch", 2, "stopped"), ("batch", 2, "stopped"), ("last", 2, "completed"),
])  # fmt: skip
def test_a_fit_stops_on_request(keras: Lab, name: str, epochs: int, outcome: str) -> None:
    """It ends with the epoch in which it hears of it, its callbacks are told so; its last epoch is no stop."""
    assert keras.said("stops")[name] == [epochs, True]
    run = keras.run(f"stops.{name}")
    assert keras.store.fits(run.id)[0].outcome == outcome
    assert len([epoch for epoch in keras.store.epochs(run.id) if epoch.fit == 1]) == epochs
    told = [(event.epoch, event.detail) for event in keras.store.events(run.id) if event.kind == "stopped"]
    assert told[:1] == ([(1, {"by": "request"})] if outcome == "stopped" else [])
    assert run.status == "finished"


def test_with_batches_it_stops_within_the_epoch(keras: Lab) -> None:
    """With `log_batches` the fit ends with the batch in which it hears of it."""
    assert keras.steps(keras.run("stops.batch").id, "batch/loss") == [1, 2, 3, 4, 5, 6]
    assert len(keras.steps(keras.run("stops.epoch").id, "loss")) == 3


def test_a_later_fit_of_the_run_stops_too(keras: Lab) -> None:
    """The request is the run's: what it trains next ends after one epoch."""
    second = keras.store.fits(keras.run("stops.epoch").id)[1]
    assert (second.outcome, second.first_epoch) == ("stopped", 2)


def test_tracker_stop_through_a_server(store_url: str, tmp_path: Path) -> None:
    """`tracker stop` ends a training in another process that records through the same server."""
    with Server(store_url) as server:
        url = f"http://127.0.0.1:{server.port}"
        variables = environment(tmp_path, "jax") | {"TRACKER_STORE": url, "PYTHONPATH": str(Path(__file__).parent)}
        with Preloaded([sys.executable, "-c", ENDLESS], backend="jax", env=variables, cwd=tmp_path) as training:
            try:
                with closing(tracker.open_store(url)) as store:
                    eventually(lambda: any(store.epochs(run.id) for run in store.find_runs("endless")))
                    done = installed("stop", "endless", "--store", url)
                    assert (done.returncode, done.stdout) == (0, "")
                    assert "asked endless to stop" in done.stderr
                    assert training.wait(DEADLINE_S) == 0
                    (run,) = store.find_runs("endless")
                    (fit,) = store.fits(run.id)
                    kinds = [event.kind for event in store.events(run.id)]
            finally:
                training.kill()
    assert (run.status, fit.outcome) == ("finished", "stopped")
    assert [kind for kind in kinds if "stop" in kind] == ["stop_requested", "stopped"]


def test_only_what_runs_can_be_stopped(store_url: str) -> None:
    """A run that is over is named with how it ended, and one that there is not is not found."""
    record("over", [0.5])
    assert "over is not running, it is finished" in invoke("stop", "over").stderr
    done = invoke("stop", "nobody")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "nobody" in done.stderr
