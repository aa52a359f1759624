"""Runs that a later process opens again, and clocks that go back: what stays, what is added, what a run took."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import preloaded
import pytest
from e2e.children import run_child
from e2e.cli_lab import invoke
from e2e.test_environment import git

import tracker
from tracker import compose
from tracker.domain.errors import RunDeleted
from tracker.domain.ports import RunStore

FIRST = "import tracker; tracker.start_run('E', name='it', run_id='it').finish('failed')"
LATER = {
    "must": "import tracker; tracker.start_run(run_id='it', resume='must').finish()",
    "allow": "import tracker; tracker.start_run(run_id='it', resume='allow').finish()",
    "auto": "import tracker; tracker.start_run('E', name='it', resume='auto').finish()",
}


@pytest.fixture
def store(store_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunStore]:
    """The store of the test; runs say where they take place."""
    monkeypatch.setenv("TRACKER_PLUGINS", "environment")
    with closing(compose.open_store(store_url)) as opened:
        yield opened


def script(folder: Path, name: str, code: str) -> tuple[Path, str]:
    """A script in a repository of its own, and the commit."""
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / name).write_text(code)
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", name)
    return folder / name, git(folder, "rev-parse", "HEAD")


@pytest.mark.parametrize("resume", LATER)
def test_the_first_process_stays_the_source(store: RunStore, tmp_path: Path, resume: str) -> None:
    """Source, commit and command line stay; the later process is an event, and a folder next to the first one's."""
    first, commit = script(tmp_path / "one", "train.py", FIRST)
    later, other = script(tmp_path / "two", "look.py", LATER[resume])
    for path in (first, later):
        preloaded.run([sys.executable, str(path)]).check_returncode()
    [run] = store.search_runs()
    tags = store.tags(run.id)
    assert (tags["mlflow.source.name"], tags["mlflow.source.git.commit"]) == (str(first), commit)
    [event] = [event for event in store.events(run.id) if event.kind == "reopened"]
    assert (event.detail["script"], event.detail["commit"]) == (str(later), other)
    root = Path(run.artifact_uri.removeprefix("file://")) / "environment"
    facts = {path.parent.name: json.loads(path.read_text()) for path in root.rglob("environment.json")}
    assert facts.pop("environment")["command"][-1] == str(first)
    [(folder, of_later)] = facts.items()
    assert folder.startswith("resumed-")
    assert (of_later["command"][-1], of_later["git"]["commit"]) == (str(later), other)


def test_the_commit_is_read_of_worktrees_and_packed_references(store: RunStore, tmp_path: Path) -> None:
    """Wherever Git keeps the commit that is checked out."""
    start = f"tracker.start_run(run_id='it', resume='allow').finish()\nprint({LATER['allow']!r})"
    path, commit = script(tmp_path / "one", "train.py", f"import tracker\n{start}")
    preloaded.run([sys.executable, str(path)]).check_returncode()
    git(path.parent, "pack-refs", "--all")
    preloaded.run([sys.executable, str(path)]).check_returncode()
    git(path.parent, "worktree", "add", "--quiet", str(tmp_path / "tree"))
    preloaded.run([sys.executable, str(tmp_path / "tree" / "train.py")]).check_returncode()
    git(path.parent, "checkout", "--quiet", "--detach")
    preloaded.run([sys.executable, str(path)]).check_returncode()
    found = [event.detail["commit"] for event in store.events("it") if event.kind == "reopened"]
    assert found == [commit] * 3


def test_a_deleted_run_is_not_opened_again(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how to have it back; TRACKER_RUN_ID is no way around it."""
    tracker.start_run(run_id="it").finish()
    store.delete_run("it")
    for resume in ("must", "allow"):
        with pytest.raises(RunDeleted, match="tracker undelete it"):
            tracker.start_run(run_id="it", resume=resume)  # type: ignore[arg-type]
    monkeypatch.setenv("TRACKER_RUN_ID", "it")
    with pytest.raises(RunDeleted, match="tracker undelete it"):
        tracker.start_run()
    assert invoke("undelete", "it").exit_code == 0
    tracker.start_run().finish()


CLOCK = """
import time
system = time.time_ns
def set_clock(hours):
    time.time_ns = lambda: system() + int(hours * 3600e9)
    time.time = lambda: time.time_ns() / 1e9
"""


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_clock_that_is_set_changes_no_duration(store: RunStore, hours: int) -> None:
    """Times of a process rise with real time, whatever is done to the system's clock meanwhile."""
    run_child(f"""{CLOCK}
with tracker.start_run(name="it") as run:
    with run.start_fit(epochs=2) as fit:
        run.log({{"batch": 1.0}}, step=0)
        fit.log_epoch(0, {{"loss": 1.0}})
        set_clock({hours})
        run.log({{"batch": 1.0}}, step=1)
        fit.log_epoch(1, {{"loss": 0.5}})
        run.log({{"batch": 1.0}}, step=2)
        run.log_event("note")
        run.log_system({{"x": 1.0}})
""")
    [run] = store.search_runs()
    [fit] = store.fits(run.id)
    assert run.ended_ms is not None
    assert fit.ended_ms is not None
    rising = [
        run.started_ms,
        fit.started_ms,
        *sorted([*store.history(run.id, "batch").ms, *store.history(run.id, "loss").ms]),
        *store.history(run.id, "system/x").ms,
        fit.ended_ms,
        run.ended_ms,
    ]
    assert rising == sorted(rising)
    [note] = [event.ms for event in store.events(run.id) if event.kind == "note"]
    assert fit.started_ms <= note <= run.ended_ms
    assert list(store.history(run.id, "batch").ms) == sorted(store.history(run.id, "batch").ms)
    assert 0 <= run.took_s(0) < 3600
    assert 0 <= store.history(run.id, "system/x").steps[0] < 3600_000


def test_a_later_process_whose_clock_is_behind_comes_later(store: RunStore) -> None:
    """What a run records after it was opened again comes after what it recorded before."""
    run_child("run = tracker.start_run(run_id='it'); run.log_event('first'); run.finish()")
    run_child(f"""{CLOCK}
set_clock(-2)
run = tracker.start_run(run_id="it", resume="must")
run.log_event("second")
run.finish()
""")
    run = store.get_run("it")
    assert [event.kind for event in store.events("it")] == ["first", "reopened", "second"]
    assert run.ended_ms is not None
    assert run.opened_ms is not None
    assert run.started_ms <= run.opened_ms <= run.ended_ms
    assert 0 <= run.took_s(0) < 3600


def test_took_is_shown_without_the_pause(store_url: str, store: RunStore) -> None:
    """`tracker show` and `tracker runs` say how long the run was open, not how long ago it began."""
    run_child("tracker.start_run(run_id='it').finish()")
    run_child(f"{CLOCK}\nset_clock(48)\ntracker.start_run(run_id='it', resume='must').finish()")
    run = store.get_run("it")
    assert run.ended_ms is not None
    assert run.ended_ms - run.started_ms > 47 * 3600_000
    for shown in (invoke("show", "it").output, invoke("runs").output):
        assert " h" not in shown.split("Timeline")[0].replace(" h ago", "")
