"""Checks of `tracker doctor`: each says what it found, and what to do about a problem."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Literal

from tracker import compose
from tracker.cli import styles
from tracker.cli.journal_status import WaitingJournal, waiting_journals
from tracker.cli.run_header import place
from tracker.cli.stores import Database
from tracker.domain.errors import AccessRefused, TrackerError
from tracker.settings import Settings, unknown_variables

LEAST_FREE = 200_000_000
"""Bytes free below which a disk is a problem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of a check; `advice` is what to do about a problem."""

    check: str
    status: Literal["ok", "note", "problem"]
    found: str
    advice: str = ""


def versions() -> dict[str, str | None]:
    """The relevant versions by package; None for packages that are not installed."""
    return {
        "tracker": _version("callback-tracker"),
        "python": python_version(),
        "keras": _version("keras"),
        "tensorflow": _version("tensorflow") or _version("tensorflow-cpu"),
        "sqlalchemy": _version("sqlalchemy"),
        "sqlite": sqlite3.sqlite_version,
    }


def findings(store: str | None) -> Iterator[Finding]:
    """All findings, check by check; `store` is a URL, None for the environment's."""
    try:
        settings = Settings.from_environment()
    except TrackerError as error:
        yield Finding(check="mode", status="problem", found=str(error), advice="unset TRACKER_MODE, or correct it")
        settings = Settings.from_environment({**os.environ, "TRACKER_MODE": ""})
    yield from _mode(settings)
    for name, near in unknown_variables(os.environ):
        advice = f"did you mean {near}?" if near else "README's table of settings has those that there are"
        yield Finding(check="settings", status="note", found=f"{name} is not a setting of Tracker", advice=advice)
    try:
        url = compose.store_url(store or settings.store, settings.token)
    except TrackerError as error:
        yield Finding(check="store", status="problem", found=str(error), advice="correct TRACKER_STORE or --store")
    else:
        yield from _store(url)
        yield _artifacts(settings, url)
    yield _folder("home", settings.home, "TRACKER_HOME")
    yield from _journals(settings)


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _mode(settings: Settings) -> Iterator[Finding]:
    meanings = {
        "online": "runs are shipped to the store as they go",
        "offline": "runs stay in the journal until `tracker sync`",
        "disabled": "nothing is recorded",
    }
    status: Literal["ok", "note"] = "ok" if settings.mode == "online" else "note"
    yield Finding(check="mode", status=status, found=f"{settings.mode}: {meanings[settings.mode]}")


def _store(url: str) -> Iterator[Finding]:
    if compose.is_server(url):
        yield _server(url)
        return
    try:
        database = Database(url)
    except TrackerError as error:
        yield Finding(check="store", status="problem", found=str(error), advice="")
        return
    try:
        yield _schema(database)
    except TrackerError as error:
        advice = "is the server up, the URL right, the password in it?" if database.file is None else ""
        yield Finding(check="store", status="problem", found=str(error), advice=advice)
    finally:
        database.close()
    if database.file is not None:
        yield _writable_store(database.file)


def _server(url: str) -> Finding:
    try:
        with closing(compose.open_store(url)) as store:
            store.experiments()  # unlike readiness, this needs the token
    except AccessRefused as error:
        advice = (
            "the server is up: set TRACKER_TOKEN to an access token that is in force and has the role\n"
            "on the server's machine: tracker token list, tracker token create NAME"
        )
        return Finding(check="store", status="problem", found=str(error), advice=advice)
    except TrackerError as error:
        advice = f"is the address right, and the server up? On its machine: curl {compose.identity(url)}/readyz"
        return Finding(check="store", status="problem", found=str(error), advice=advice)
    return Finding(check="store", status="ok", found=f"{compose.identity(url)} answers, and the store behind it")


def _schema(database: Database) -> Finding:
    found, head = database.revision(), database.head
    if found is None:
        text = f"nothing at {database.url} yet: the first run creates it"
        return Finding(check="store", status="note", found=text)
    text = f"{database.url} at revision {found}"
    if found == head:
        return Finding(check="store", status="ok", found=text)
    advice = (
        f"make a backup, then: tracker db upgrade --store {database.url}"
        if found < head
        else f"it is newer than this version knows ({head}): upgrade callback-tracker"
    )
    return Finding(check="store", status="problem", found=text, advice=advice)


def _writable_store(file: Path) -> Finding:
    """Whether the file and its folder can be written: SQLite also writes files next to it."""
    if file.exists() and not os.access(file, os.W_OK):
        return Finding(check="store file", status="problem", found=f"{file} cannot be written",
                       advice=f"give yourself the right to: chmod u+w {file}")  # fmt: skip
    return _folder("store file", file.parent, "TRACKER_STORE")


def _artifacts(settings: Settings, url: str) -> Finding:
    try:
        root = compose.artifact_root(settings.artifacts, url)
    except TrackerError as error:
        return Finding(check="artifacts", status="problem", found=str(error), advice="correct TRACKER_ARTIFACTS")
    if compose.is_server(root):
        return Finding(check="artifacts", status="ok", found=f"kept by the server at {root}")
    return _folder("artifacts", Path(place(root)), "TRACKER_ARTIFACTS")


def _folder(check: str, folder: Path, variable: str) -> Finding:
    """Whether files can be created in `folder`, or it can be created, and its disk has room."""
    there = next(one for one in (folder, *folder.parents) if one.exists())
    elsewhere = f"set {variable} to another place"
    if not there.is_dir():
        return Finding(check=check, status="problem", found=f"{there} is not a folder", advice=elsewhere)
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"?")
            file.flush()
    except OSError as error:
        found = f"nothing can be written in {there}: {error.strerror or error}"
        return Finding(check=check, status="problem", found=found, advice=f"make room or rights there, or {elsewhere}")
    free = shutil.disk_usage(there).free
    text = f"{folder}, {styles.size(free)} free" + ("" if there == folder else "; created when it is needed")
    if free < LEAST_FREE:
        return Finding(check=check, status="problem", found=text, advice=f"make room, or {elsewhere}")
    return Finding(check=check, status="ok", found=text)


def _journals(settings: Settings) -> Iterator[Finding]:
    journals = list(waiting_journals(settings.home))
    if not journals:
        yield Finding(check="journals", status="ok", found="none waits")
    say: dict[str, Callable[[WaitingJournal], Finding]] = {
        "live": _live,
        "dead": lambda one: _dead(one, wanted=settings.mode == "offline"),
        "refused": _refused,
        "unreadable": _unreadable,
    }
    for journal in journals:
        yield say[journal.state](journal)


def _live(one: WaitingJournal) -> Finding:
    text = f"run {one.run_id}: process {one.pid} is writing it, {styles.size(one.size)}, for {one.store}"
    return Finding(check="journals", status="ok", found=text)


def _dead(one: WaitingJournal, *, wanted: bool) -> Finding:
    text = f"run {one.run_id}: its process is gone, {styles.size(one.size)} wait for {one.store}"
    if one.files:
        what = f"{styles.plural(one.files, 'file')} of {styles.size(one.files_size)}"
        text += f"; {what} {'waits' if one.files == 1 else 'wait'}" + (f": {one.why}" if one.why else "")
    file = compose.sqlite_file(one.store)
    advice = "tracker sync" if file is not None else "tracker sync, with TRACKER_STORE set to this store"
    if file is not None and not file.parent.is_dir():
        advice = (
            f"if {file.name} was moved: tracker sync --store sqlite:///ITS/NEW/FOLDER/{file.name}\n"
            f"else bring the folder {file.parent} back, then tracker sync; or delete {one.path}"
        )
    return Finding(check="journals", status="note" if wanted else "problem", found=text, advice=advice)


def _refused(one: WaitingJournal) -> Finding:
    text = f"run {one.run_id}: the store refused some of it, or some was damaged; all the rest is stored"
    plain = one.path.with_name(one.path.name.removesuffix(".refused"))
    advice = f"delete it if that is no loss: {one.path}\nto try again: rename it to {plain.name}, then tracker sync"
    return Finding(check="journals", status="problem", found=text, advice=advice)


def _unreadable(one: WaitingJournal) -> Finding:
    return Finding(check="journals", status="problem", found=one.problem, advice=f"move it away: {one.path}")
