"""`tracker doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from e2e.cli_lab import invoke, record
from e2e.test_cli_upkeep import leave_behind

import tracker


def findings(*arguments: str) -> dict[str, list[dict[str, Any]]]:
    """What the doctor finds, by check."""
    done = invoke("doctor", "--format", "json", *arguments)
    found = json.loads(done.stdout)
    problems = [one for one in found["findings"] if one["status"] == "problem"]
    assert found["ok"] is not bool(problems)
    assert done.exit_code == (1 if problems else 0)
    by_check: dict[str, list[dict[str, Any]]] = {}
    for one in found["findings"]:
        by_check.setdefault(one["check"], []).append(one)
    return by_check


def test_a_good_installation_has_no_problem(store_url: str, home: Path) -> None:
    """With a store at the newest revision and no journals there is no problem, and the versions are listed."""
    record("good")
    done = invoke("doctor")
    assert (done.exit_code, done.stderr) == (0, "no problem found\n")
    assert f"{store_url} at revision " in done.stdout
    assert str(home) in done.stdout
    assert "problem" not in done.stdout
    versions = json.loads(invoke("doctor", "--format", "json").stdout)["versions"]
    assert versions["tracker"] == tracker.__version__
    assert versions["sqlite"] == sqlite3.sqlite_version
    assert {"keras", "tensorflow", "sqlalchemy", "python"} < set(versions)


def test_a_new_installation_has_no_problem_and_stays_new(empty_store_url: str, home: Path, tmp_path: Path) -> None:
    """Before the first run there is no store, which is no problem, and looking makes neither it nor any folder."""
    found = findings()
    assert found["store"][0]["status"] == "note"
    assert "the first run creates it" in found["store"][0]["found"]
    assert list(tmp_path.iterdir()) == []


def test_a_dead_processs_journal_is_a_problem_with_a_remedy(store_url: str) -> None:
    """A journal that waits for `tracker sync` is listed with its run and store; after that command there is no problem."""
    leave_behind("dead")
    (one,) = findings()["journals"]
    assert (one["status"], one["advice"]) == ("problem", "tracker sync")
    assert store_url in one["found"]
    assert invoke("sync").exit_code == 0
    assert findings()["journals"][0]["status"] == "ok"


def test_in_offline_mode_waiting_journals_are_wanted(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With TRACKER_MODE=offline journals wait because somebody said so."""
    leave_behind("dead")
    monkeypatch.setenv("TRACKER_MODE", "offline")
    found = findings()
    assert found["journals"][0]["status"] == "note"
    assert "offline" in found["mode"][0]["found"]


def test_a_living_process_is_told(store_url: str) -> None:
    """A journal that is being written is listed with its process, and is not a problem."""
    run = tracker.start_run(name="alive")
    try:
        (one,) = findings()["journals"]
    finally:
        run.finish()
    assert one["status"] == "ok"
    assert f"run {run.id}: process {os.getpid()} is writing it" in one["found"]


def test_what_was_refused_and_what_is_no_journal_are_problems(store_url: str, home: Path) -> None:
    """Kept journals say where they are and how to try again; garbage says to move it away."""
    leave_behind("damaged")
    (path,) = (home / "journals").iterdir()
    path.rename(path.with_name(path.name + ".refused"))
    (home / "journals" / "x.y.journal").write_bytes(b"garbage")
    refused, garbage = findings()["journals"]
    assert (refused["status"], garbage["status"]) == ("problem", "problem")
    assert f"rename it to {path.name}, then tracker sync" in refused["advice"]
    assert "does not begin as a journal does" in garbage["found"]


def test_a_store_of_another_revision_is_a_problem(store_url: str, tmp_path: Path) -> None:
    """An older schema says to upgrade the database, a newer one to upgrade the program."""
    record("good")
    for revision, advice in (("0000", f"tracker db upgrade --store {store_url}"), ("9999", "upgrade callback-tracker")):
        with closing(sqlite3.connect(tmp_path / "tracker.db", isolation_level=None)) as connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        (one,) = findings()["store"]
        assert one["status"] == "problem"
        assert advice in one["advice"]


@pytest.mark.parametrize(("variable", "value", "check"), [
    ("TRACKER_STORE", "sqlit:///x.db", "store"),
    ("TRACKER_STORE", "sqlite:////nowhere/at/all/x.db", "store"),
    ("TRACKER_STORE", "postgresql://me:secret@127.0.0.1:1/none", "store"),
    ("TRACKER_MODE", "onlin", "mode"),
    ("TRACKER_ARTIFACTS", "s3://bucket", "artifacts"),
    ("TRACKER_ARTIFACTS", "/dev/null/artifacts", "artifacts"),
    ("TRACKER_HOME", "/proc/none", "home"),
])  # fmt: skip
def test_a_setting_that_cannot_work_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, check: str
) -> None:
    """Each setting that cannot work is named with what to do, and the other checks are made all the same."""
    monkeypatch.setenv(variable, value)
    found = findings()
    assert found[check][0]["status"] == "problem"
    assert found[check][0]["advice"]
    assert {"mode", "store", "home", "journals"} <= set(found)
    assert "secret" not in json.dumps(found)


def test_a_file_that_is_no_database_is_a_problem(tmp_path: Path) -> None:
    """A store URL that names some other file is found out."""
    (tmp_path / "notes.txt").write_text("not a database at all")
    (one,) = findings("--store", f"sqlite:///{tmp_path / 'notes.txt'}")["store"]
    assert "is not a SQLite database" in one["found"]
