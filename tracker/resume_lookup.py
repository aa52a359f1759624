"""Finds the run to continue and its progress, in the store and in the journals that were not shipped yet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Literal

from tracker import compose
from tracker.client.earlier_records import Recorded, recorded_runs
from tracker.domain.errors import (
    ExperimentNotFound,
    InvalidValue,
    RunDeleted,
    RunExists,
    RunNotFound,
    StoreError,
    StoreUnavailable,
)
from tracker.domain.ports import ArtifactHome, RunStore
from tracker.domain.records import Run
from tracker.domain.run_progress import Progress
from tracker.settings import Settings

log = logging.getLogger("tracker")

Resume = Literal["never", "allow", "must", "auto"]
_UNFINISHED = ("failed", "interrupted", "preempted", "lost")
Found = tuple[Run | None, Progress | None]


@dataclass(frozen=True, kw_only=True)
class ResumeRequest:
    """Which run a script wants to continue: one by id, or with "auto" one of an experiment and perhaps a name."""

    run_id: str | None
    experiment: str
    name: str | None
    resume: Resume


def find(settings: Settings, url: str, wanted: ResumeRequest, sync: Callable[[], None]) -> Found:
    """The run to continue and its progress; (None, empty progress) for a new run, (None, None) if the store is away.

    `sync` ships the journals that dead processes left for the store. Raises RunExists, RunNotFound, RunDeleted,
    InvalidValue; StoreError with "must" for a run that only the store could know.
    """
    if wanted.resume == "must" and wanted.run_id is None:
        raise InvalidValue("run_id", "none was given", limit="resume='must' needs run_id or TRACKER_RUN_ID")
    if wanted.run_id is None and wanted.resume != "auto":
        return None, Progress()
    stored: Found = None, Progress()
    left = _left(settings, url, wanted)
    away: StoreError | None = None
    try:
        if settings.mode == "online":
            sync()
            left = _left(settings, url, wanted)
        with closing(connect(settings, url, "")[0]) as store:
            stored = _stored(store, wanted)
            left = [run for run in left if not _is_over(store, run)]
            _warn_if_stateless(store, stored, left)
    except StoreError as error:
        away = error
    if (newest := _newest(left, stored[0])) is not None:
        return _merged(stored, newest)
    if stored[0] is not None:
        return stored
    if away is None or _has_no_store(settings, url):
        if wanted.resume == "must":
            raise RunNotFound(wanted.run_id or "")
        return None, Progress()
    if wanted.resume == "must":
        raise away
    log.warning("cannot ask %s for a run to continue, so a new one begins: %s", compose.identity(url), away)
    return None, None if settings.mode == "online" else Progress()


def connect(settings: Settings, url: str, root: str) -> tuple[RunStore, ArtifactHome]:
    """Open the store, which the caller closes, and the artifact home at `root`; StoreError if it is away.

    In the mode `offline` only journals are written: a missing SQLite file is not created.
    """
    if _has_no_store(settings, url):
        raise StoreUnavailable(f"{compose.identity(url)} is not there, and TRACKER_MODE is offline")
    return compose.open_store(url), compose.open_artifacts(root or compose.artifact_root(None, url), url)


def recorded(settings: Settings, url: str, run_id: str) -> Recorded | None:
    """The run as recorded by journals in TRACKER_HOME for this store, those of living processes included."""
    store = compose.identity(url)
    ours = recorded_runs(settings.home, lambda header: (header.run_id, header.store) == (run_id, store))
    return ours[0] if ours else None


def _has_no_store(settings: Settings, url: str) -> bool:
    file = compose.sqlite_file(url)
    return settings.mode == "offline" and file is not None and not file.exists()


def _stored(store: RunStore, wanted: ResumeRequest) -> Found:
    if wanted.run_id is None:
        found = _newest_unfinished(store, wanted.experiment, wanted.name)
    else:
        found = _existing(store, wanted.run_id, wanted.resume)
    return found, store.progress(found.id) if found else Progress()


def _existing(store: RunStore, run_id: str, resume: Resume) -> Run | None:
    try:
        run = store.get_run(run_id)
    except RunNotFound:
        return None
    if resume == "never":
        raise RunExists(run_id)
    if run.deleted_ms is not None:
        raise RunDeleted(run_id)
    return run


def _newest_unfinished(store: RunStore, experiment: str, name: str | None) -> Run | None:
    """The newest run that ended, but not as `finished`; a running one belongs to another process.

    A run that recorded nothing (it began while the store was away) is returned only if no other did.
    """
    from tracker.query.filter_parser import quoted

    text = f"status IN {_UNFINISHED}"
    if name is not None:
        text += f" AND attributes.name = {quoted(name)}"
    newest, token = None, None
    with suppress(ExperimentNotFound):
        while True:
            page = store.search_runs(text, experiments=[experiment], page_token=token)
            for run in page.runs:
                if store.progress(run.id) != Progress():
                    return run
                newest = newest or run
            if (token := page.next_page_token) is None:
                break
    return newest


def _warn_if_stateless(store: RunStore, stored: Found, left: Sequence[Recorded]) -> None:
    """Warn that a run's state checkpoints could not be saved, before the user trains from the beginning again."""
    run, progress = stored
    if run is None or progress is None or progress.next_epoch == 0:
        return
    if not any(event.kind == "state_missing" for event in store.events(run.id)):
        return
    states = any(one.role == "state" and one.status == "published" for one in store.checkpoints(run.id))
    if not states and not any(one.id == run.id and one.states for one in left):
        log.warning(
            "run %s has %d epochs, and none of its states could be saved: resume=True has nothing to go on from, and "
            "training starts from the beginning",
            run.id,
            progress.next_epoch,
        )


def _left(settings: Settings, url: str, wanted: ResumeRequest) -> Sequence[Recorded]:
    """Runs in journals that could be continued, the newest first."""
    if wanted.run_id is not None:
        found = recorded(settings, url, wanted.run_id)
        if found is not None and wanted.resume == "never":
            raise RunExists(wanted.run_id)
        return [found] if found is not None else []
    store = compose.identity(url)
    some = recorded_runs(settings.home, lambda header: header.store == store, experiment=wanted.experiment)
    return [run for run in some if run.status in _UNFINISHED and wanted.name in (None, run.name)]


def _is_over(store: RunStore, left: Recorded) -> bool:
    """Whether the run was deleted, or was continued after these journals and has finished or is running now."""
    try:
        run = store.get_run(left.id)
    except RunNotFound:
        return False
    later = max(run.ended_ms or 0, run.opened_ms or 0) > left.last_ms
    return run.deleted_ms is not None or (later and run.status in ("finished", "running"))


def _newest(left: Sequence[Recorded], stored: Run | None) -> Recorded | None:
    """The run of the journals to continue instead of the stored one, if any; one with records is preferred."""
    newest = next((run for run in left if run.progress != Progress()), left[0] if left else None)
    if newest is None or stored is None or newest.id == stored.id:
        return newest
    return newest if newest.started_ms > stored.started_ms and newest.progress != Progress() else None


def _merged(stored: Found, left: Recorded) -> Found:
    """The stored run, else the one of the journals, with the journals' progress unless the store has more fits."""
    run, progress = stored
    if run is None or run.id != left.id:
        found = Run(
            id=left.id,
            name=left.name,
            experiment=left.experiment,
            status=left.status,
            started_ms=left.started_ms,
            ended_ms=left.last_ms,
            best_epoch=None,
            artifact_uri=left.artifact_uri,
        )
        return found, left.progress
    is_behind = progress is not None and left.progress is not None and left.progress.fits < progress.fits
    return run, progress if is_behind or left.progress is None else left.progress
