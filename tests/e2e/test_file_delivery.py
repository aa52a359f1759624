"""Files hold nothing back: what can never be stored is refused, what is late is late alone, and rows come once."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Self

import msgspec
import pytest
from draws import moments
from e2e.children import Child, eventually, run_child
from e2e.cli_lab import invoke
from e2e.server_lab import Server
from msgspec.structs import replace

from tracker import compose
from tracker.api import open_store, start_run, sync_journals
from tracker.artifacts.local import LocalArtifacts
from tracker.client.batch_builder import make_batch
from tracker.client.journal import adopt, folder, header_of
from tracker.client.journal_reader import JournalReader
from tracker.client.run import Run
from tracker.domain.frames import ArtifactLogged, CheckpointLogged, Frame
from tracker.domain.ports import RunStore
from tracker.wire.frame_codec import seal

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(params=["database", "server"])
def reached(store_url: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunStore]:
    """The store of the test, as TRACKER_STORE reaches it: in the process, or through a server."""
    with ExitStack() as stack:
        if request.param == "server":
            monkeypatch.setenv("TRACKER_STORE", stack.enter_context(Server(store_url)).url)
        yield stack.enter_context(closing(open_store()))


@pytest.fixture
def store(store_url: str) -> Iterator[RunStore]:
    """The store of the test, with its schema."""
    with closing(open_store(store_url)) as opened:
        yield opened


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that are started in the test only write their journals."""
    monkeypatch.setenv("TRACKER_MODE", "offline")


def journals(home: Path) -> list[str]:
    return sorted(path.name.split(".", 2)[2] for path in folder(home).iterdir()) if folder(home).exists() else []


def beside(home: Path) -> list[str]:
    """The contents of the files next to journals."""
    return sorted(path.read_text() for path in folder(home).glob("*.files*/0*") if path.stat().st_size)


def weights(text: str) -> str:
    Path("m.keras").write_text(text)
    return "m.keras"


# -- what can never be stored ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["notes/first", "folder"], ids=["a file for a folder", "a folder for a file"])
def test_a_path_that_can_never_be_costs_one_file(
    reached: RunStore, store: RunStore, home: Path, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """It is refused at once, said, counted and set aside; numbers, other files and the run's end are stored."""
    with start_run(name="it") as run:
        run.log_text("1", "notes")
        run.log_text("2", "folder/inner")
        run.log_text("3", path)
        run.log_epoch(0, {"loss": 1.0})
        run.log_text("4", "folder/other")
    assert run.problems == {"refused": 1}
    assert [epoch.metrics for epoch in reached.epochs(run.id)] == [{"loss": 1.0}]
    assert reached.get_run(run.id).status == "finished"
    root = Path(store.get_run(run.id).artifact_uri.removeprefix("file://"))
    assert sorted(str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()) == [
        "folder/inner", "folder/other", "notes"]  # fmt: skip
    assert f"the file {path!r} can never be stored" in caplog.text
    assert (journals(home), beside(home)) == (["files.refused", "journal.refused"], ["3"])


def test_a_name_that_the_file_system_has_not_costs_one_file(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where names of files are ASCII, as with the locale C, a name that is not is refused alone."""
    for name, value in {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}.items():
        monkeypatch.setenv(name, value)
    child = run_child(
        """
        run = tracker.start_run(name="it")
        run.log_text("words", "gr\\u00f6\\u00dfe.txt")
        run.log_text("words", "size.txt")
        run.log_epoch(0, {"loss": 1.0})
        assert run.finish() == 0
        assert run.problems == {"refused": 1}, run.problems
    """,
        new=True,
    )
    assert "can never be stored" in child.errors
    [run] = store.search_runs()
    assert (run.status, len(store.epochs(run.id))) == ("finished", 1)
    assert [path.name for path in Path(run.artifact_uri.removeprefix("file://")).iterdir()] == ["size.txt"]


def test_sync_refuses_alone_what_can_never_be(store: RunStore, home: Path, offline: None) -> None:
    """A journal of an offline run is shipped past a file that has no place, which is kept."""
    with start_run(name="it") as run:
        run.log_text("1", "notes")
        run.log_text("2", "notes/first")
        run.log_epoch(0, {"loss": 1.0})
        assert run.flush() == 3
    [synced] = sync_journals()
    assert (synced.error, synced.points, synced.refused, synced.files) == (None, 1, 1, 0)
    assert len(store.epochs(run.id)) == 1
    assert store.get_run(run.id).status == "finished"
    assert (journals(home), beside(home)) == (["files.refused", "journal.refused"], ["2"])


# -- what is late ----------------------------------------------------------------------------------------------------


LARGE = "large" * 1_000_000


class FullServer(Server):
    """A server whose disk has no room for a file as large as `LARGE`, until it is given `room`."""

    def start(self) -> Self:
        super().start()
        self._limit(len(LARGE) - 1)
        return self

    def room(self) -> None:
        """From now on its disk takes every file."""
        self._limit(resource.RLIM_INFINITY)

    def _limit(self, size: int) -> None:
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.fixture
def full(store_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FullServer]:
    """A server over the test's store, without room for large files; it is TRACKER_STORE."""
    with FullServer(store_url) as server:
        monkeypatch.setenv("TRACKER_STORE", server.url)
        yield server


def test_a_late_file_is_late_alone(
    store: RunStore, home: Path, full: FullServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A checkpoint waits for room; all else is stored, `flush` and `finish` say what is left, and then it comes too."""
    with start_run(name="it") as run:
        run.log_epoch(0, {"val_loss": 1.0})
        run.log_checkpoint(weights(LARGE), epoch=0)
        run.log_epoch(1, {"val_loss": 2.0})
        run.log_checkpoint(weights("small"), epoch=1)
        run.log_text("words", "notes.txt")
        eventually(lambda: store.search_runs().runs and [one.epoch for one in store.checkpoints(run.id)] == [1])
        assert run.flush(timeout=0.5) == 1
        assert ": 1 files (5000000 bytes) are still in the journal" in caplog.text
        assert [one.epoch for one in store.checkpoints(run.id)] == [1]
        assert run.finish(timeout=20) == 1
        assert store.get_run(run.id).status == "finished"
        assert (len(store.epochs(run.id)), store.get_run(run.id).best_epoch) == (2, 0)
        assert "File too large" in caplog.text
        full.room()
        eventually(lambda: journals(home) == [])
    assert sorted((one.epoch, one.is_best) for one in store.checkpoints(run.id)) == [(0, True), (1, False)]
    assert [event.epoch for event in store.events(run.id) if event.kind == "checkpoint_saved"] == [0, 1]
    assert store.get_run(run.id).status == "finished"
    assert run.problems == {}


def test_sync_ships_past_a_late_file(store: RunStore, home: Path, full: FullServer, offline: None) -> None:
    """Numbers of all journals come before files; one that waits stays with its journal, and `sync` says why."""
    with start_run(name="first") as first:
        first.log_epoch(0, {"val_loss": 1.0})
        first.log_checkpoint(weights(LARGE), epoch=0)
        first.log_checkpoint(weights("small"), epoch=0)
    with start_run(name="second") as second:
        second.log_epoch(0, {"val_loss": 1.0})
    for _ in range(2):
        *stored, synced = sync_journals()
        assert [(one.run_id, one.error) for one in stored] in ([(second.id, None)], [])
        assert (synced.run_id, synced.points, synced.files, synced.refused) == (first.id, 1, 1, 0)
        assert "File too large" in str(synced.error)
        assert [one.size for one in store.checkpoints(first.id)] == [5]
        assert [run.status for run in store.search_runs()] == ["finished"] * 2
        assert (journals(home), beside(home)) == (["files", "journal"], [LARGE])
        told = json.loads(invoke("doctor", "--format", "json").stdout)["findings"]
        [found] = [one["found"] for one in told if one["check"] == "journals"]
        assert "1 file of 5.0 MB waits: " in found
        assert "File too large" in found
    done = invoke("sync")
    assert (done.exit_code, "files wait" in done.stdout, "File too large" in done.stdout) == (1, True, True)
    full.room()
    [synced] = sync_journals()
    assert (synced.error, synced.files) == (None, 0)
    assert sorted(one.size for one in store.checkpoints(first.id)) == [5, 5_000_000]
    assert store.get_run(first.id).status == "finished"
    assert journals(home) == []


def test_the_last_of_one_name_stays(store: RunStore, home: Path, full: FullServer) -> None:
    """A late file does not replace one of its name that was logged after it."""
    with start_run(name="it") as run:
        run.log_text(LARGE, "notes.txt")
        run.flush(timeout=0.3)
        run.log_text("new", "notes.txt")
        assert run.flush() == 0
        full.room()
    assert (Path(store.get_run(run.id).artifact_uri.removeprefix("file://")) / "notes.txt").read_text() == "new"
    assert (run.problems, journals(home)) == ({}, [])


def test_a_disk_that_is_full_of_large_files(store: RunStore, home: Path, tmp_path: Path) -> None:
    """With a real limit of the disk: the numbers behind a large file are stored, and so are small files."""
    child = run_child("""
        def link(*_, **__):
            raise OSError(18, "Invalid cross-device link")
        os.link = link
        run = tracker.start_run(name="it")
        run.log_text("x" * 4_000_000, "large.txt")
        limit(2_000_000)
        run.log_text("words", "small.txt")
        run.log_epoch(0, {"loss": 1.0})
        assert run.finish(timeout=20) == 1
    """)
    assert ": 1 files (4000000 bytes) are still in the journal" in child.errors
    [run] = store.search_runs()
    assert (run.status, len(store.epochs(run.id))) == ("finished", 1)
    assert [synced.error for synced in sync_journals()] == [None]
    assert sorted(path.name for path in Path(run.artifact_uri.removeprefix("file://")).iterdir()) == [
        "large.txt", "small.txt"]  # fmt: skip


# -- whatever dies ---------------------------------------------------------------------------------------------------

KILLED_AT = """
from pathlib import Path
from tracker.artifacts.local import LocalArtifacts
from tracker.client.delivery import Delivery
from tracker.client.journal import Journal
from tracker.client.staging import Staging
from tracker.store.store import SqlRunStore

left = None

def moment():
    "Dies at the moment that was asked for."
    global left
    if left is not None:
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

def watched(owner, name):
    inner = getattr(owner, name)
    def outer(*args, **kwargs):
        moment()
        try:
            return inner(*args, **kwargs)
        finally:
            moment()
    setattr(owner, name, outer)

for owner, name in ((LocalArtifacts, "put"), (SqlRunStore, "append"), (Staging, "settle"), (Journal, "append"),
                    (Journal, "upgrade"), (Journal, "finish")):
    watched(owner, name)

def dies(at, work):
    "Whether `work`, in a process of its own, came to the moment `at`, which kills it."
    global left
    pid = os.fork()
    if pid == 0:
        left = at
        work()
        os._exit(0)
    return os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
"""


def log_everything(run: Run) -> None:
    """Numbers, three models, three states and two texts of one name."""
    for epoch in range(3):
        run.log_epoch(epoch, {"val_loss": 3.0 - epoch})
        run.log_checkpoint(weights(f"model {epoch}"), epoch=epoch)
        run.log_checkpoint(weights(f"state {epoch}"), epoch=epoch, role="state")
        run.log_text(f"text {epoch}", "notes.txt")


def assert_everything_once(store: RunStore, run_id: str) -> None:
    assert list(store.history(run_id, "val_loss", raw=True).steps) == [0, 1, 2]
    models = [one for one in store.checkpoints(run_id) if one.role == "model"]
    assert [(one.epoch, one.is_best) for one in models] == [(0, True), (1, True), (2, True)]
    [state] = [one for one in store.checkpoints(run_id) if one.role == "state" and one.status == "published"]
    for one, text in [*zip(models, ("model 0", "model 1", "model 2"), strict=True), (state, "state 2")]:
        assert LocalArtifacts(Path()).fetch(one.uri, Path("got"), sha256=one.sha256).read_text() == text
    assert [event.epoch for event in store.events(run_id) if event.kind == "checkpoint_saved"] == [0, 1, 2]
    root = Path(store.get_run(run_id).artifact_uri.removeprefix("file://"))
    assert (root / "notes.txt").read_text() == "text 2"


def restored(tmp_path: Path, keep: Path) -> None:
    """Everything of the test as it was when `keep` was copied."""
    for name in ("home", "tracker-artifacts", "tracker.db", "tracker.db-wal", "tracker.db-shm"):
        here, kept = tmp_path / name, keep / name
        if here.is_dir():
            shutil.rmtree(here)
        here.unlink(missing_ok=True)
        if kept.is_dir():
            shutil.copytree(kept, here)
        elif kept.exists():
            shutil.copyfile(kept, here)


def killed_at_moments(tmp_path: Path, store_url: str, run_id: str) -> int:
    """Kill `sync` at its moments, and another one somewhere behind; then all is there once. How many there were."""
    keep = tmp_path.with_name(f"{tmp_path.name}-kept")
    shutil.copytree(tmp_path, keep)
    dice = random.Random(7)
    with Child(
        KILLED_AT
        + """
from tracker.api import sync_journals
for line in sys.stdin:
    say(str(dies(int(line), lambda: list(sync_journals()))))
"""
    ) as child:
        for moment in moments():
            restored(tmp_path, keep)
            child.go_on(str(moment))
            if child.line() == "False":
                break
            child.go_on(str(dice.randrange(12)))
            child.line()
            assert {synced.error for synced in sync_journals()} <= {None}
            with closing(open_store(store_url)) as store:
                assert_everything_once(store, run_id)
                assert store.get_run(run_id).status == "finished"
    return moment


def test_sync_killed_at_every_moment(store_url: str, tmp_path: Path, offline: None) -> None:
    """Each checkpoint, event, text and number of a journal is stored once, whenever the one who ships it dies."""
    with start_run(name="it") as run:
        log_everything(run)
    assert killed_at_moments(tmp_path, store_url, run.id) > 20


def test_a_live_run_killed_at_every_moment(
    store_url: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for a process that dies while it ships its own run."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    with Child(
        KILLED_AT
        + """
import threading
from e2e.test_file_delivery import log_everything

def train():
    held = threading.Event()
    send = SqlRunStore.append
    SqlRunStore.append = lambda store, batch: (held.wait(), send(store, batch))[1]
    global left
    at, left = left, None
    run = tracker.start_run(run_id="it")
    log_everything(run)
    left = at
    held.set()
    run.finish()

for line in sys.stdin:
    say(str(dies(int(line), train)))
"""
    ) as child:
        keep = tmp_path.with_name(f"{tmp_path.name}-kept")
        shutil.copytree(tmp_path, keep)
        for moment in moments():
            restored(tmp_path, keep)
            child.go_on(str(moment))
            died = child.line() == "True"
            assert {synced.error for synced in sync_journals()} <= {None}
            with closing(open_store(store_url)) as store:
                assert_everything_once(store, "it")
                assert store.get_run("it").status in ("lost", "finished")
            if not died:
                break
        assert moment > 20
        assert journals(home) == []


# -- across versions -------------------------------------------------------------------------------------------------


class EarlierHeader(msgspec.Struct, tag="journal", array_like=True, frozen=True):
    """The header of journals as version 1 wrote it."""

    run_id: str
    writer: str
    store: str
    artifacts: str
    created_ms: int
    pid: int
    host: str
    version: int = 1


def as_an_earlier_version_wrote(home: Path) -> None:
    """Give the one journal the header that version 1 would have written."""
    [path] = folder(home).glob("*.journal")
    written = path.read_bytes()
    header, start = header_of(path, written)
    earlier = EarlierHeader(**{name: getattr(header, name) for name in EarlierHeader.__struct_fields__[:-1]})
    path.write_bytes(seal(msgspec.msgpack.encode(earlier), 0) + written[start:])


def ship_as_before(store_url: str, upto: int, *, settles: bool) -> None:
    """Ship the one journal as an earlier version did, files with the frames around them, up to a frame."""
    [path] = folder(Path(os.environ["TRACKER_HOME"])).glob("*.journal")
    adopted = adopt(path)
    assert adopted is not None
    journal, header = adopted
    home = compose.open_artifacts(header.artifacts)
    frames: list[tuple[int, Frame]] = []
    for number, frame in JournalReader(journal.fd, journal.start).read(10**7):
        if number > upto:
            break
        if isinstance(frame, ArtifactLogged | CheckpointLogged):
            if journal.staging.dropped(frame.file.name):
                continue
            uri, digest = home.put(header.run_id, frame.file.path, journal.files / frame.file.name)
            frame = replace(frame, uri=uri, sha256=digest) if isinstance(frame, CheckpointLogged) else frame
        frames.append((number, frame))
    with closing(compose.make_transport(store_url)) as transport:
        transport.send(make_batch(header.run_id, header.writer, frames))
    for _, frame in frames:
        if settles and isinstance(frame, ArtifactLogged | CheckpointLogged):
            journal.staging.settle(frame.file.name)
    journal.close()


@pytest.mark.parametrize(("upto", "settles"), [(7, False), (14, True)])
def test_an_earlier_versions_journal_is_shipped(
    store_url: str, tmp_path: Path, home: Path, offline: None, upto: int, settles: bool
) -> None:
    """Wherever an earlier version left off, and whenever who goes on dies: everything is stored once."""
    with start_run(name="it") as run:
        log_everything(run)
    as_an_earlier_version_wrote(home)
    ship_as_before(store_url, upto, settles=settles)
    assert killed_at_moments(tmp_path, store_url, run.id) > 5
