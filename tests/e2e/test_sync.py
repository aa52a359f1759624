"""What a process leaves behind is shipped by who comes next: everything, once, and as it was meant."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from e2e.children import Child, eventually, run_child
from e2e.proxy_lab import Proxy, proxied
from e2e.server_lab import Server
from templates import sqlite_store

from tracker import compose
from tracker.api import open_store, start_run, sync_journals
from tracker.client.clock import now_ms
from tracker.client.journal import folder
from tracker.domain.errors import RunNotFound
from tracker.domain.ports import RunStore

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def store(store_url: str) -> Iterator[RunStore]:
    """The store of the test, with its schema."""
    with closing(compose.open_store(store_url)) as opened:
        yield opened


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that are started in the test only write their journals."""
    monkeypatch.setenv("TRACKER_MODE", "offline")


def journals(home: Path) -> list[str]:
    return sorted(path.name for path in folder(home).iterdir()) if folder(home).exists() else []


def steps(store: RunStore, run_id: str, key: str = "loss") -> list[int]:
    """The steps of all points of a series, those written twice twice."""
    return [int(step) for step in store.history(run_id, key, raw=True).steps]


def leave_everything(points: int = 100) -> str:
    """An offline run with something of every kind, left in its journal; returns its id."""
    Path("model.keras").write_bytes(b"weights")
    with start_run("E", name="it", params={"lr": 0.1}, tags={"a": "b"}) as run:
        fit = run.start_fit(epochs=1, steps_per_epoch=points)
        for step in range(points):
            run.log({"loss": float(step)}, step=step)
        fit.log_epoch(0, {"val_loss": 1.0}, seconds=2.0, steps=points)
        run.log_event("noted", why="so")
        run.log_histogram("weights", [1.0, 2.0], step=0)
        run.log_text("words", "notes/text.txt")
        run.log_checkpoint("model.keras", epoch=0)
        fit.end("completed")
    return run.id


def assert_everything_once(store: RunStore, run_id: str, points: int = 100) -> None:
    run = store.get_run(run_id)
    assert (run.name, run.experiment, run.status, run.best_epoch) == ("it", "E", "finished", 0)
    assert steps(store, run_id) == list(range(points))
    assert store.metrics(run_id)["loss"].count == points
    assert store.params(run_id) == {"lr": 0.1}
    assert store.tags(run_id)["a"] == "b"
    assert [event.kind for event in store.events(run_id)] == ["fit_started", "noted", "checkpoint_saved", "fit_ended"]
    assert [(epoch.number, epoch.seconds) for epoch in store.epochs(run_id)] == [(0, 2.0)]
    assert len(store.histograms(run_id)) == 1
    [checkpoint] = store.checkpoints(run_id)
    assert Path(checkpoint.uri.removeprefix("file://")).read_bytes() == b"weights"
    assert (Path(run.artifact_uri.removeprefix("file://")) / "notes/text.txt").read_text() == "words"


def test_offline_writes_nothing_but_the_journal(
    empty_store_url: str, home: Path, tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An offline run makes no store; its points are said to be left, and sync ships everything once."""
    run = start_run(name="it")
    run.log({"loss": 1.0})
    assert run.flush() == 1
    assert run.finish() == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home"]
    run_id = leave_everything()
    assert len(journals(home)) == 3  # two journals, and one folder of files
    synced = list(sync_journals())
    assert [(one.error, one.refused, one.garbage) for one in synced] == [(None, 0, 0)] * 2
    assert [one.points for one in synced] == [1, 101]
    with closing(open_store(empty_store_url)) as store:
        assert_everything_once(store, run_id)
    assert journals(home) == []


def test_a_journal_synced_twice_is_stored_once(store: RunStore, home: Path, offline: None) -> None:
    """The same journal found again, as after a crash between commit and removal, changes nothing."""
    run_id = leave_everything()
    with Child("""
        run = tracker.start_run(name="killed")
        run.log({"loss": 0.0}, step=0)
        say("ready")
        wait()
    """) as child:
        child.expect("ready")
        child.kill()
    shutil.copytree(folder(home), home / "copy")
    for _ in range(3):
        assert [one.error for one in sync_journals()] == [None, None]
        assert_everything_once(store, run_id)
        [killed] = [run for run in store.search_runs() if run.name == "killed"]
        assert killed.status == "lost"
        assert steps(store, killed.id) == [0]
        assert journals(home) == []
        shutil.copytree(home / "copy", folder(home), dirs_exist_ok=True)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, str]]:
    """A proxy before a server, and the server's store."""
    url = sqlite_store(tmp_path_factory.mktemp("store"))
    with Server(url) as server, proxied(server) as proxy:
        yield proxy, url


@pytest.fixture
def proxy(running: tuple[Proxy, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The proxy, which takes small batches only, so that there are many; it is TRACKER_STORE."""
    proxy, _ = running
    proxy.most = 2000
    monkeypatch.setenv("TRACKER_STORE", proxy.url)
    yield proxy
    proxy.passes = lambda path: True


@pytest.fixture
def behind(running: tuple[Proxy, str]) -> Iterator[RunStore]:
    """The store of the server behind the proxy."""
    with closing(open_store(running[1])) as opened:
        yield opened


def losing(proxy: Proxy) -> list[str]:
    """Have the proxy lose every third answer to a batch; returns the paths of those lost, as it does."""
    lost: list[str] = []
    count = itertools.count(1)

    def passes(path: str) -> bool:
        if not path.endswith("/batches") or next(count) % 3:
            return True
        lost.append(path)
        return False

    proxy.passes = passes
    return lost


def test_a_lost_answer_doubles_nothing(
    proxy: Proxy, behind: RunStore, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the store commits and the client does not hear of it, the frames sent again are skipped."""
    with monkeypatch.context() as offline:
        offline.setenv("TRACKER_MODE", "offline")
        run_id = leave_everything(2000)
    lost = losing(proxy)
    left = [synced.error for _ in range(200) if journals(home) for synced in sync_journals()]
    assert journals(home) == []
    assert left[-1] is None
    assert all(error is not None and "does not answer" in error for error in left[:-1]), left
    assert len(lost) > 2
    assert_everything_once(behind, run_id, 2000)


def test_a_run_whose_answers_are_lost_is_stored_once(proxy: Proxy, behind: RunStore, home: Path) -> None:
    """The same for a living run: training goes on, flush tells how it stands, and in the end all is there once."""
    lost = losing(proxy)
    with start_run(name="it") as run:
        for step in range(10):
            run.log({"loss": float(step)}, step=step)
            eventually(lambda: run.flush(timeout=0.1) == 0)
    eventually(lambda: journals(home) == [])
    assert lost
    assert steps(behind, run.id) == list(range(10))
    assert behind.get_run(run.id).status == "finished"


def test_a_sync_that_was_killed_is_taken_up(
    proxy: Proxy, behind: RunStore, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever syncs after one that died amid a journal ships the rest, and nothing twice."""
    with monkeypatch.context() as offline:
        offline.setenv("TRACKER_MODE", "offline")
        run_id = leave_everything(2000)
    halfway, go_on = threading.Event(), threading.Event()

    def passes(path: str) -> bool:
        with contextlib.suppress(RunNotFound):
            if len(steps(behind, run_id)) > 500:
                halfway.set()
                go_on.wait(60)
        return True

    proxy.passes = passes
    with Child("from tracker.api import sync_journals\nlist(sync_journals())") as child:
        assert halfway.wait(60)
        assert list(sync_journals()) == []
        child.kill()
    proxy.passes = lambda path: True
    go_on.set()
    assert 500 < len(steps(behind, run_id)) < 2000
    [synced] = sync_journals()
    assert synced.points == 2001
    assert_everything_once(behind, run_id, 2000)


def test_two_processes_sync_at_once(store: RunStore, home: Path, offline: None) -> None:
    """Each journal is shipped by one of them; together they ship all, once."""
    run_ids = [leave_everything(2000) for _ in range(6)]
    code = """
        from tracker.api import sync_journals
        say("ready")
        wait()
        for synced in sync_journals():
            say(f"{synced.run_id} {synced.points} {synced.error}")
        say("done")
    """
    with Child(code) as one, Child(code) as other:
        for child in (one, other):
            child.expect("ready")
        for child in (one, other):
            child.go_on()
        for child in (one, other):
            child.expect("done")
            assert child.end() == 0
    for run_id in run_ids:
        assert_everything_once(store, run_id, 2000)
    assert journals(home) == []


def test_sync_leaves_the_journal_of_a_living_process(store: RunStore, home: Path) -> None:
    """Neither `sync` nor a new run of the same store touches a journal while its process lives, even stopped."""
    with Child("""
        run = tracker.start_run(name="alive")
        run.log({"loss": 0.0}, step=0)
        run.flush()
        say("ready")
        wait()
        run.log({"loss": 1.0}, step=1)
        run.finish()
    """) as child:
        child.expect("ready")
        child.send(signal.SIGSTOP)
        [name] = journals(home)
        before = (folder(home) / name).read_bytes()
        assert list(sync_journals()) == []
        run_child("tracker.start_run(name='other').finish()")
        assert (folder(home) / name).read_bytes() == before
        child.send(signal.SIGCONT)
        child.go_on()
        assert child.end() == 0
    assert {run.name: run.status for run in store.search_runs()} == {"alive": "finished", "other": "finished"}


def test_journals_of_other_stores_stay(store: RunStore, home: Path, tmp_path: Path, offline: None) -> None:
    """A new run ships what belongs to its own store; `sync` also what belongs to other SQLite files."""
    elsewhere = f"sqlite:///{tmp_path}/elsewhere.db"
    start_run(name="here").finish()
    start_run(name="there", store=elsewhere).finish()
    start_run(name="far", store="postgresql://me@localhost:1/db").finish()
    run_child("os.environ['TRACKER_MODE'] = 'online'; tracker.start_run(name='next').finish()")
    assert sorted(run.name for run in store.search_runs()) == ["here", "next"]
    assert len(journals(home)) == 2
    synced = {Path(one.store).name: one for one in sync_journals()}
    assert synced["elsewhere.db"].error is None
    assert "set TRACKER_STORE to this store" in str(synced["db"].error)
    with closing(open_store(elsewhere)) as other:
        assert [run.name for run in other.search_runs()] == ["there"]
    assert len(journals(home)) == 1


def test_a_run_continued_offline_ends_as_its_last_writer_said(
    store: RunStore, home: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Journals of one run are shipped in the order in which they were begun, whatever their files are called."""
    monkeypatch.setenv("TRACKER_RUN_ID", "mine")
    for number, word in enumerate(["failed", "interrupted", "finished"]):
        begun = now_ms()
        eventually(lambda begun=begun: now_ms() > begun)  # type: ignore[misc]
        run = start_run()
        run.log({"loss": float(number)}, step=number)
        run.finish(word)  # type: ignore[arg-type]
        [path] = folder(home).glob("mine.*.journal")
        path.rename(path.with_name(f"{9 - number}.kept"))
    for path in folder(home).glob("*.kept"):
        path.rename(path.with_suffix(".journal"))
    assert [one.error for one in sync_journals()] == [None] * 3
    assert store.get_run("mine").status == "finished"
    assert steps(store, "mine") == list(range(3))


@pytest.fixture(params=["database", "server"])
def reached(store_url: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunStore]:
    """The store of the test, as TRACKER_STORE reaches it: in the process, or through a server."""
    with contextlib.ExitStack() as stack:
        if request.param == "server":
            monkeypatch.setenv("TRACKER_STORE", stack.enter_context(Server(store_url)).url)
        yield stack.enter_context(closing(compose.open_store(os.environ["TRACKER_STORE"])))


def test_resume_auto_finds_a_killed_run_at_once(reached: RunStore) -> None:
    """The run of a process killed a moment ago is continued where its journal ends, without waiting for its lease."""
    with Child("""
        run = tracker.start_run("E", name="it")
        fit = run.start_fit(epochs=5, steps_per_epoch=10)
        run.flush()
        for epoch in range(3):
            fit.log_epoch(epoch, {"loss": float(epoch)}, steps=(epoch + 1) * 10)
        say("ready")
        wait()
    """) as child:
        child.expect("ready")
        child.kill()
    with start_run("E", name="it", resume="auto") as run:
        fit = run.start_fit(initial_epoch=3, epochs=5, steps_per_epoch=10)
        assert (fit.number, fit.first_epoch, fit.first_step) == (2, 3, 31)
        fit.log_epoch(3, {"loss": 3.0}, steps=10)
        fit.end("completed")
    [only] = reached.search_runs()
    assert (only.id, only.status) == (run.id, "finished")
    assert [(epoch.number, epoch.fit) for epoch in reached.epochs(run.id)] == [(0, 1), (1, 1), (2, 1), (3, 2)]
    assert [fit.outcome for fit in reached.fits(run.id)] == ["lost", "completed"]


@pytest.mark.parametrize("damage", ["missing", "short", "other bytes"])
def test_a_damaged_file_costs_only_itself(store: RunStore, home: Path, offline: None, damage: str) -> None:
    """A staged file that is gone or not what it was is refused and named; all else is stored, and the journal kept."""
    run_id = leave_everything()
    [staged] = [path for path in folder(home).glob("*.files/*") if path.read_bytes() == b"weights"]
    if damage == "missing":
        staged.unlink()
    else:
        staged.write_bytes(b"weig" if damage == "short" else b"rubbish")
    [synced] = sync_journals()
    assert (synced.error, synced.refused, synced.points) == (None, 1, 101)
    assert list(store.checkpoints(run_id)) == []
    assert steps(store, run_id) == list(range(100))
    assert store.get_run(run_id).status == "finished"
    assert [name.split(".", 2)[2] for name in journals(home)] == ["files.refused", "journal.refused"]


def test_a_run_removed_from_the_store_is_told_again(store: RunStore, store_url: str, home: Path) -> None:
    """When a living run's rows vanish, as with a store restored from a backup, its journal brings them back."""
    import sqlite3

    with start_run(name="it", params={"lr": 1}) as run:
        run.log({"loss": 0.0}, step=0)
        assert run.flush() == 0
        with closing(sqlite3.connect(store_url.removeprefix("sqlite:///"))) as raw, raw:
            raw.execute("PRAGMA foreign_keys = ON")
            raw.execute("DELETE FROM metric_points")
            raw.execute("DELETE FROM runs")
        run.log({"loss": 1.0}, step=1)
        assert run.flush() == 0
    assert steps(store, run.id) == [0, 1]
    assert store.params(run.id) == {"lr": 1}
    assert store.get_run(run.id).status == "finished"
    assert journals(home) == []


def test_leftovers_do_not_hold_up_a_living_run(
    proxy: Proxy, behind: RunStore, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While an earlier process's journal is being shipped, the new run's own points go through and it can end."""
    with monkeypatch.context() as offline:
        offline.setenv("TRACKER_MODE", "offline")
        left = leave_everything()
    begun, go_on = threading.Event(), threading.Event()

    def passes(path: str) -> bool:
        if f"/{left}/artifacts" in path:
            begun.set()
            assert go_on.wait(60)
        return True

    proxy.passes = passes
    with Child("""
        run = tracker.start_run(name="new")
        run.log({"loss": 0.0}, step=0)
        assert run.flush(timeout=30) == 0
        wait()
        run.log({"loss": 1.0}, step=1)
        assert run.finish(timeout=30) == 0
        say(run.id)
        wait()
    """) as child:
        assert begun.wait(60)
        child.go_on()
        new = child.line()
        assert (behind.get_run(new).status, steps(behind, new)) == ("finished", [0, 1])
        assert list(behind.checkpoints(left)) == []
        go_on.set()
        eventually(lambda: journals(home) == [])
        child.go_on()
        assert child.end() == 0, child.errors
    assert_everything_once(behind, left)
