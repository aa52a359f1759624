"""A SQLite file that is moved, replaced or removed under a running server: said, and no acknowledged row lost."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from e2e.children import eventually
from e2e.server_lab import Server, batch, points, start_of
from templates import sqlite_store

from tracker.api import open_store, start_run
from tracker.client.journal import folder
from tracker.client.run import Run

pytestmark = pytest.mark.timeout(180)
SAID = "was moved, replaced or removed under this process"


class Lab:
    """A server, the file of its store, and a run that records through it."""

    def __init__(self, server: Server, file: Path, run: Run) -> None:
        self.server = server
        self.file = file
        self.run = run
        self.logged = 0
        self._said_before = server.errors.count(SAID)

    def log(self) -> None:
        """Five points more."""
        for _ in range(5):
            self.run.log({"loss": float(self.logged)}, step=self.logged)
            self.logged += 1

    def stored(self) -> None:
        """Five points more, acknowledged."""
        self.log()
        eventually(lambda: self.run.flush(5) == 0)

    def assert_all_there(self, file: Path | None = None, count: int | None = None) -> None:
        """The first `count` points are in `file`, once, as any other program reads it."""
        uri = f"{(file or self.file).as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            found = connection.execute(
                "SELECT p.step FROM metric_points AS p JOIN series AS s ON s.id = p.series_id "
                "JOIN runs AS r ON r.id = s.run_id WHERE r.uid = ? ORDER BY p.step", (self.run.id,),
            ).fetchall()  # fmt: skip
            assert [step for (step,) in found] == list(range(self.logged if count is None else count))
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    def assert_away(self) -> None:
        """Nothing is acknowledged, and it is said once."""
        assert self.server.ask("GET", "/readyz").status == 503
        for answer in (
            self.server.post(batch("other", 1, start_of(), points(1, x=1.0))),
            self.server.ask("GET", "/api/v1/experiments"),
        ):
            assert answer.status == 503
            assert answer.json["detail"].startswith("the store: ")
            assert str(self.file.parent) not in answer.body.decode()
        assert self.server.ask("GET", "/healthz").status == 200
        self.assert_said()

    def assert_said(self) -> None:
        eventually(lambda: self.server.errors.count(SAID) > self._said_before)
        assert self.server.errors.count(SAID) == self._said_before + 1, self.server.errors


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("store") / "project"
    place.mkdir()
    with Server(sqlite_store(place), "--artifacts", str(place.parent / "files")) as server:
        server.file = place / "tracker.db"  # type: ignore[attr-defined]
        yield server


@pytest.fixture
def lab(server: Server, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """Its run has five points that are acknowledged, and in the end all that it logged."""
    monkeypatch.setenv("TRACKER_STORE", server.url)
    with start_run("E") as run:
        lab = Lab(server, server.file, run)  # type: ignore[attr-defined]
        lab.stored()
        yield lab
        lab.stored()
    assert list(folder(home).iterdir()) == []
    lab.assert_all_there()
    with closing(open_store(server.url)) as store:
        assert store.get_run(run.id).status == "finished"
        assert store.history(run.id, "loss").steps.tolist() == list(range(lab.logged))
    assert server.ask("GET", "/readyz").status == 200


def test_moved_away_and_back(lab: Lab) -> None:
    """What was acknowledged is in the file that was moved; the rest waits until it is back."""
    moved = lab.file.with_name("elsewhere.db")
    lab.file.rename(moved)
    lab.log()
    assert lab.run.flush(1) > 0
    lab.assert_away()
    assert not lab.file.exists()
    lab.assert_all_there(moved, 5)
    moved.rename(lab.file)


def test_replaced_by_an_older_backup(lab: Lab, tmp_path: Path) -> None:
    """What the backup lacks comes from the journals of the runs that go on; the replaced file has all it acknowledged."""
    backup, kept = tmp_path / "backup.db", lab.file.with_name("kept.db")
    with closing(sqlite3.connect(lab.file)) as source, closing(sqlite3.connect(backup)) as target:
        source.backup(target)
    lab.stored()
    os.link(lab.file, kept)
    os.replace(backup, lab.file)
    lab.stored()
    lab.assert_said()
    lab.assert_all_there(kept, 10)


def test_folder_renamed_and_back(lab: Lab) -> None:
    """The same for the folder that the file is in."""
    moved = lab.file.parent.rename(lab.file.parent.with_name("moved"))
    lab.log()
    lab.assert_away()
    assert not lab.file.parent.exists()
    moved.rename(lab.file.parent)


@pytest.mark.parametrize("instead", [b"", b"no database" * 1000], ids=["empty", "text"])
def test_replaced_by_what_is_no_store(lab: Lab, instead: bytes) -> None:
    """Another file is not made a store of, and not written to."""
    moved = lab.file.rename(lab.file.with_name("moved.db"))
    lab.file.write_bytes(instead)
    lab.log()
    lab.assert_away()
    lab.assert_all_there(moved, 5)
    assert lab.file.read_bytes() == instead
    moved.rename(lab.file)


def test_deleted(lab: Lab, tmp_path: Path) -> None:
    """No store is made at the path; one that somebody puts there is told the runs that go on, from their beginning."""
    lab.file.unlink()
    lab.log()
    lab.assert_away()
    assert not lab.file.exists()
    os.replace(sqlite_store(tmp_path).removeprefix("sqlite:///"), lab.file)


@pytest.mark.parametrize("gone", [("-wal",), ("-wal", "-shm")], ids=["wal", "both"])
def test_wal_removed(lab: Lab, gone: tuple[str, ...]) -> None:
    """Commits that were in it are written back into the file before anything else is."""
    for ending in gone:
        lab.file.with_name(lab.file.name + ending).unlink()
    lab.stored()
    lab.assert_said()
    lab.assert_all_there()


def test_a_local_writer(tmp_path: Path, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A run that writes the file itself goes on in a new one, and in the old one once that is back: all is in each."""
    file = tmp_path / "tracker.db"
    sqlite_store(tmp_path)
    count: Callable[[Path], int]

    def count(file: Path) -> int:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM metric_points").fetchone()[0])

    with start_run(store=f"sqlite:///{file}") as run:
        run.log({"loss": 0.0}, step=0)
        assert run.flush() == 0
        moved = file.rename(tmp_path / "moved.db")
        run.log({"loss": 1.0}, step=1)
        eventually(lambda: run.flush(5) == 0)
        assert (count(moved), count(file)) == (1, 2)
        newer = file.rename(tmp_path / "newer.db")
        moved.rename(file)
        run.log({"loss": 2.0}, step=2)
        eventually(lambda: run.flush(5) == 0)
    assert (count(newer), count(file)) == (2, 3)
    assert SAID in caplog.text
    assert list(folder(home).iterdir()) == []


def test_moved_to_another_folder_while_it_is_read(lab: Lab, tmp_path: Path) -> None:
    """A snapshot that somebody else reads keeps no row out of the file that was moved, once it is closed."""
    with closing(sqlite3.connect(lab.file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM runs").fetchone()
        lab.stored()
        moved = lab.file.rename(tmp_path / "moved.db")
        lab.assert_away()
    lab.assert_away()
    lab.assert_all_there(moved, 10)
    moved.rename(lab.file)
