"""A project's folder that is moved or copied, database and files together, and files that are moved alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import preloaded
import pytest
from e2e.cli_lab import invoke
from e2e.server_lab import Server

import tracker
from tracker.artifacts.local import path_of

OLD_DATABASE = Path(__file__).parents[1] / "migrations" / "databases" / "0003.db"
ODD = "moved to #1 (50% ü)"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, in which the default store will be."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def train(name: str = "net", **more: str) -> str:
    """A run with a text, a checkpoint that is not the best, and the best one."""
    with tracker.start_run(name=name, **more) as run:
        run.log_text("the notes", "notes/a.txt")
        for epoch in range(2):
            Path("saved.keras").write_bytes(b"weights %d" % epoch)
            run.log_checkpoint("saved.keras", epoch=epoch, is_best=epoch == 1)
    Path("saved.keras").unlink()
    return run.id


def move(project: Path, monkeypatch: pytest.MonkeyPatch, name: str = ODD) -> Path:
    """The project under another name, which is the working directory."""
    moved = project.rename(project.with_name(name))
    monkeypatch.chdir(moved)
    return moved


def is_whole(run_id: str, folder: Path) -> bool:
    """Whether all that the store in the working directory says of the run's files is so, and below `folder`."""
    with closing(tracker.open_store()) as store:
        run = store.get_run(run_id)
        checkpoints = store.checkpoints(run_id)
        told = [one.detail["uri"] for one in store.events(run_id) if one.kind == "checkpoint_saved"]
        assert told == [one.uri for one in checkpoints]
        assert [found.id for found in store.search_runs(f"artifact_uri = '{run.artifact_uri}'").runs] == [run_id]
    root = path_of(run.artifact_uri)
    assert (root / "notes" / "a.txt").read_text() == "the notes"
    assert [path_of(one.uri).read_bytes() for one in checkpoints] == [b"weights 0", b"weights 1"]
    assert all(path_of(one.uri).is_relative_to(root) for one in checkpoints)
    assert tracker.load_checkpoint(run_id, to=f"{folder.parent}/copies/").read_bytes() == b"weights 1"
    shown = json.loads(invoke("show", run_id, "--format", "json").stdout)
    assert shown["run"]["artifact_uri"] == run.artifact_uri
    return root.is_relative_to(folder)


@pytest.fixture(autouse=True)
def copies(tmp_path: Path) -> None:
    (tmp_path / "copies").mkdir()


def test_a_moved_project_has_its_files(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files next to the database are found where it is now, by every reader, and a continued run writes there."""
    run_id = train()
    assert is_whole(run_id, project)
    moved = move(project, monkeypatch)
    assert is_whole(run_id, moved)
    with tracker.start_run(run_id=run_id, resume="must") as run:
        run.log_text("later", "later.txt")
    assert (moved / "tracker-artifacts" / run_id / "later.txt").read_text() == "later"
    assert is_whole(run_id, moved)
    with Server("sqlite:///tracker.db", cwd=moved) as server:
        query = f"/ajax-api/2.0/mlflow/artifacts/list?run_id={run_id}"
        listed = server.get(query)
        assert [one["path"] for one in listed["files"]] == ["checkpoints", "later.txt", "notes"]
        assert listed["root_uri"] == f"mlflow-artifacts:/0/{run_id}/artifacts"
        assert server.ask("GET", f"/get-artifact?run_id={run_id}&path=notes/a.txt").body == b"the notes"
        copy = tracker.load_checkpoint(run_id, 0, to=f"{moved.parent}/copies/", store=server.url)
        assert copy.read_bytes() == b"weights 0"


def test_gc_in_a_moved_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes is what would have gone before: files of pruned checkpoints and deleted runs, and no others."""
    kept, deleted = train("kept"), train("deleted")
    with tracker.start_run(run_id=kept, resume="must") as run:
        run.keep_checkpoints(last=1)
        Path("saved.keras").write_bytes(b"weights 2")
        run.log_checkpoint("saved.keras", epoch=2)
    moved = move(project, monkeypatch)
    invoke("delete", deleted)
    done = invoke("gc", "--older-than", "0", "--format", "json")
    assert [(one["kind"], one["id"], one["kept"]) for one in json.loads(done.stdout)] == [("run", deleted, None)]
    assert [folder.name for folder in (moved / "tracker-artifacts").iterdir()] == [kept]
    with closing(tracker.open_store()) as store:
        published = [path_of(one.uri) for one in store.checkpoints(kept) if one.status == "published"]
    assert sorted(published) == sorted((moved / "tracker-artifacts" / kept / "checkpoints").iterdir())


def test_a_copy_is_whole_and_independent(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is removed in a copy of the project stays in the original, and the other way round."""
    first, second = train("first"), train("second")
    copy = project.with_name("copy")
    shutil.copytree(project, copy)
    for folder, gone, stays in ((copy, first, second), (project, second, first)):
        monkeypatch.chdir(folder)
        assert is_whole(first, folder)
        assert is_whole(second, folder)
        invoke("delete", gone)
        assert invoke("gc", "--older-than", "0").exit_code == 0
        assert is_whole(stays, folder)
        assert [one.name for one in (folder / "tracker-artifacts").iterdir()] == [stays]


@pytest.fixture
def old_project(project: Path) -> Path:
    """A project that an earlier version wrote, with absolute addresses of where it is."""
    home = project / "tracker-artifacts" / "kept"
    (home / "checkpoints").mkdir(parents=True)
    (home / "checkpoints" / "kept.weights.h5").write_bytes(b"old weights")
    shutil.copy(OLD_DATABASE, project / "tracker.db")
    with closing(sqlite3.connect(project / "tracker.db")) as database, database:
        for table, column in (("runs", "artifact_uri"), ("checkpoints", "uri")):
            database.execute(
                f"UPDATE {table} SET {column} = replace({column}, 'file:///artifacts/kept', ?)", (home.as_uri(),)
            )
        database.execute("UPDATE events SET detail = replace(detail, 'file:///artifacts/kept', ?)", (home.as_uri(),))
    return project


@pytest.mark.parametrize("how", ["stays", "moved", "copied"])
def test_a_project_of_an_earlier_version(old_project: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Once it is upgraded its files are found next to it, also if it was moved or copied before that."""
    folder = old_project
    if how == "moved":
        folder = move(old_project, monkeypatch)
    elif how == "copied":
        folder = Path(shutil.copytree(old_project, old_project.with_name("copy")))
        monkeypatch.chdir(folder)
    assert invoke("db", "upgrade").exit_code == 0
    home = folder / "tracker-artifacts"
    with closing(tracker.open_store()) as store:
        assert store.get_run("kept").artifact_uri == (home / "kept").as_uri()
        newest = store.checkpoints("kept")[-1]
        assert newest.uri == (home / "kept" / "checkpoints" / "kept.weights.h5").as_uri()
        store.delete_run("kept")
    if how != "stays":
        folder = move(folder, monkeypatch, "once more")
    assert invoke("gc", "--older-than", "0").exit_code == 0
    assert list((folder / "tracker-artifacts").iterdir()) == []
    if how == "copied":
        assert (old_project / "tracker-artifacts" / "kept" / "checkpoints" / "kept.weights.h5").exists()


def test_an_old_database_that_was_copied_alone(old_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are not next to it are still found where they are."""
    backup = old_project.with_name("backup")
    backup.mkdir()
    shutil.copy(old_project / "tracker.db", backup)
    monkeypatch.chdir(backup)
    assert invoke("db", "upgrade").exit_code == 0
    with closing(tracker.open_store()) as store:
        assert path_of(store.checkpoints("kept")[-1].uri).read_bytes() == b"old weights"


LEAVE = (
    "import os, tracker\n"
    "run = tracker.start_run(name='left', run_id='left')\n"
    "run.log_text('left behind', 'notes/a.txt'); run.log_epoch(0, {'loss': 0.5})\n"
    "open('saved.keras', 'wb').write(b'weights'); run.log_checkpoint('saved.keras', epoch=0)\n"
    "os.kill(os.getpid(), 9)\n"
)


@pytest.mark.parametrize("by", ["sync", "the next run"])
def test_journals_follow_a_moved_project(project: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    """What a process left in its journal before the move goes to where the database and its files are now."""
    train()
    done = preloaded.run([sys.executable, "-c", LEAVE], env={**os.environ, "TRACKER_MODE": "offline"}, timeout=60)
    assert done.returncode == -signal.SIGKILL
    moved = move(project, monkeypatch)
    if by == "sync":
        assert invoke("sync").exit_code == 0
    else:
        with tracker.start_run(name="left", resume="auto") as run:
            assert run.id == "left"
    with closing(tracker.open_store()) as store:
        assert store.get_run("left").artifact_uri == (moved / "tracker-artifacts" / "left").as_uri()
        assert store.epochs("left")[0].metrics == {"loss": 0.5}
        assert path_of(store.checkpoints("left")[0].uri).read_bytes() == b"weights"
    assert (moved / "tracker-artifacts" / "left" / "notes" / "a.txt").read_text() == "left behind"
    assert not project.exists()


def test_journals_of_a_copied_project_stay_its_own(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that names a database which is still there goes to it, and not to a copy."""
    train()
    preloaded.run([sys.executable, "-c", LEAVE], env={**os.environ, "TRACKER_MODE": "offline"}, timeout=60)
    copy = project.with_name("copy")
    shutil.copytree(project, copy)
    monkeypatch.chdir(copy)
    assert invoke("sync").exit_code == 0
    assert not (copy / "tracker-artifacts" / "left").exists()
    assert (project / "tracker-artifacts" / "left" / "notes" / "a.txt").read_text() == "left behind"


# -- files that are moved alone -------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(any_url: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """TRACKER_ARTIFACTS, with TRACKER_STORE a database of either kind."""
    folder = project.parent / "files of all"
    monkeypatch.setenv("TRACKER_STORE", any_url)
    monkeypatch.setenv("TRACKER_ARTIFACTS", str(folder))
    return folder


def test_relocate(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of an explicit place are found at their new place after one `relocate`."""
    ids = [train("one"), train("two")]
    moved = elsewhere.rename(elsewhere.with_name("disk 2 #"))
    monkeypatch.setenv("TRACKER_ARTIFACTS", str(moved))
    dry = invoke("artifacts", "relocate", str(elsewhere), str(moved), "--dry-run")
    assert (dry.exit_code, dry.stdout) == (0, "")
    assert dry.stderr == f"would relocate 2 runs, 4 checkpoints: now below {moved}\n"
    with closing(tracker.open_store()) as store:
        assert store.get_run(ids[0]).artifact_uri == (elsewhere / ids[0]).as_uri()
    done = invoke("artifacts", "relocate", elsewhere.as_uri() + "/", str(moved))
    assert (done.exit_code, done.stderr) == (0, f"relocated 2 runs, 4 checkpoints: now below {moved}\n")
    for run_id in ids:
        assert is_whole(run_id, moved)
    again = invoke("artifacts", "relocate", str(elsewhere), str(moved))
    assert again.exit_code == 2
    assert f"no file of this store is at {elsewhere.as_uri()}" in again.stderr
    assert moved.as_uri() in again.stderr
    assert invoke("artifacts", "relocate", str(moved) + "-not", str(elsewhere)).exit_code == 2
    back = invoke("artifacts", "relocate", str(moved), str(elsewhere))
    assert back.exit_code == 0
    assert f"note: there is no folder {elsewhere} on this machine yet" in back.stderr


def test_relocate_to_the_default_place(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are moved next to the database move with it from then on, and those that are moved away do not."""
    far = project.with_name("far")
    run_id = train(artifacts=str(far))
    far.rename("tracker-artifacts")
    assert invoke("artifacts", "relocate", str(far), "tracker-artifacts").exit_code == 0
    moved = move(project, monkeypatch)
    assert is_whole(run_id, moved)
    Path("tracker-artifacts").rename(far)
    assert invoke("artifacts", "relocate", "tracker-artifacts", str(far)).exit_code == 0
    move(moved, monkeypatch, "again")
    assert is_whole(run_id, far)
