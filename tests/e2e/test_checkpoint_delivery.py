"""Delivery of checkpoints from the training to the store: bounded, bytes before rows, whichever process is killed."""

from __future__ import annotations

import os
import socket
import threading
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from e2e.children import Child, eventually
from e2e.proxy_lab import proxied
from e2e.server_lab import Server, away

from tracker import compose
from tracker.api import open_store, start_run, sync_journals
from tracker.artifacts.folder_unpacking import unpack
from tracker.artifacts.local import LocalArtifacts
from tracker.client.checkpoint_log import CheckpointInfo
from tracker.client.journal import folder
from tracker.client.run import Run
from tracker.client.staging import MOST_WAITING, Staging
from tracker.domain.errors import JournalError
from tracker.domain.ports import RunStore
from tracker.domain.records import Checkpoint

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def store(store_url: str) -> Iterator[RunStore]:
    """The store of the test, with its schema."""
    with closing(compose.open_store(store_url)) as opened:
        yield opened


@pytest.fixture
def server(store_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server over the test's SQLite store, which does not run yet; it is TRACKER_STORE."""
    with away(store_url) as server:
        monkeypatch.setenv("TRACKER_STORE", server.url)
        yield server


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that are started in the test only write their journals."""
    monkeypatch.setenv("TRACKER_MODE", "offline")


def weights(text: str, name: str = "m.keras") -> str:
    """A file with these bytes, in the same place again and again as stock ModelCheckpoint writes it."""
    Path(name).write_text(text)
    return name


def published(store: RunStore, run_id: str, role: str = "model") -> list[Checkpoint]:
    return [one for one in store.checkpoints(run_id) if (one.status, one.role) == ("published", role)]


def bytes_of(one: Checkpoint) -> str:
    """What a checkpoint's file says; its digest is looked at on the way."""
    return LocalArtifacts(Path()).fetch(one.uri, Path("fetched"), sha256=one.sha256).read_text()


def files(store: RunStore, run_id: str) -> list[Path]:
    """The files of checkpoints that the run has among its artifacts."""
    root = Path(store.get_run(run_id).artifact_uri.removeprefix("file://"))
    return sorted(root.glob("checkpoints/*"))


def waiting(home: Path) -> list[str]:
    """The contents of the files that wait next to journals."""
    return sorted(path.read_text() for path in folder(home).glob("*.files/*") if path.stat().st_size)


def journals(home: Path) -> list[str]:
    return sorted(path.name for path in folder(home).iterdir()) if folder(home).exists() else []


def train(run: Run, epochs: int = 4) -> None:
    """A fit in which epoch 1 is the best, with a model and a state after each."""
    with run.start_fit(epochs=epochs, steps_per_epoch=10) as fit:
        for epoch in range(epochs):
            loss = abs(epoch - 1) + 0.5
            fit.log_epoch(epoch, {"val_loss": loss}, steps=10 * (epoch + 1))
            assert fit.log_checkpoint(weights(f"model {epoch}"), epoch, metrics={"val_loss": loss})
            assert fit.log_checkpoint(weights(f"state {epoch}"), epoch, role="state", state={"wait": epoch})


def assert_trained(store: RunStore, run_id: str, *, kept: list[int]) -> None:
    """What `train` wrote is there: the models of these epochs, the last state, and no other bytes."""
    assert [bytes_of(one) for one in published(store, run_id)] == [f"model {epoch}" for epoch in kept]
    [state] = published(store, run_id, "state")
    assert (bytes_of(state), state.state) == ("state 3", {"wait": 3})
    flags = [one.is_best for one in store.checkpoints(run_id) if one.role == "model"]
    assert flags == [True, True, False, False]
    named = sorted(Path(one.uri.removeprefix("file://")) for one in [*published(store, run_id), state])
    eventually(lambda: files(store, run_id) == named)


# -- all is well -----------------------------------------------------------------------------------------------------


def test_nothing_waits_that_is_stored(store: RunStore, home: Path) -> None:
    """Bytes next to the journal are removed when they are published, before the run ends; so are pruned ones."""
    with start_run(name="it") as run:
        run.keep_checkpoints(last=1, best=1)
        train(run)
        assert run.flush() == 0
        eventually(lambda: waiting(home) == [])
        assert_trained(store, run.id, kept=[1, 3])
    assert (run.problems, journals(home)) == ({}, [])


def test_states_faster_than_they_can_be_shipped(store: RunStore, home: Path) -> None:
    """Those that a newer one overtakes on their way cost nothing, whenever they are overtaken."""
    with start_run(name="it") as run:
        for epoch in range(300):
            run.log_checkpoint(weights(f"{epoch}" * 1000), epoch=epoch, role="state")
    assert [one.epoch for one in published(store, run.id, "state")] == [299]
    assert (run.problems, journals(home)) == ({}, [])
    assert len(files(store, run.id)) == 1


def test_a_server_removes_what_is_pruned(server: Server, store_url: str) -> None:
    """Files of pruned checkpoints go by the server's own doing, a few seconds later."""
    server.start()
    with start_run(name="it") as run:
        run.keep_checkpoints(last=2)
        train(run)
    with closing(open_store(store_url)) as store:
        assert_trained(store, run.id, kept=[1, 2, 3])
    assert run.problems == {}


def test_the_same_bytes_again_after_they_were_removed(store: RunStore) -> None:
    """A model that goes back to what it was is kept as any other, though its first file was pruned and removed."""
    with start_run(name="it") as run:
        run.keep_checkpoints(last=1)
        for epoch, text in enumerate(["a", "b", "a", "a", "c", "a"]):
            run.log_checkpoint(weights(text), epoch=epoch, is_best=True)
            run.flush()
            [one] = published(store, run.id)
            assert (one.epoch, bytes_of(one)) == (epoch, text)
            assert len(files(store, run.id)) == 1
    assert run.problems == {}


def test_a_fits_checkpoints_from_another_thread(store: RunStore) -> None:
    """A checkpoint recorded later, from another thread, has the fit's numbers and the time at which it was saved."""
    with start_run(name="it") as run:
        first = run.start_fit(epochs=2, steps_per_epoch=10)
        first.log_epoch(0, {"val_loss": 1.0}, steps=10)
        go = threading.Event()
        kept = weights("first")

        def late() -> None:
            go.wait()
            assert first.add_checkpoint(kept, CheckpointInfo(epoch=first.epoch(0), step=first.step(10), ms=12345))

        run.in_background(late)
        first.end("completed")
        second = run.start_fit(epochs=1, steps_per_epoch=10)
        go.set()
        for step in range(1, 300):
            second.log_batch(step, {f"batch/{step % 50}": 1.0})
        second.log_epoch(0, {"val_loss": 2.0}, steps=10)
        run.in_background(lambda: None).result()
        second.log_checkpoint(weights("second"), 0, steps=10)
        second.end("completed")
    assert [(one.fit, one.epoch, one.step, one.is_best) for one in store.checkpoints(run.id)] == [
        (1, 0, 10, True), (2, 1, 310 - 290, False)]  # fmt: skip
    assert store.checkpoints(run.id)[0].ms == 12345
    assert store.metrics(run.id)["batch/7"].count == 6
    assert run.problems == {}


def test_a_folder_is_one_file(store: RunStore, tmp_path: Path) -> None:
    """A folder, as Orbax writes it, is kept as an archive; equal folders have equal bytes, and it is unpacked again."""
    for name in ("one", "two"):
        place = tmp_path / name / "deep"
        place.mkdir(parents=True)
        (tmp_path / name / "_CHECKPOINT_METADATA").write_text("{}")
        (tmp_path / name / "empty").mkdir()
        (place / "b").write_bytes(b"\x00" * 100_000)
        (place / "a").write_text(name[:0])
    os.utime(tmp_path / "two" / "deep" / "b", (1, 1))
    with start_run(name="it") as run:
        for epoch, name in enumerate(("one", "two", "one/deep")):
            assert run.log_checkpoint(tmp_path / name, epoch=epoch)
    first, second, third = store.checkpoints(run.id)
    assert (first.format, third.format) == (".orbax.zip", ".dir.zip")
    assert (first.sha256, first.uri) == (second.sha256, second.uri)
    file = LocalArtifacts(tmp_path).fetch(second.uri, tmp_path / "fetched", sha256=second.sha256)
    assert zipfile.ZipFile(file).testzip() is None
    unpack(file, tmp_path / "back")
    assert sorted(str(one.relative_to(tmp_path / "back")) for one in (tmp_path / "back").rglob("*")) == [
        "_CHECKPOINT_METADATA", "deep", "deep/a", "deep/b", "empty"]  # fmt: skip
    assert (tmp_path / "back" / "deep" / "b").read_bytes() == b"\x00" * 100_000


# -- the store is away -----------------------------------------------------------------------------------------------


def test_while_the_store_is_away_one_state_waits(server: Server, store_url: str, home: Path) -> None:
    """All models wait, and only the newest state; the older states never get a row."""
    with start_run(name="it") as run:
        train(run)
        assert waiting(home) == ["model 0", "model 1", "model 2", "model 3", "state 3"]
        server.start()
        eventually(lambda: run.flush(5) == 0)
    with closing(open_store(store_url)) as store:
        assert_trained(store, run.id, kept=[0, 1, 2, 3])
        assert len(store.checkpoints(run.id)) == 5
    assert (run.problems, journals(home)) == ({}, [])


def test_a_file_on_its_way_holds_up_nothing(server: Server, store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is logged before, after and during an upload is stored meanwhile, and renews the run's lease."""
    server.start()
    begun, done = threading.Event(), threading.Event()

    def hold(path: str) -> bool:
        if "/artifacts/" in path:
            begun.set()
            assert done.wait(60)
        return True

    with proxied(server) as proxy:
        proxy.passes = hold
        monkeypatch.setenv("TRACKER_STORE", proxy.url)
        with start_run(name="it") as run:
            run.log({"loss": 1.0}, step=0)
            run.log_checkpoint(weights("slow"), epoch=0)
            run.log({"loss": 1.0}, step=1)
            assert begun.wait(60)
            eventually(lambda: list(store.history(run.id, "loss").steps) == [0, 1])
            alive_ms = store.get_run(run.id).alive_ms
            run.log({"loss": 1.0}, step=2)
            eventually(lambda: store.get_run(run.id).alive_ms > alive_ms)
            assert list(store.history(run.id, "loss").steps) == [0, 1, 2]
            assert list(store.checkpoints(run.id)) == []
            done.set()
            assert run.flush(60) == 0
    assert [bytes_of(one) for one in store.checkpoints(run.id)] == ["slow"]
    assert run.problems == {}


def test_what_an_offline_run_kept_is_shipped(store: RunStore, home: Path, offline: None) -> None:
    """Sync publishes what waits, says of each whether it was the best in its time, and retention holds at once."""
    with start_run(name="it") as run:
        run.keep_checkpoints(last=1)
        train(run)
    assert waiting(home) == ["model 0", "model 1", "model 2", "model 3", "state 3"]
    [synced] = sync_journals()
    assert (synced.error, synced.refused) == (None, 0)
    assert_trained(store, run.id, kept=[1, 3])
    assert journals(home) == []


def test_a_store_that_lost_the_run_has_its_checkpoints_back(store: RunStore, store_url: str) -> None:
    """When a live run's rows are deleted, its checkpoints are sent again, although no bytes wait any more."""
    import sqlite3

    with start_run(name="it") as run:
        run.log_checkpoint(weights("kept"), epoch=0)
        run.log_text("words", "notes.txt")
        assert run.flush() == 0
        with closing(sqlite3.connect(store_url.removeprefix("sqlite:///"))) as raw, raw:
            raw.execute("PRAGMA foreign_keys = ON")
            raw.execute("DELETE FROM runs")
        run.log({"loss": 1.0}, step=1)
        assert run.flush() == 0
    [one] = store.checkpoints(run.id)
    assert bytes_of(one) == "kept"
    assert run.problems == {}


# -- what dies -------------------------------------------------------------------------------------------------------


def test_kill_while_a_checkpoint_is_copied(store: RunStore, home: Path) -> None:
    """A copy that was not finished is no checkpoint: no row, no event, nothing left, and all else is there."""
    os.mkfifo("slow.keras")
    with Child("""
        run = tracker.start_run(name="it")
        run.log({"loss": 1.0}, step=0)
        say("ready")
        run.log_checkpoint("slow.keras", epoch=0)
    """) as child:
        child.expect("ready")
        with open("slow.keras", "wb", buffering=0) as source:
            source.write(b"half of it")
            eventually(lambda: list(folder(home).glob("*.files/*")))
            child.kill()
    [synced] = sync_journals()
    assert (synced.error, synced.refused) == (None, 0)
    [run] = store.search_runs()
    assert list(store.checkpoints(run.id)) == []
    assert list(store.events(run.id)) == []
    assert store.metrics(run.id)["loss"].count == 1
    assert journals(home) == []


def test_kill_during_an_upload(server: Server, store_url: str, home: Path) -> None:
    """A client that dies while it sends leaves no row; who comes next sends it all, and it is there once."""
    server.start()
    with Child("""
        run = tracker.start_run(name="it")
        assert run.flush() == 0
        say("ready")
        wait()
        open("m.keras", "wb").write(b"w" * 30_000_000)
        run.log_checkpoint("m.keras", epoch=0)
        wait()
    """) as child:
        child.expect("ready")
        server.kill()
        with socket.create_server(("127.0.0.1", server.port)) as door:
            child.go_on()
            connection, _ = door.accept()
            with connection:
                assert connection.recv(3, socket.MSG_WAITALL) == b"PUT"
                connection.recv(1_000_000, socket.MSG_WAITALL)
                child.kill()
    server.start()
    [synced] = sync_journals()
    assert (synced.error, synced.refused) == (None, 0)
    with closing(open_store(store_url)) as store:
        [run] = store.search_runs()
        [one] = store.checkpoints(run.id)
        assert (one.size, len(bytes_of(one)), len(files(store, run.id))) == (30_000_000, 30_000_000, 1)
    assert journals(home) == []


# -- no room ---------------------------------------------------------------------------------------------------------


def test_a_full_disk_costs_the_checkpoint_alone(store: RunStore) -> None:
    """A checkpoint that the disk does not take is refused and said; nothing of it stays, and training goes on."""
    with Child("""
        run = tracker.start_run(name="it")
        open("large.keras", "wb").write(b"w" * 3_000_000)
        open("small.keras", "wb").write(b"w")
        run.flush()
        limit(2_000_000)
        assert run.log_checkpoint("large.keras", epoch=0) is False
        assert run.log_checkpoint("small.keras", epoch=1) is True
        run.log_epoch(0, {"loss": 1.0})
        room()
        run.finish()
        assert run.problems == {"JournalError": 1}, run.problems
    """) as child:
        assert child.end() == 0, child.errors
    assert "cannot keep checkpoints/" in child.errors
    [run] = store.search_runs()
    assert [one.epoch for one in store.checkpoints(run.id)] == [1]
    assert len(store.epochs(run.id)) == 1


def test_what_waits_is_bounded(store: RunStore, home: Path, offline: None, caplog: pytest.LogCaptureFixture) -> None:
    """A checkpoint over the bound is refused before a byte is copied, logged and counted; others are kept."""
    Path("huge.keras").touch()
    os.truncate("huge.keras", MOST_WAITING + 1)  # a hole: it takes no room
    with start_run(name="it") as run:
        assert run.log_checkpoint(weights("m" * 30), epoch=0)
        assert not run.log_checkpoint("huge.keras", epoch=1)
        assert not run.log_checkpoint("huge.keras", epoch=1, role="state")
        assert run.problems == {"JournalError": 2}
    assert "more would wait to be published than the disk" in caplog.text
    assert f"(30 bytes wait already; at most half of what is free may, and {MOST_WAITING} bytes)" in caplog.text
    list(sync_journals())
    assert [(one.epoch, one.role) for one in store.checkpoints(run.id)] == [(0, "model")]
    assert journals(home) == []


def test_a_newer_state_takes_the_place_of_one_that_waits(tmp_path: Path) -> None:
    """Where there is no room for both, the older state is dropped; one that has no room even so drops nothing."""
    staging = Staging(tmp_path / "files", most_bytes=100)

    def keep(text: str, *, state: bool) -> str:
        kept = staging.keep_checkpoint(Path(weights(text)), "checkpoints/{sha256}", state=state)
        if state:
            staging.supersede(kept.name)
        return kept.name

    first, model = keep("s" * 60, state=True), keep("m" * 30, state=False)
    with pytest.raises(JournalError, match="90 bytes wait already; at most half of what is free may, and 100 bytes"):
        keep("n" * 30, state=False)
    second = keep("t" * 65, state=True)
    with pytest.raises(JournalError):
        keep("u" * 80, state=True)
    assert [staging.dropped(name) for name in (first, model, second)] == [True, False, False]
    assert staging.waiting == 95


# -- what is refused -------------------------------------------------------------------------------------------------


def test_a_file_that_changes_while_it_is_copied(store: RunStore, caplog: pytest.LogCaptureFixture) -> None:
    """Half an old file and half a new one is no checkpoint: it is refused and said."""
    os.mkfifo("torn.keras")

    def write() -> None:
        with open("torn.keras", "wb", buffering=0) as file:
            file.write(b"old" * 1_000_000)  # more than a pipe holds: when it is through, the copy has begun
            os.utime("torn.keras", (1, 1))

    writer = threading.Thread(target=write)
    with start_run(name="it") as run:
        writer.start()
        assert not run.log_checkpoint("torn.keras", epoch=0)
    writer.join()
    assert "changed while it was copied" in caplog.text
    assert (run.problems, list(store.checkpoints(run.id))) == ({"checkpoint": 1}, [])


@pytest.mark.parametrize("count", [0, -1, True, 1.5, "3", 10**7])
def test_bad_counts_are_refused(store: RunStore, count: object, caplog: pytest.LogCaptureFixture) -> None:
    """What is no number of checkpoints changes nothing and never raises."""
    with start_run(name="it") as run:
        run.keep_checkpoints(last=count)  # type: ignore[arg-type]
        run.keep_checkpoints(best=count)  # type: ignore[arg-type]
        for epoch in range(3):
            run.log_checkpoint(weights(str(epoch)), epoch=epoch)
        assert run.problems == {"last": 1, "best": 1}
    assert "cannot be kept (limit: a whole number from 1 to 1000000, or None)" in caplog.text
    assert len(published(store, run.id)) == 3


def test_bad_checkpoints_are_refused(store: RunStore) -> None:
    """Each is refused with its reason, and none raises; invalid metrics cost no valid one."""
    with start_run(name="it") as run:
        assert not run.log_checkpoint("nowhere.keras", epoch=0)
        assert not run.log_checkpoint(weights("a"), epoch=-1)
        assert not run.log_checkpoint(weights("a"), epoch=0, role="best")  # type: ignore[arg-type]
        assert not run.log_checkpoint(weights("a"), epoch=0, state=5)  # type: ignore[arg-type]
        assert run.problems == {"checkpoint": 1, "epoch": 1, "role": 1, "state": 1}
        assert run.log_checkpoint(weights("a"), epoch=0, metrics={"good": 1, "bad": "x"})
    [one] = store.checkpoints(run.id)
    assert one.metrics == {"good": 1.0}
