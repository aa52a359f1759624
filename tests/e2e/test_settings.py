"""Settings as scripts and shells have them: defaults of a run, and variables that are mistyped."""

from __future__ import annotations

import json
from contextlib import closing

import pytest
from e2e.children import run_child
from e2e.cli_lab import installed, invoke

import tracker
from tracker.domain.errors import InvalidValue


def test_experiment_and_name_of_the_environment(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the defaults of start_run; what the script says wins, also when it says Default."""
    monkeypatch.setenv("TRACKER_EXPERIMENT", "nightly")
    monkeypatch.setenv("TRACKER_RUN_NAME", "baseline")
    with tracker.start_run() as run:
        assert (run.experiment, run.name) == ("nightly", "baseline")
    with tracker.start_run("Default", name="mine") as run:
        assert (run.experiment, run.name) == ("Default", "mine")
    with closing(tracker.open_store()) as store:
        found = {(run.experiment, run.name) for run in store.search_runs().runs}
    assert found == {("nightly", "baseline"), ("Default", "mine")}


def test_resume_finds_the_run_of_the_environment(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`resume="auto"` looks for the newest unfinished run of the experiment and name that the environment says."""
    monkeypatch.setenv("TRACKER_EXPERIMENT", "nightly")
    monkeypatch.setenv("TRACKER_RUN_NAME", "long")
    first = tracker.start_run()
    first.log({"loss": 1.0}, step=1)
    first.finish("interrupted")
    with tracker.start_run(resume="auto") as second:
        assert second.id == first.id


@pytest.mark.parametrize("variable", ["TRACKER_EXPERIMENT", "TRACKER_RUN_NAME"])
def test_names_of_the_environment_are_checked(variable: str, store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that cannot be is refused as one in the script is; an empty variable counts as unset."""
    monkeypatch.setenv(variable, "x" * 600)
    with pytest.raises(InvalidValue, match="600"):
        tracker.start_run()
    monkeypatch.setenv(variable, "")
    with tracker.start_run() as run:
        assert run.experiment == "Default"


def test_a_mistyped_variable_is_said_once(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name and what it may have meant, never its value; what Kubernetes sets is left alone."""
    monkeypatch.setenv("TRACKER_STOER", "postgresql://u:hunter2@h/db")
    monkeypatch.setenv("TRACKER_SERVICE_HOST", "10.0.0.7")
    monkeypatch.setenv("TRACKER_PORT_5000_TCP_ADDR", "10.0.0.7")
    code = """
    import logging
    logging.basicConfig(level=logging.WARNING)
    for name in "ab":
        with tracker.start_run(name=name) as run:
            run.log({"loss": 1.0})
    tracker.open_store().close()
    """
    child = run_child(code)
    assert child.errors.count("TRACKER_STOER") == 1
    assert "did you mean TRACKER_STORE?" in child.errors
    assert "hunter2" not in child.errors
    assert "SERVICE_HOST" not in child.errors
    assert "PORT_5000" not in child.errors
    listed = installed("runs")
    assert listed.stderr.count("TRACKER_STOER is not a setting of Tracker") == 1


def test_the_doctor_names_mistyped_variables(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A note, as the variable may be somebody else's."""
    monkeypatch.setenv("TRACKER_RUNNAME", "x")
    found = json.loads(invoke("doctor", "--format", "json").stdout)
    (one,) = [one for one in found["findings"] if one["check"] == "settings"]
    assert one["status"] == "note"
    assert "TRACKER_RUNNAME" in one["found"]
    assert one["advice"] == "did you mean TRACKER_RUN_NAME?"
