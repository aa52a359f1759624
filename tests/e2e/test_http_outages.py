"""A tracking server that is away, comes back, is killed: nothing is lost and nothing doubled."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from e2e.children import Child, eventually, run_child
from e2e.server_lab import Server, away

from tracker.api import open_store, start_run, sync_journals
from tracker.client.batch_builder import make_batch
from tracker.client.journal import folder
from tracker.client.run import Run
from tracker.compose import make_transport, open_artifacts
from tracker.domain.errors import StoreError
from tracker.domain.frames import Points, RunEnded, RunStarted
from tracker.domain.ports import RunStore

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def server(store_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server over the test's SQLite store, which does not run yet; it is TRACKER_STORE."""
    with away(store_url) as server:
        monkeypatch.setenv("TRACKER_STORE", server.url)
        yield server


def steps(store: RunStore, run_id: str) -> list[int]:
    """The steps of all points of `loss`, those written twice twice."""
    return [int(step) for step in store.history(run_id, "loss", raw=True).steps]


def stored(store: RunStore) -> int:
    """How many points of `loss` there are."""
    return sum(store.metrics(run.id)["loss"].count for run in store.search_runs() if "loss" in store.metrics(run.id))


def write_everything(run: Run, points: int = 100) -> None:
    """Something of every kind, files included."""
    Path("model.keras").write_bytes(b"weights")
    run.log_params({"lr": 0.1})
    fit = run.start_fit(epochs=1, steps_per_epoch=points)
    for step in range(points):
        run.log({"loss": float(step)}, step=step)
    fit.log_epoch(0, {"val_loss": 1.0}, seconds=2.0, steps=points)
    run.log_event("noted", why="so")
    run.log_histogram("weights", [1.0, 2.0], step=0)
    run.log_text("words", "notes/text.txt")
    run.log_checkpoint("model.keras", epoch=0)
    fit.end("completed")


def assert_everything_once(url: str, run_id: str, points: int = 100) -> None:
    with closing(open_store(url)) as store:
        run = store.get_run(run_id)
        assert (run.status, run.best_epoch) == ("finished", 0)
        assert steps(store, run_id) == list(range(points))
        assert store.params(run_id) == {"lr": 0.1}
        assert [event.kind for event in store.events(run_id)] == [
            "fit_started",
            "noted",
            "checkpoint_saved",
            "fit_ended",
        ]
        assert [(epoch.number, epoch.seconds) for epoch in store.epochs(run_id)] == [(0, 2.0)]
        assert len(store.histograms(run_id)) == 1
        [checkpoint] = store.checkpoints(run_id)
        files = open_artifacts(url)
        got = files.fetch(checkpoint.uri, Path("got"), sha256=checkpoint.sha256)
        assert got.read_bytes() == b"weights"
        assert files.fetch(f"{run.artifact_uri}/notes/text.txt", Path("got")).read_bytes() == b"words"
        assert len(files.list(run_id)) == 2


def test_a_run_starts_while_the_server_is_away(server: Server, home: Path) -> None:
    """A run needs no server to start, nor to go on; when there is one, everything is shipped to it, files included."""
    with start_run("E", name="it") as run:
        write_everything(run)
        assert run.flush(0.2) > 0
        server.start()
        eventually(lambda: run.flush(5) == 0)
    assert_everything_once(server.url, run.id)
    assert list(folder(home).iterdir()) == []


def test_files_wait_as_long_as_the_server_is_away(server: Server, home: Path) -> None:
    """An outage costs a file none of the attempts that it has when it is at fault itself."""
    server.start()
    with start_run("E", name="it") as run:
        assert run.flush() == 0
        server.kill()
        write_everything(run)
        for _ in range(10):
            assert run.flush(0.2) > 0
        server.start()
        eventually(lambda: run.flush(5) == 0)
    assert_everything_once(server.url, run.id)
    assert list(folder(home).iterdir()) == []


def test_a_run_that_never_met_its_server_is_synced(server: Server, home: Path) -> None:
    """A run that began and ended without a server is shipped by whoever comes once there is one."""
    with Child("""
        run = tracker.start_run("E", name="it")
        run.log({"loss": 0.0}, step=0)
        run.finish(timeout=0.1)
        say(run.id)
    """) as child:
        assert child.end() == 0, child.errors
    server.start()
    [synced] = sync_journals()
    assert (synced.error, synced.points, synced.store) == (None, 1, server.url)
    with closing(open_store()) as store:
        assert store.get_run(synced.run_id).status == "finished"
    assert list(folder(home).iterdir()) == []


def test_a_server_killed_again_and_again(server: Server, store_url: str) -> None:
    """While two processes write, the server is killed -9 and started again, and every point arrives once."""
    server.start()
    code = """
        run = tracker.start_run("E", run_id=sys.argv[1] if len(sys.argv) > 1 else None, name="writer")
        say("begun")
        step = 0
        for line in sys.stdin:
            if line.strip() == "end":
                break
            for _ in range(400):
                run.log({"loss": float(step), "other": 1.0}, step=step)
                step += 1
            run.flush(0)
        run.finish(timeout=60)
        say(str(step))
    """
    with Child(code) as one, Child(code) as two, closing(open_store(store_url)) as store:
        for child in (one, two):
            child.expect("begun")
        for turn in range(4):
            for child in (one, two):
                child.go_on("more")
                child.go_on("more")
            # Something of this turn is stored, and more is under way.
            eventually(lambda so_far=turn * 1600: stored(store) > so_far)
            server.kill()
            server.start()
        for child in (one, two):
            child.go_on("more")
            child.go_on("end")
        for child in (one, two):
            assert child.end() == 0, child.errors
    with closing(open_store(store_url)) as store:
        runs = store.search_runs().runs
        assert [run.status for run in runs] == ["finished"] * 2
        for run in runs:
            assert steps(store, run.id) == list(range(9 * 400))
            assert store.metrics(run.id)["other"].count == 9 * 400


def test_a_stop_request_reaches_the_run(server: Server) -> None:
    """What a reader asks of the server, the trainer learns with its next batch."""
    server.start()
    with start_run() as run, closing(open_store()) as store:
        assert run.flush() == 0
        assert not run.should_stop
        store.request_stop(run.id)
        run.log({"loss": 1.0})
        assert run.flush() == 0
        assert run.should_stop


def test_resume_without_a_server(server: Server) -> None:
    """`auto` creates a run if the server does not answer; `must` says that it does not."""
    with pytest.raises(StoreError, match="does not answer"):
        start_run(run_id="gone", resume="must")
    with start_run("E", name="it", resume="auto") as run:
        server.start()
        eventually(lambda: run.flush(5) == 0)


def test_a_server_that_is_away_draws_no_random_numbers(server: Server) -> None:
    """Attempts are made at random moments, and the training's own random numbers stay where its seed put them."""
    random.seed(7)
    drawn = random.getstate()
    run = start_run()
    run.log({"loss": 0.0})
    assert run.flush(1.0) == 1
    assert run.finish(timeout=0.1) == 1
    assert random.getstate() == drawn


def test_a_server_that_never_answers_holds_nobody_up(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes connections and says nothing costs `finish` the time it was given, and the exit no more."""
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        monkeypatch.setenv("TRACKER_STORE", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with Child("""
            import time
            run = tracker.start_run()
            run.log({"loss": 0.0}, step=0)
            before = time.monotonic()
            left = run.finish(timeout=0.5)
            assert left == 1 and time.monotonic() - before < 5
        """) as child:
            assert child.end() == 0, child.errors
    assert "1 points are still in the journal" in child.errors
    assert len(list(folder(home).glob("*.journal"))) == 1


def test_a_forked_process_has_connections_of_its_own(server: Server) -> None:
    """A store that was opened before a fork is used by parent and child at once, and each gets its own answers."""
    server.start()
    run_child("""
        runs = [tracker.start_run(name=f"run{number}") for number in range(2)]
        for run in runs:
            assert run.finish() == 0
        store = tracker.open_store()
        for _ in range(50):
            store.experiments()
            child = os.fork()
            mine = runs[bool(child)]
            right = store.get_run(mine.id).name == mine.name
            if child == 0:
                os._exit(not right)
            assert right
            assert os.waitpid(child, 0)[1] == 0
        store.close()
    """)


def test_two_servers_on_one_database(postgres_url: str) -> None:
    """A run's batches may go to either server, and to both: each frame is applied once."""
    with Server(postgres_url) as one, Server(postgres_url) as two:
        with closing(make_transport(one.url)) as left, closing(make_transport(two.url)) as right:
            batches = [make_batch("r", "w", [(1, RunStarted(1, "E", "n", "", "h", 1))])]
            batches += [make_batch("r", "w", [(i + 2, Points(1, "step", i, 0, {"loss": 1.0}))]) for i in range(40)]
            batches.append(make_batch("r", "w", [(42, RunEnded(9, "finished"))]))
            for batch in batches:
                assert left.send(batch) == right.send(batch)
        with closing(open_store(one.url)) as here, closing(open_store(two.url)) as there:
            assert steps(here, "r") == steps(there, "r") == list(range(40))
            mine, theirs = here.get_run("r"), there.get_run("r")
            assert mine == replace(theirs, artifact_uri=mine.artifact_uri)
            assert theirs.artifact_uri == f"{two.url}/api/v1/runs/r/artifacts"
            assert here.get_run("r").status == "finished"


def test_a_run_moves_to_the_other_server(postgres_url: str, home: Path) -> None:
    """When one of two servers dies, a run that is continued through the other goes on where it was."""
    with Server(postgres_url) as one, Server(postgres_url) as two:
        with start_run("E", store=one.url) as run:
            run.log({"loss": 0.0}, step=0)
            assert run.flush() == 0
        one.kill()
        with start_run("E", store=two.url, run_id=run.id, resume="must") as again:
            again.log({"loss": 1.0})
        with closing(open_store(two.url)) as store:
            assert steps(store, run.id) == [0, 1]
            assert store.get_run(run.id).status == "finished"
    assert list(folder(home).iterdir()) == []
