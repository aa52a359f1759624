"""System metrics of real runs: what is sampled, when, on which axis, and what it cannot hurt."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from e2e.children import eventually, run_child
from e2e.server_lab import Server

import tracker
from tracker import compose
from tracker.domain.ports import RunStore

KEYS = {
    "cpu_utilization_percentage", "system_memory_usage_megabytes", "system_memory_usage_percentage",
    "disk_usage_percentage", "disk_usage_megabytes", "disk_available_megabytes",
    "network_receive_megabytes", "network_transmit_megabytes",
    "network_receive_megabytes_per_second", "network_transmit_megabytes_per_second",
    "process_cpu_utilization_percentage", "process_memory_usage_megabytes",
}  # fmt: skip
MEMORY = "system/process_memory_usage_megabytes"
WITHOUT_PSUTIL = """
import sys
sys.modules["psutil"] = None
from tracker.cli.main import cli
cli(["plugins", "--format", "json"])
"""


@pytest.fixture
def store(store_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunStore]:
    monkeypatch.setenv("TRACKER_PLUGINS", "system")
    with closing(compose.open_store(store_url)) as store:
        yield store


def test_the_machine_is_sampled_at_the_start_and_the_end(store: RunStore) -> None:
    """A short run has two samples on the axis `time`, in milliseconds since its start, and no thread is left."""
    run = tracker.start_run()
    eventually(lambda: _is_there(store, run.id) and MEMORY in store.metrics(run.id))
    run.finish()
    found = store.metrics(run.id)
    assert {f"system/{key}" for key in KEYS} <= found.keys()
    assert all(one.axis == "time" and one.best is None for one in found.values())
    memory = store.history(run.id, MEMORY)
    record = store.get_run(run.id)
    assert len(memory) == 2
    assert [int(ms) - record.started_ms for ms in memory.ms] == memory.steps.tolist()
    assert record.ended_ms is not None
    assert memory.ms[-1] <= record.ended_ms
    assert (memory.values > 10).all()
    # Shares and rates need something to compare with, so there is none at the start.
    assert len(store.history(run.id, "system/cpu_utilization_percentage")) == 1
    assert not [thread for thread in threading.enumerate() if thread.name in ("tracker-system", "tracker-plugins")]
    assert run.problems == {}


def _is_there(store: RunStore, run_id: str) -> bool:
    return bool(store.find_runs(run_id))


def test_it_is_sampled_again_and_again(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """TRACKER_SYSTEM_INTERVAL says how often; a run that is continued goes on in time, and nothing is superseded."""
    monkeypatch.setenv("TRACKER_SYSTEM_INTERVAL", "0.1")
    with tracker.start_run(run_id="twice") as run:
        with run.start_fit(epochs=1) as fit:
            fit.log_epoch(0, {"loss": 1.0})
        eventually(lambda: _is_there(store, "twice") and MEMORY in store.metrics("twice"))
        eventually(lambda: store.metrics("twice")[MEMORY].count >= 3)
    before = store.history("twice", MEMORY)
    with tracker.start_run(run_id="twice", resume="must") as run:
        with run.start_fit(initial_epoch=0, epochs=1) as fit:
            fit.log_epoch(0, {"loss": 1.0})
    after = store.history("twice", MEMORY)
    assert after.steps[: len(before)].tolist() == before.steps.tolist()
    assert len(after) >= len(before) + 1
    assert (after.steps[1:] > after.steps[:-1]).all()


def test_mlflow_sees_system_metrics(store: RunStore, store_url: str) -> None:
    """MLflow's clients read the series under the names that its page of system metrics looks for."""
    with tracker.start_run() as run:
        pass
    with Server(store_url) as server:
        found = server.get(f"/api/2.0/mlflow/runs/get?run_id={run.id}")["run"]["data"]["metrics"]
        assert {"system/system_memory_usage_megabytes", MEMORY} <= {one["key"] for one in found}
        history = server.get(f"/api/2.0/mlflow/metrics/get-history?run_id={run.id}&metric_key={MEMORY}")["metrics"]
        assert [one["step"] for one in history] == store.history(run.id, MEMORY).steps.tolist()


def test_another_worker_writes_under_its_own_name(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers beside the chief record their machine into the same run, in series of their own."""
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {}, "task": {"type": "worker", "index": 1}}))
    with tracker.start_run() as run:
        pass
    assert "system/worker-1/process_memory_usage_megabytes" in store.metrics(run.id)
    assert MEMORY not in store.metrics(run.id)


def test_without_psutil_it_is_inactive(store: RunStore) -> None:
    """The list says what to install, and a run neither fails nor complains."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_PSUTIL], capture_output=True, text=True, check=True)
    (system,) = [one for one in json.loads(done.stdout) if one["name"] == "system"]
    assert system["state"] == "inactive"
    assert system["reason"] == "it needs psutil, which is not installed: pip install 'callback-tracker[system]'"
    child = run_child('sys.modules["psutil"] = None\ntracker.start_run(run_id="bare").finish()')
    assert child.errors == ""
    assert store.metrics("bare") == {}


def test_what_cannot_be_read_is_left_out(store: RunStore) -> None:
    """A machine that does not tell something costs that series alone, and the run hears nothing of it."""
    child = run_child(
        """
        import psutil

        def refused():
            raise PermissionError("not for you")

        psutil.net_io_counters = psutil.virtual_memory = refused
        run = tracker.start_run(run_id="closed")
        run.finish()
        assert run.problems == {}, run.problems
        """
    )
    assert child.errors.count("system metrics") <= 1
    found = store.metrics("closed")
    assert MEMORY in found
    assert "system/system_memory_usage_megabytes" not in found


@pytest.mark.parametrize("value", ["often", "0", "-1", "nan", "1e9"])
def test_an_interval_that_is_none_is_refused(store: RunStore, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """start_run names the setting, its value and what it may be."""
    monkeypatch.setenv("TRACKER_SYSTEM_INTERVAL", value)
    with pytest.raises(tracker.TrackerError, match=r"TRACKER_SYSTEM_INTERVAL.*0\.1 to 86400 seconds"):
        tracker.start_run()


def test_numbers_of_ones_own(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """`run.log_system` takes what one measures oneself; what is no number is refused alone."""
    monkeypatch.setenv("TRACKER_PLUGINS", "off")
    with tracker.start_run() as run:
        run.log_system({"humidity": 0.25, "system/noise": 3, "colour": "red"})
        assert sum(run.problems.values()) == 1
    found = store.metrics(run.id)
    assert {key: (one.axis, one.last.value if one.last else None) for key, one in found.items()} == {
        "system/humidity": ("time", 0.25),
        "system/noise": ("time", 3.0),
    }
