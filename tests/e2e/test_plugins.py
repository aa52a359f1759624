"""Plugins of somebody else, installed from a distribution, in real processes: which events they get, and what they cannot break."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from e2e.children import Child, run_child
from e2e.cli_lab import installed
from e2e.server_lab import Server

import tracker

SAMPLE = Path(__file__).parents[1] / "plugins_sample"
TRAINING = """
    run = tracker.start_run(name="told")
    with run.start_fit(epochs=2, steps_per_epoch=5) as fit:
        fit.log_epoch(0, {"loss": 0.5}, steps=5)
        fit.log_epoch(1, {"loss": 0.25}, steps=10)
    open("m.keras", "wb").write(b"12345")
    run.log_checkpoint("m.keras", epoch=1)
    run.log_epoch(2, {"loss": 0.125})
"""


@pytest.fixture(scope="session")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which pip installed the sample."""
    folder = tmp_path_factory.mktemp("site")
    quiet = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation"]
    command = [sys.executable, "-m", "pip", "install", *quiet, "--target", str(folder), str(SAMPLE)]
    subprocess.run(command, check=True, timeout=120)
    return folder


@pytest.fixture
def diary(distribution: Path, store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file to which the sample plugin, installed for child processes, writes its events."""
    monkeypatch.setenv("PYTHONPATH", str(distribution))
    monkeypatch.setenv("SAMPLE_DIARY", str(tmp_path / "diary"))
    monkeypatch.setenv("TRACKER_PLUGINS", "-environment,-system")
    return tmp_path / "diary"


def told(diary: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in diary.read_text().splitlines()] if diary.exists() else []


def hooks(diary: Path) -> list[str]:
    return [one["hook"] for one in told(diary)]


def test_a_plugin_is_told_all_in_order(diary: Path, store_url: str) -> None:
    """Each hook of a run is called, in order, on the run's thread for it, though another plugin fails in each."""
    child = run_child(TRAINING + "    run.finish()\n    print(dict(run.problems))\n")
    run_id = told(diary)[0]["run"]
    lines = [{key: value for key, value in one.items() if key not in ("pid", "thread")} for one in told(diary)]
    assert lines == [
        {"hook": "run_started", "run": run_id, "status": "running", "resumed": False},
        {"hook": "fit_started", "number": 1, "phase": 1, "first_epoch": 0, "epochs": 2},
        {"hook": "epoch_ended", "run": run_id, "epoch": 0, "metrics": {"loss": 0.5}},
        {"hook": "epoch_ended", "run": run_id, "epoch": 1, "metrics": {"loss": 0.25}},
        {"hook": "fit_ended", "number": 1, "outcome": "completed"},
        {"hook": "checkpoint_saved", "epoch": 1, "format": ".keras", "size": 5},
        {"hook": "epoch_ended", "run": run_id, "epoch": 2, "metrics": {"loss": 0.125}},
        {"hook": "run_ended", "status": "finished"},
    ]
    assert {one["thread"] for one in told(diary)} == {"tracker-plugins"}
    with closing(tracker.open_store()) as store:
        assert store.get_run(run_id).status == "finished"
        assert store.tags(run_id) == {"sample": "was here", "mistaken": "but here"}
        assert [event.kind for event in store.events(run_id)][-1] == "sample_said_goodbye"
    # Who failed in what is said once, and counted; so is what could not be loaded.
    assert child.errors.count("the plugin crashing failed in its hook epoch_ended: ZeroDivisionError: in epoch 0") == 1
    assert "in epoch 1" not in child.errors
    assert "crashing.epoch_ended: 3" in child.errors
    assert "the plugin crashing failed in its hook run_ended: SystemExit: not like that" in child.errors
    assert child.errors.count("the plugin leaving (tracker-sample 1.2.3): it cannot be loaded") == 1
    assert "the plugin missing (tracker-sample 1.2.3)" in child.errors
    assert "the plugin mistaken (tracker-sample 1.2.3): epoch_begun is never called" in child.errors
    assert "moon" not in child.errors


def test_a_slow_plugin_holds_nothing_up(diary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training, its checkpoints and `flush` go on while a plugin is still busy with its first epoch."""
    gate = tmp_path / "gate"
    monkeypatch.setenv("SAMPLE_GATE", str(gate))
    run_child(TRAINING + f"    assert run.flush() == 0\n    open({str(gate)!r}, 'w').close()\n    run.finish()\n")
    assert hooks(diary)[-1] == "run_ended"
    assert [one["epoch"] for one in told(diary) if one["hook"] == "epoch_ended"] == [0, 1, 2]


def test_a_plugin_follows_a_fit_of_keras(diary: Path) -> None:
    """Its observer hears of each epoch on the training thread, though another plugin fails as it is asked for one."""
    child = run_child(
        """
        import keras, numpy
        from tracker_keras import TrackerCallback
        model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        with tracker.start_run() as run:
            model.fit(numpy.ones((4, 3)), numpy.ones(4), epochs=2, callbacks=[TrackerCallback(run)])
        assert run.problems == {
            "plugin crashing.fit_observers": 1, "plugin crashing.run_started": 1, "plugin crashing.epoch_ended": 2,
            "plugin crashing.run_ended": 1,
        }, run.problems
        """,
        backend="tensorflow",
    )
    followed = [one for one in told(diary) if one["thread"] == "MainThread"]
    assert [{key: value for key, value in one.items() if key not in ("pid", "thread")} for one in followed] == [
        {"hook": "begin", "epoch": 0, "callbacks": ["History", "ProgbarLogger"]},
        {"hook": "end_epoch", "epoch": 0, "metrics": ["learning_rate", "loss"]},
        {"hook": "end_epoch", "epoch": 1, "metrics": ["learning_rate", "loss"]},
        {"hook": "end", "epochs": 2},
    ]
    assert (
        child.errors.count("the plugin crashing failed in its hook fit_observers: ZeroDivisionError: no observer") == 1
    )


def test_a_plugin_that_hangs_is_left_behind(diary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run ends truthfully in its time though a plugin never comes back, and says so."""
    monkeypatch.setenv("SAMPLE_GATE", str(tmp_path / "never"))
    child = run_child(TRAINING + "    run.finish(timeout=2)\n    assert run.problems['plugins'] == 1, run.problems\n")
    assert "background work of plugins was not done" in child.errors
    assert hooks(diary) == ["run_started", "fit_started"]
    with closing(tracker.open_store()) as store:
        assert store.search_runs().runs[0].status == "finished"


@pytest.mark.parametrize(
    ("ending", "status", "outcome"),
    [
        ("raise ValueError('no')", "failed", "failed"),
        ("say('ready'); wait()", "preempted", "preempted"),
        ("pass", "failed", "failed"),  # its fit neither returned nor has its epochs
    ],
)
def test_the_last_word_comes_on_every_way_out(diary: Path, ending: str, status: str, outcome: str) -> None:
    """However the process ends, plugins hear of the fit's and the run's end before the run has ended."""
    code = 'run = tracker.start_run()\nfit = run.start_fit(epochs=3)\nfit.log_epoch(0, {"loss": 1.0})\n' + ending
    with Child(code) as child:
        if status == "preempted":
            child.expect("ready")
            child.send(signal.SIGTERM)
        child.end()
    assert told(diary)[-2]["outcome"] == outcome
    assert told(diary)[-1] | {"thread": "", "pid": 0} == {"hook": "run_ended", "status": status, "thread": "", "pid": 0}
    with closing(tracker.open_store()) as store:
        (run,) = store.search_runs().runs
        assert run.status == status
        assert store.fits(run.id)[0].outcome == outcome
        assert "sample_said_goodbye" in [event.kind for event in store.events(run.id)]


def test_a_run_taken_up_again_says_so(diary: Path) -> None:
    """Plugins of a later process hear of the same run again."""
    run_child('tracker.start_run(run_id="again").finish()')
    run_child('tracker.start_run(run_id="again", resume="must").finish()')
    assert [(one["run"], one["resumed"]) for one in told(diary) if "run" in one] == [("again", False), ("again", True)]


@pytest.mark.parametrize(
    ("chosen", "called"),
    [("off", []), ("OFF", []), ("-sample", []), ("crashing, sample", ["run_started", "run_ended"]), ("system", [])],
)
def test_plugins_can_be_chosen(diary: Path, monkeypatch: pytest.MonkeyPatch, chosen: str, called: list[str]) -> None:
    """TRACKER_PLUGINS names those that may be called, or with a minus those that may not; `off` is none."""
    monkeypatch.setenv("TRACKER_PLUGINS", chosen)
    run_child("tracker.start_run().finish()")
    assert hooks(diary) == called


def test_no_plugin_in_forked_children_or_disabled(diary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the process that opened a run tells of it, and a disabled one tells nothing."""
    run_child(
        """
        run = tracker.start_run()
        if (child := os.fork()) == 0:
            run.log_epoch(0, {"loss": 1.0})
            run.finish()
            os._exit(0)
        os.waitpid(child, 0)
        run.finish()
        """
    )
    assert hooks(diary) == ["run_started", "run_ended"]
    assert len({one["pid"] for one in told(diary)}) == 1
    diary.unlink()
    monkeypatch.setenv("TRACKER_MODE", "disabled")
    run_child(TRAINING + "    run.finish()\n")
    assert hooks(diary) == []


def test_the_list_says_what_works(diary: Path) -> None:
    """`tracker plugins` names each, with its distribution, its hooks, and what is wrong with it."""
    done = installed("plugins", "--format", "json")
    assert done.returncode == 0, done.stderr
    found = {one["name"]: one for one in json.loads(done.stdout)}
    assert {name: one["state"] for name, one in found.items()} == {
        "crashing": "active", "environment": "off", "lacking": "inactive", "leaving": "failed", "missing": "failed",
        "mistaken": "active", "sample": "active", "system": "off", "tensorboard": "active",
    }  # fmt: skip
    assert (found["sample"]["distribution"], found["sample"]["version"]) == ("tracker-sample", "1.2.3")
    assert found["sample"]["hooks"] == [
        "run_started", "fit_started", "epoch_ended", "checkpoint_saved", "fit_ended", "run_ended",
        "fit_observers", "commands", "server_mounts",
    ]  # fmt: skip
    assert found["lacking"]["reason"] == "it needs a moon, and there is none"
    assert "tracker_sample.nowhere" in found["missing"]["reason"]
    assert "epoch_begun" in found["mistaken"]["reason"]
    table = installed("plugins")
    assert "it needs a moon" in table.stdout
    assert "sample" in table.stdout
    assert table.stderr == ""


def test_broken_metadata_stops_no_other_plugin(diary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution whose entry points cannot be read is named, and the others are there."""
    broken = tmp_path / "site" / "broken_thing-1.0.dist-info"
    broken.mkdir(parents=True)
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-thing\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_text("[tracker.plugins]\nnothing that can be read\n")
    monkeypatch.setenv("PYTHONPATH", f"{broken.parent}{os.pathsep}{os.environ['PYTHONPATH']}")
    found = {one["name"]: one for one in json.loads(installed("plugins", "--format", "json").stdout)}
    assert found["sample"]["state"] == "active"
    assert found["broken_thing-1.0.dist-info"]["state"] == "failed"
    run_child("tracker.start_run().finish()")
    assert hooks(diary) == ["run_started", "run_ended"]


def test_plugins_bring_commands(diary: Path) -> None:
    """A plugin's command is one of `tracker`'s; ours stay ours, and one that fails is named."""
    assert installed("hello", "world").stdout == "hello world\n"
    listed = installed("--help")
    assert "Greet somebody." in listed.stdout
    assert "the plugin crashing failed in its hook commands: ZeroDivisionError: after one command" in listed.stderr
    assert listed.stderr.count("the plugin sample has the command runs, which exists already") == 1
    ours = installed("runs", "--help")
    assert "newest first" in ours.stdout
    assert ours.stderr == ""
    crashed = installed("crash")
    assert crashed.returncode == 1
    assert crashed.stderr.splitlines()[-1] == (
        "tracker: the command crash of a plugin failed: ZeroDivisionError: the crashing plugin's command"
    )
    assert installed("nothing").returncode == 2


def test_plugins_mount_applications(diary: Path, store_url: str) -> None:
    """A plugin's application answers on the server below its path; one that fails costs only its own requests."""
    with Server(store_url) as server:
        answer = server.ask("GET", "/sample/a/b?c=1")
        assert (answer.status, answer.json) == (200, {"method": "GET", "path": "/sample/a/b", "root_path": "/sample"})
        assert server.ask("GET", "/sample").json["path"] == "/sample/"
        assert server.ask("POST", "/sample/x", body=b"1").status == 200
        failed = server.ask("GET", "/crash/x")
        assert (failed.status, failed.json["detail"]) == (500, "the plugin crashing failed; the server's log says how")
        assert server.ask("GET", "/samples").status == 404
        assert server.ask("GET", "/api/v1/runs").json["runs"] == []
        assert server.ask("GET", "/sample", headers={"Host": "evil.example"}).status == 403
        assert "the plugin crashing failed at /crash" in server.errors


def test_mounts_stand_behind_the_gate(diary: Path, store_url: str) -> None:
    """Reading what a plugin mounts needs a viewer, anything else a writer, unless the mount asks for more."""
    tokens = {
        role: installed("token", "create", role, "--role", role).stdout.strip()
        for role in ("viewer", "writer", "admin")
    }
    with Server(store_url) as server:

        def ask(role: str, method: str, path: str) -> int:
            return server.ask(method, path, headers={"Authorization": f"Bearer {tokens[role]}"}).status

        assert server.ask("GET", "/sample/x").status == 401
        assert (ask("viewer", "GET", "/sample/x"), ask("viewer", "POST", "/sample/x")) == (200, 403)
        assert (ask("writer", "POST", "/sample/x"), ask("writer", "GET", "/locked/away/x")) == (200, 403)
        assert (ask("admin", "GET", "/locked/away/x"), ask("viewer", "GET", "/locked/away")) == (200, 403)
