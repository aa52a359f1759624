"""Stores that are away, locked or full, disks that are full, many writers at once: nothing is lost, nothing hangs."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from e2e.children import Child, eventually, run_child

from tracker import compose
from tracker.api import open_store, start_run, sync_journals
from tracker.client.journal import folder
from tracker.domain.ports import RunStore

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def store(store_url: str) -> Iterator[RunStore]:
    """The store of the test, with its schema."""
    with closing(compose.open_store(store_url)) as opened:
        yield opened


def journals(home: Path) -> list[str]:
    return sorted(path.name for path in folder(home).iterdir())


def steps(store: RunStore, run_id: str, key: str = "loss") -> list[int]:
    """The steps of all points of a series, those written twice twice."""
    return [int(step) for step in store.history(run_id, key, raw=True).steps]


def the_run_id(store: RunStore, name: str = "it") -> str:
    [run] = [run for run in store.search_runs() if run.name == name]
    return run.id


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """What is inside takes no longer."""
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < seconds


@contextmanager
def locked(store_url: str) -> Iterator[None]:
    """Somebody else holds the database's write lock."""
    with closing(sqlite3.connect(store_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


# -- the store is away -----------------------------------------------------------------------------------------------


def test_a_locked_store_holds_up_nobody(
    store: RunStore, store_url: str, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While another process keeps SQLite's lock, flush and finish end in time and say how many points wait."""
    with start_run(name="it") as run:
        run.log({"loss": 0.0}, step=0)
        assert run.flush() == 0
        with locked(store_url):
            for step in range(1, 11):
                run.log({"loss": float(step)}, step=step)
            with at_most(2):
                assert run.flush(timeout=0.2) == 10
            assert "10 points are still in the journal" in caplog.text
            caplog.clear()
            with at_most(2):
                assert run.finish(timeout=0.2) == 10
            assert "10 points are still in the journal" in caplog.text
            assert run.status == "finished"
    eventually(lambda: journals(home) == [])
    assert steps(store, run.id) == list(range(11))
    assert store.get_run(run.id).status == "finished"


def test_sigterm_with_a_locked_store_ends_in_time(store: RunStore, store_url: str, home: Path) -> None:
    """However many runs are open, a preempted process is gone within seconds; each run's ending is in its journal."""
    with locked(store_url):
        with Child("""
            runs = [tracker.start_run(name=f"run {number}") for number in range(3)]
            for run in runs:
                run.log({"loss": 0.0}, step=0)
            os.kill(os.getpid(), signal.SIGTERM)
        """) as child:
            with at_most(15):
                assert child.end() == -15
        assert "1 points are still in the journal" in child.errors
    assert [one.error for one in sync_journals()] == [None] * 3
    assert {(run.name, run.status) for run in store.search_runs()} == {(f"run {n}", "preempted") for n in range(3)}


def test_a_store_whose_folder_went_away_is_waited_for(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Points wait in the journal, the reason is said once, and the next run of the store ships them when it is back."""
    place, away = tmp_path / "place", tmp_path / "away"
    place.mkdir()
    url = f"sqlite:///{place}/tracker.db"
    with Child(f"""
        run = tracker.start_run(name="it", store={url!r})
        assert run.flush() == 0
        say("ready")
        wait()
        for step in range(100):
            run.log({{"loss": float(step)}}, step=step)
        assert run.flush(timeout=0.1) == 100
        assert run.finish() == 100
    """) as child:
        child.expect("ready")
        place.rename(away)
        child.go_on()
        assert child.end() == 0, child.errors
    assert child.errors.count("does not take what run journal") == 1
    assert "100 points are still in the journal" in child.errors
    away.rename(place)
    with start_run(name="next", store=url) as run:
        run.flush()
        eventually(lambda: journals(home) == [f"{path.name}" for path in folder(home).glob(f"{run.id}*")])
    with closing(open_store(url)) as store:
        assert steps(store, the_run_id(store)) == list(range(100))
        assert store.get_run(the_run_id(store)).status == "finished"


def test_a_postgresql_server_that_goes_and_comes_back(
    postgres: str, postgres_url: str, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that drops its connections and takes no new ones loses nothing and doubles nothing."""
    database = postgres_url.rpartition("?")[0].rpartition("/")[2]

    def allow(connections: bool) -> None:
        with psycopg.connect(postgres, autocommit=True) as admin:
            admin.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS {connections}")
            if not connections:
                admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database])

    with start_run(name="it", store=postgres_url) as run:
        for turn in range(3):
            run.log({"loss": 0.0}, step=2 * turn)
            assert run.flush() == 0
            allow(False)
            run.log({"loss": 1.0}, step=2 * turn + 1)
            with at_most(5):
                assert run.flush(timeout=0.2) == 1
            allow(True)
            assert run.flush() == 0
    with closing(compose.open_store(postgres_url)) as store:
        assert steps(store, run.id) == list(range(6))
        assert store.get_run(run.id).status == "finished"
    assert journals(home) == []


@pytest.mark.parametrize(
    ("revision", "message"),
    [("9999", "newer than .*upgrade callback-tracker on this machine"), ("0000", "tracker db upgrade --store sqlite:")],
)
def test_a_store_of_another_revision_is_refused_and_waited_for(
    store: RunStore, store_url: str, home: Path, caplog: pytest.LogCaptureFixture, revision: str, message: str
) -> None:
    """A run goes on in its journal, the log says what to do, and once that is done everything is shipped."""

    def mark(number: str) -> str:
        with closing(sqlite3.connect(store_url.removeprefix("sqlite:///"))) as raw, raw:
            [(old,)] = raw.execute("SELECT version_num FROM alembic_version")
            raw.execute("UPDATE alembic_version SET version_num = ?", [number])
        return str(old)

    head = mark(revision)
    with start_run(name="it") as run:
        run.log({"loss": 0.0}, step=0)
        assert run.flush(timeout=0.3) == 1
    said = [record.getMessage() for record in caplog.records if "does not take" in record.getMessage()]
    assert len(said) == 1
    assert re.search(message, said[0])
    mark(head)
    eventually(lambda: journals(home) == [])
    assert steps(store, run.id) == [0]


# -- the disk is full ------------------------------------------------------------------------------------------------


def test_a_full_disk_stops_nothing_and_loses_nothing(store: RunStore, home: Path) -> None:
    """While the journal's disk takes nothing points are kept in memory, which is said once; then they are written."""
    child = run_child("""
        os.environ["TRACKER_MODE"] = "offline"
        run = tracker.start_run(name="it")
        step = 0
        for size in (4000, 5001, 6002, 7003, 8004):
            limit(size)
            for _ in range(200):
                run.log({"loss": float(step)}, step=step)
                step += 1
            run.log_text("x" * 10_000, "too-large.txt")
            room()
            run.log({"loss": float(step)}, step=step)
            step += 1
        run.finish()
    """)
    assert child.errors.count("takes nothing") == 1
    assert "points are kept in memory" in child.errors
    assert "lost" not in child.errors.replace("what is over that is lost", "")
    [synced] = sync_journals()
    assert (synced.error, synced.garbage, synced.refused, synced.points) == (None, 0, 0, 1005)
    assert steps(store, the_run_id(store)) == list(range(1005))


def test_what_no_disk_takes_is_counted(store: RunStore, home: Path) -> None:
    """Memory for what the disk refuses is bounded; what was lost is summed up, and what was written is whole."""
    child = run_child(
        """
        os.environ["TRACKER_MODE"] = "offline"
        before = memory()
        run = tracker.start_run(name="it")
        limit(4000)
        for step in range(300_000):
            run.log({"loss": float(step)}, step=step)
        run.finish()
        grown = memory() - before
        assert grown < 64 * 1024, grown
    """,
        new=True,
    )
    assert child.errors.count("takes nothing") == 1
    assert "log calls were lost because the disk" in child.errors
    assert "log calls are in memory only" in child.errors
    [synced] = sync_journals()
    assert (synced.error, synced.garbage) == (None, 0)
    stored = steps(store, the_run_id(store))
    assert 0 < len(stored) == synced.points
    assert stored == list(range(len(stored)))
    assert store.get_run(the_run_id(store)).status == "lost"


def test_a_run_cannot_start_on_a_full_disk(home: Path, store_url: str) -> None:
    """The error names the journal and the setting that helps, and no half journal is left."""
    with Child("""
        limit(50)
        tracker.start_run()
    """) as child:
        assert child.end() == 1
    assert "tracker.domain.errors.JournalError: cannot write" in child.errors
    assert "set TRACKER_HOME to another disk" in child.errors
    assert journals(home) == []


def test_a_full_disk_under_the_store_is_waited_out(store: RunStore, store_url: str, home: Path) -> None:
    """SQLite's "disk is full" is an outage like any other: said, waited for, and nothing is doubled after it."""
    size = max(os.path.getsize(store_url.removeprefix("sqlite:///")), 300_000)
    child = run_child(f"""
        run = tracker.start_run(name="it")
        assert run.flush() == 0
        limit({size + 100_000})
        step = 0
        while not run.flush(timeout=1.0 if step else 0.1):
            for _ in range(500):
                run.log({{"loss": float(step), "acc": 0.5, "val_loss": 1.0, "val_acc": 0.5}}, step=step)
                step += 1
        room()
        assert run.flush() == 0
        run.log_params({{"steps": step}})
    """)
    assert "does not take what run journal" in child.errors
    run_id = the_run_id(store)
    assert steps(store, run_id) == list(range(int(store.params(run_id)["steps"])))
    assert store.get_run(run_id).status == "finished"
    assert journals(home) == []


def test_a_full_artifact_folder_keeps_the_files(store: RunStore, home: Path) -> None:
    """A file that the artifact folder does not take waits with its journal, and is there once there is room.

    The folder is as on another disk than the journal: a second name for the file would need no room.
    """
    run_child("""
        os.environ["TRACKER_MODE"] = "offline"
        run = tracker.start_run(name="it")
        run.log({"loss": 0.0}, step=0)
        run.log_text("x" * 2_000_000, "large.txt")
        run.log({"loss": 1.0}, step=1)
        run.finish()
    """)
    child = run_child("""
        def link(*_, **__):
            raise OSError(18, "Invalid cross-device link")
        os.link = link
        limit(1_000_000)
        from tracker.api import sync_journals
        [synced] = sync_journals()
        assert "cannot store 'large.txt'" in synced.error, synced
        assert "File too large" in synced.error, synced
    """)
    assert "stays where it is" in child.errors
    [synced] = sync_journals()
    assert (synced.error, synced.points) == (None, 2)
    run_id = the_run_id(store)
    root = Path(store.get_run(run_id).artifact_uri.removeprefix("file://"))
    assert [(path.name, path.stat().st_size) for path in root.iterdir()] == [("large.txt", 2_000_000)]
    assert steps(store, run_id) == [0, 1]
    assert journals(home) == []


def test_a_file_that_can_never_be_published_holds_up_nothing(
    store: RunStore, home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After a few attempts a living run gives the file up, says so, keeps it, and ships everything else."""
    (tmp_path / "tracker-artifacts").write_text("a file where a folder should be")
    with start_run(name="it") as run:
        run.log_text("words", "text.txt")
        run.log({"loss": 0.0}, step=0)
        eventually(lambda: run.flush(timeout=0.05) == 0)
    eventually(lambda: len(journals(home)) == 2)
    assert steps(store, run.id) == [0]
    assert store.get_run(run.id).status == "finished"
    assert [name.split(".", 2)[2] for name in journals(home)] == ["files.refused", "journal.refused"]
    assert "cannot store 'text.txt'" in caplog.text
    assert "it is kept as" in caplog.text


# -- much at once ----------------------------------------------------------------------------------------------------


def test_eight_processes_write_one_sqlite_file(store: RunStore, home: Path) -> None:
    """All succeed, none hears of a lock, and every point of every one is there once."""
    children = [
        Child(f"""
            run = tracker.start_run(name="run {number}", params={{"number": {number}}})
            run.flush()
            say("ready")
            wait()
            fit = run.start_fit(epochs=20, steps_per_epoch=100)
            for step in range(2000):
                run.log({{"loss": float(step), "acc": 0.5}}, step=step)
                if step % 100 == 99:
                    fit.log_epoch(step // 100, {{"val_loss": 1.0 / (step + 1)}}, steps=step + 1)
                    assert run.flush() == 0
            fit.end("completed")
            run.finish()
        """)
        for number in range(8)
    ]
    try:
        for child in children:
            child.expect("ready")
        for child in children:
            child.go_on()
        for child in children:
            assert child.end() == 0, child.errors
            assert child.errors == ""
    finally:
        for child in children:
            child.__exit__()
    for number in range(8):
        run_id = the_run_id(store, f"run {number}")
        assert store.get_run(run_id).status == "finished"
        assert store.get_run(run_id).best_epoch == 19
        assert store.params(run_id) == {"number": number}
        for key in ("loss", "acc"):
            assert steps(store, run_id, key) == list(range(2000))
            assert store.metrics(run_id)[key].count == 2000
        assert steps(store, run_id, "val_loss") == list(range(20))
    assert journals(home) == []


def test_two_processes_create_the_same_store(tmp_path: Path) -> None:
    """Ten times two processes open a store that is not there yet at the same moment: both get it."""
    code = """
        from tracker.compose import open_store
        import tracker.store.store, tracker.store.search.search, alembic.command
        say("ready")
        for url in sys.stdin:
            store = open_store(url.strip())
            assert store.search_runs().runs == []
            store.close()
            say("opened")
    """
    with Child(code) as one, Child(code) as other:
        for child in (one, other):
            child.expect("ready")
        for turn in range(10):
            for child in (one, other):
                child.go_on(f"sqlite:///{tmp_path}/{turn}.db")
            for child in (one, other):
                child.expect("opened")


def test_many_points_need_no_memory(store: RunStore, home: Path) -> None:
    """400 000 log calls, online, grow the process by less than 64 MiB."""
    run_child(
        """
        run = tracker.start_run(name="it")
        run.log({"loss": 0.0}, step=0)
        run.flush()
        before = memory()
        for step in range(1, 400_000):
            run.log({"loss": 0.5}, step=step)
        assert run.finish() == 0
        grown = memory() - before
        assert grown < 64 * 1024, f"{grown} KiB"
    """,
        new=True,
    )
    assert store.metrics(the_run_id(store))["loss"].count == 400_000
    assert journals(home) == []


# -- clocks ----------------------------------------------------------------------------------------------------------


def test_a_clock_that_goes_back_loses_no_point(
    store: RunStore, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Points are in the order of their steps, and their times never fall, whatever the system's clock does."""
    now, offsets = time.time_ns(), iter((0, 1, -2, 3, -4, -4, 5))
    with start_run(name="it") as run:
        run.log({"loss": -1.0}, step=0)
        for step in range(1, 8):
            there = now + next(offsets) * 3_600_000_000_000
            monkeypatch.setattr(time, "time_ns", lambda there=there: there)
            monkeypatch.setattr(time, "time", lambda there=there: there / 1e9)
            run.log({"loss": float(step)}, step=step)
        monkeypatch.undo()
    history = store.history(run.id, "loss")
    assert history.steps.tolist() == list(range(8))
    assert history.ms.tolist() == sorted(history.ms.tolist())
    assert history.ms[-1] - history.ms[0] < 60_000
    assert store.get_run(run.id).status == "finished"
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
