"""`tracker delete`, `undelete`, `sync` and `db`: looking after what was recorded."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from e2e.cli_lab import in_terminal, invoke, plain, record

import tracker

DYING = (
    "import os, sys, tracker\n"
    "run = tracker.start_run(name=sys.argv[1])\n"
    "for step in range(30): run.log({'loss': 1.0, 'x': 2.0}, step=step)\n"
    "os.kill(os.getpid(), 9)\n"
)


def leave_behind(name: str, *, mode: str = "offline", store: str | None = None) -> None:
    """Let a process record 60 points, only into its journal, and die."""
    environment = {**os.environ, "TRACKER_MODE": mode} | ({"TRACKER_STORE": store} if store else {})
    done = subprocess.run([sys.executable, "-c", DYING, name], env=environment, timeout=60)
    assert done.returncode == -signal.SIGKILL


def journals(home: Path) -> list[Path]:
    return sorted((home / "journals").iterdir())


def listed() -> list[str]:
    return [run["name"] for run in json.loads(invoke("runs", "--format", "json").stdout)]


# -- delete, undelete -----------------------------------------------------------------------------------------------


def test_a_deleted_run_is_hidden_until_it_is_undeleted(store_url: str) -> None:
    """`delete` hides a run from the list and tells how to have it back; that command does."""
    run_id = record("mistake", [0.5])
    record("keeper")
    done = invoke("delete", "mistake")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"deleted mistake; restore it with: tracker undelete {run_id}\n"
    assert listed() == ["keeper"]
    assert re.search(r"Deleted (just now|[0-9]+ s ago)", invoke("show", run_id).stdout)
    assert invoke("undelete", run_id).exit_code == 0
    assert listed() == ["keeper", "mistake"]


def test_deleting_what_is_not_there_fails(store_url: str) -> None:
    """An unknown run exits with 1, an ambiguous one with 2, and neither changes anything."""
    record("same")
    record("same")
    assert invoke("delete", "nope").exit_code == 1
    assert invoke("delete", "same").exit_code == 2
    record("alone")
    shown = invoke("undelete", "alone")
    assert (shown.exit_code, "alone is not deleted" in shown.stderr) == (1, True)
    assert listed() == ["alone", "same", "same"]


def test_undelete_means_the_deleted_one(store_url: str) -> None:
    """A name that a deleted run and another have means the deleted one to undelete, the other to delete."""
    record("same")
    assert invoke("delete", "same").exit_code == 0
    record("same")
    assert invoke("undelete", "same").exit_code == 0
    assert listed() == ["same", "same"]


# -- sync -----------------------------------------------------------------------------------------------------------


def test_sync_ships_what_dead_processes_left(store_url: str, home: Path) -> None:
    """Each journal of a dead process is shipped once, listed with its points, and removed."""
    leave_behind("one")
    leave_behind("two")
    done = invoke("sync")
    assert done.exit_code == 0
    title, *lines = done.stdout.splitlines()
    assert title.split() == ["run", "points", "refused", "outcome", "store"]
    assert [line.split()[1:] for line in lines] == [["60", "0", "stored", store_url]] * 2
    assert done.stderr == "shipped 2 journals\n"
    assert journals(home) == []
    with closing(tracker.open_store()) as store:
        runs = {run.name: run for run in store.search_runs()}
        assert {name: run.status for name, run in runs.items()} == {"one": "lost", "two": "lost"}
        assert store.metrics(runs["one"].id)["loss"].count == 30
    again = invoke("sync")
    assert (again.exit_code, again.stdout) == (0, "")
    assert again.stderr.startswith("nothing to ship in ")


def test_sync_tells_what_could_not_be_shipped(store_url: str, home: Path, tmp_path: Path) -> None:
    """A journal whose store cannot be reached stays, with the reason; the others are shipped; the exit code is 1."""
    (tmp_path / "gone").mkdir()
    leave_behind("stuck", store=f"sqlite:///{tmp_path / 'gone' / 'x.db'}")
    leave_behind("free")
    (tmp_path / "gone").rmdir()
    done = invoke("sync")
    assert done.exit_code == 1
    assert done.stderr == "shipped 1 journal, 1 could not be\n"
    assert "not shipped" in done.stdout
    assert "gone' does not exist" in done.stdout
    (left,) = journals(home)
    assert f"it stays in {left}" in done.stdout
    found = json.loads(invoke("sync", "--format", "json").stdout)
    assert [(one["points"], "does not exist" in one["error"], one["path"]) for one in found] == [(0, True, str(left))]


def test_sync_leaves_what_is_no_journal(store_url: str, home: Path) -> None:
    """Garbage among the journals is named and left as it is."""
    (home / "journals").mkdir(parents=True)
    (home / "journals" / "x.y.journal").write_bytes(b"garbage")
    done = invoke("sync")
    assert done.exit_code == 1
    assert "x.y.journal does not begin as a journal does" in done.stdout
    assert journals(home)[0].read_bytes() == b"garbage"


def test_sync_leaves_living_processes_alone(store_url: str, home: Path) -> None:
    """A journal that a process is writing is not touched, and counted."""
    run = tracker.start_run(name="alive")
    try:
        done = invoke("sync")
        assert (done.exit_code, done.stdout) == (0, "")
        assert "skipped 1 journal of running processes" in done.stderr
        assert len(journals(home)) == 1
    finally:
        run.finish()


def test_sync_says_what_was_damaged(store_url: str, home: Path) -> None:
    """Of a damaged journal the good frames are shipped; the rest is kept, said, and no success."""
    leave_behind("damaged")
    (path,) = journals(home)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 40] = b"\xff" * 40
    path.write_bytes(data)
    done = invoke("sync")
    assert done.exit_code == 1
    assert "stored in part" in done.stdout
    assert f"it is kept in {path}.refused" in done.stdout
    assert journals(home) == [path.with_name(path.name + ".refused")]
    assert listed() == ["damaged"]


def test_sync_shows_progress_on_a_terminal(store_url: str) -> None:
    """A person sees how far it is; a pipe sees only the result."""
    leave_behind("one")
    assert "shipping journals" in plain(in_terminal("sync"))


# -- db -------------------------------------------------------------------------------------------------------------


def test_upgrade_makes_a_store_and_does_nothing_twice(tmp_path: Path) -> None:
    """`db upgrade` makes the database at the newest revision; then it has nothing to do."""
    url = f"sqlite:///{tmp_path / 'new.db'}"
    assert invoke("db", "upgrade", "--store", url).stderr.endswith(": made\n")
    done = invoke("db", "current", "--store", url)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.strip().isdigit()
    assert invoke("db", "upgrade", "--store", url).stderr.endswith(f"revision {done.stdout.strip()}: nothing to do\n")
    assert invoke("runs", "--store", url).exit_code == 0


def test_check_finds_nothing_in_a_good_store(store_url: str) -> None:
    """A store that is as it should be prints nothing, says so, and exits with 0."""
    record("good", [0.5])
    done = invoke("db", "check")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.endswith(": all is well\n")


def test_check_finds_a_schema_that_differs(store_url: str, tmp_path: Path) -> None:
    """An index that somebody dropped is found."""
    record("good")
    with closing(sqlite3.connect(tmp_path / "tracker.db")) as connection:
        connection.execute("DROP INDEX ix_runs_name")
    done = invoke("db", "check")
    assert done.exit_code == 1
    assert "ix_runs_name" in done.stdout


def test_check_finds_a_damaged_file(store_url: str, tmp_path: Path) -> None:
    """A file whose pages were overwritten is found damaged."""
    record("good", [0.5])
    with closing(sqlite3.connect(tmp_path / "tracker.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with (tmp_path / "tracker.db").open("r+b") as file:
        file.seek(8 * 4096)
        file.write(b"\xff" * 8 * 4096)
    done = invoke("db", "check")
    assert done.exit_code == 1
    assert done.stdout.startswith("integrity: ")


def test_check_finds_rows_that_refer_to_nothing(store_url: str, tmp_path: Path) -> None:
    """Rows of a run that somebody deleted by hand are found."""
    record("good", params={"a": 1})
    with closing(sqlite3.connect(tmp_path / "tracker.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM runs")
    done = invoke("db", "check")
    assert done.exit_code == 1
    assert "of params refers to a row of runs that is not there" in done.stdout


@pytest.mark.parametrize(("revision", "advice"), [("0000", "tracker db upgrade"), ("9999", "upgrade callback-tracker")])
def test_another_revision_is_told_and_refused(store_url: str, tmp_path: Path, revision: str, advice: str) -> None:
    """`db current` prints an older or newer revision and what to do; reading and checking are refused."""
    record("good")
    with closing(sqlite3.connect(tmp_path / "tracker.db", isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    done = invoke("db", "current")
    assert (done.exit_code, done.stdout) == (0, f"{revision}\n")
    assert advice in done.stderr
    for command in (["runs"], ["db", "check"]):
        refused = invoke(*command)
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert advice in refused.stderr


def test_commands_work_on_postgresql(empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On PostgreSQL reading makes no tables, upgrading does, and everything works then; no password is shown."""
    monkeypatch.setenv("TRACKER_STORE", empty_postgres_url)
    done = invoke("runs")
    assert done.exit_code == 1
    assert "there is no store at postgresql://" in done.stderr
    assert invoke("db", "current").exit_code == 1
    assert invoke("db", "upgrade").exit_code == 0
    assert invoke("db", "check").exit_code == 0
    record("elephant", [0.5, 0.25])
    assert listed() == ["elephant"]
    assert "0.25 @ 1" in invoke("show", "elephant").stdout
    assert invoke("doctor").exit_code == 0


def test_a_server_that_does_not_answer_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PostgreSQL that is not there is one sentence and exit code 1, and its password stays secret."""
    monkeypatch.setenv("TRACKER_STORE", "postgresql://me:secret@127.0.0.1:1/none")
    done = invoke("runs")
    assert done.exit_code == 1
    assert done.stderr.startswith("tracker: postgresql://me")
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr
