"""A run goes on from the journals on this machine where the store is away, or is not asked at all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from e2e.children import Child, eventually
from e2e.server_lab import Server, away

from tracker import resume_lookup
from tracker.api import open_store, start_run, sync_journals
from tracker.client.journal import folder
from tracker.client.run import Run
from tracker.domain.errors import RunExists, RunNotFound, StoreError
from tracker.settings import Settings

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def server(store_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server over the test's SQLite store, which does not run yet; it is TRACKER_STORE."""
    with away(store_url) as server:
        monkeypatch.setenv("TRACKER_STORE", server.url)
        yield server


@pytest.fixture(params=["offline", "away"])
def unreachable(
    store_url: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], object]]:
    """The store cannot be asked: by TRACKER_MODE, or because its server is away. Returns a function that starts the server."""
    if request.param == "offline":
        monkeypatch.setenv("TRACKER_MODE", "offline")
        yield lambda: None
        return
    with away(store_url) as server:
        monkeypatch.setenv("TRACKER_STORE", server.url)
        yield server.start


KILLED = """
    run = tracker.start_run("E", name="it", run_id=sys.argv[1] if len(sys.argv) > 1 else None)
    fit = run.start_fit(epochs=5, steps_per_epoch=10)
    for epoch in range(3):
        fit.log_batch((epoch + 1) * 10, {"batch/loss": float(epoch)})
        fit.log_epoch(epoch, {"loss": float(epoch)}, steps=(epoch + 1) * 10)
    say(run.id)
    wait()
"""


def left_by_a_killed_process() -> str:
    """The id of a run that was killed after three of its epochs."""
    with Child(KILLED) as child:
        run_id = child.line()
        child.kill()
    return run_id


def go_on(run: Run) -> None:
    """The last two epochs of the killed run."""
    fit = run.start_fit(initial_epoch=3, epochs=5, steps_per_epoch=10, resumed_steps=30)
    assert (fit.number, fit.phase, fit.first_epoch, fit.first_step) == (2, 1, 3, 31)
    for epoch in (3, 4):
        fit.log_batch((epoch - 2) * 10, {"batch/loss": float(epoch)})
        fit.log_epoch(epoch, {"loss": float(epoch)}, steps=(epoch - 2) * 10)
    fit.end("completed")


def assert_as_never_offline(url: str, run_id: str) -> None:
    """One run of two fits, with each epoch once, that ended as its last process did."""
    with closing(open_store(url)) as store:
        [run] = store.search_runs()
        assert (run.id, run.status) == (run_id, "finished")
        assert [(one.number, one.phase, one.outcome) for one in store.fits(run_id)] == [
            (1, 1, "lost"), (2, 1, "completed")]  # fmt: skip
        assert [(one.number, one.fit) for one in store.epochs(run_id)] == [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2)]
        for key, steps in (("loss", [0, 1, 2, 3, 4]), ("batch/loss", [10, 20, 30, 40, 50])):
            assert list(store.history(run_id, key, raw=True).steps) == steps


@pytest.mark.parametrize("resume", ["auto", "allow", "must"])
def test_a_killed_run_goes_on_from_its_journal(
    unreachable: Callable[[], object], store_url: str, home: Path, resume: str
) -> None:
    """However it is requested, the run is found at its epoch, and one sync makes one run of it."""
    run_id = left_by_a_killed_process()
    wanted = None if resume == "auto" else run_id
    with start_run("E", name="it", run_id=wanted, resume=resume) as run:  # type: ignore[arg-type]
        assert (run.id, run.resumed) == (run_id, True)
        go_on(run)
        run.finish(timeout=0.1)
    unreachable()

    def is_shipped() -> bool:  # by this process' own run, or by sync
        assert {one.error for one in sync_journals()} <= {None}
        return not list(folder(home).iterdir())

    eventually(is_shipped)
    assert_as_never_offline(store_url, run_id)


def test_offline_then_one_sync(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed and continued offline, again and again, the run is after one sync what it would be online."""
    monkeypatch.setenv("TRACKER_MODE", "offline")
    run_id = left_by_a_killed_process()
    with start_run("E", name="it", resume="auto") as run:
        assert run.id == run_id
        go_on(run)
    with start_run("E", name="it", resume="auto") as another:
        assert another.id != run_id, "it is finished"
    with pytest.raises(RunExists):
        start_run("E", run_id=run_id)
    with pytest.raises(RunNotFound):
        start_run("E", run_id="nowhere", resume="must")
    done = list(sync_journals())
    assert [one.error for one in done] == [None] * 3
    with closing(open_store(store_url)) as store:
        store.delete_run(another.id)
    assert_as_never_offline(store_url, run_id)


def test_a_store_that_comes_back_while_the_run_goes_on(
    server: Server, store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The dead process's journal is shipped before that of the one that goes on, which stays the run's owner."""
    caplog.set_level(logging.INFO, "tracker")
    run_id = left_by_a_killed_process()
    with start_run("E", name="it", resume="auto") as run:
        assert run.id == run_id
        go_on(run)
        assert run.flush(0.2) > 0
        server.start()
        eventually(lambda: run.flush(5) == 0)
        with closing(open_store(store_url)) as store:
            assert store.get_run(run_id).status == "running"
    assert_as_never_offline(store_url, run_id)
    assert "that an earlier process left" in caplog.text


def test_what_only_the_store_could_know_is_an_error(server: Server) -> None:
    """`must` says that the store does not answer where no journal has the run."""
    left_by_a_killed_process()
    with pytest.raises(StoreError, match="does not answer"):
        start_run("E", run_id="another", resume="must")


def test_a_run_that_went_on_elsewhere_is_left_alone(
    store_url: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal of a run that another process ended meanwhile, through the store, is no run to go on with."""
    monkeypatch.setenv("TRACKER_MODE", "offline")
    run_id = left_by_a_killed_process()
    kept = {path: path.read_bytes() for path in folder(home).glob("*.journal")}
    monkeypatch.setenv("TRACKER_MODE", "online")
    with start_run("E", name="it", resume="auto") as run:
        assert run.id == run_id
    for path, data in kept.items():
        path.write_bytes(data)
    monkeypatch.setenv("TRACKER_MODE", "offline")
    with start_run("E", name="it", resume="auto") as another:
        assert another.id != run_id


def test_where_a_run_stands_is_what_the_store_would_say(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several fits and phases, numbers outside of fits and supersession, journals and store tell the same."""
    monkeypatch.setenv("TRACKER_MODE", "offline")

    def told(run_id: str) -> tuple[object, object]:
        left = resume_lookup.recorded(Settings.from_environment(), store_url, run_id)
        assert left is not None
        return left.progress, sorted(
            (one.number, one.phase, one.first_epoch, one.outcome) for one in left.fits.values()
        )

    run = start_run("E", run_id="mine", resume="allow")
    for initial, epochs, resumed in ((0, 3, None), (1, 2, 5), (0, 2, None), (2, 2, None)):
        fit = run.start_fit(initial_epoch=initial, epochs=epochs, steps_per_epoch=4, resumed_steps=resumed)
        for epoch in range(initial, epochs):
            steps = (epoch - initial + 1) * 4
            fit.log_batch(steps, {"batch/loss": 1.0})
            fit.log_epoch(epoch, {"loss": 1.0}, steps=steps)
        fit.end("completed")
        if epochs == 3:
            run.finish("failed")
            run = start_run("E", run_id="mine", resume="allow")
    run.finish("failed")
    progress, fits = told("mine")
    assert [one.error for one in sync_journals()] == [None, None]
    with closing(open_store(store_url)) as store:
        assert store.progress("mine") == progress
        assert [(one.number, one.phase, one.first_epoch, one.outcome) for one in store.fits("mine")] == fits
