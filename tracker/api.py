"""The public functions: start a run, open a store, compare runs, fetch a checkpoint, ship journals."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from tracker import compose, resume_lookup
from tracker.client import lifecycle, origin
from tracker.client.clock import CLOCK, now_ms
from tracker.client.delivery import Delivery
from tracker.client.earlier_records import EarlierRecords
from tracker.client.journal import VERSION, Journal
from tracker.client.plugin_events import Observer, PluginEvents
from tracker.client.position import Position
from tracker.client.recorder import RunRecorder
from tracker.client.run import Run
from tracker.client.run_writer import RunWriter
from tracker.client.shipper import Shipper
from tracker.client.sync import Synced, ship_run, sync
from tracker.domain.errors import InvalidValue
from tracker.domain.frames import RunStarted
from tracker.domain.identity import new_run_id, new_run_name
from tracker.domain.limits import check_experiment, check_name, check_run_id
from tracker.domain.ports import ArtifactHome, RunReader, RunStore, Transport
from tracker.domain.run_progress import Progress
from tracker.query.named_runs import find_run as find_run
from tracker.resume_lookup import Resume, ResumeRequest
from tracker.settings import Settings
from tracker.wire.frame_codec import JournalHeader

if TYPE_CHECKING:
    from tracker.domain.records import Checkpoint
    from tracker.domain.records import Run as RunRecord
    from tracker.query.comparison import Comparison

log = logging.getLogger("tracker")

RESUMES: tuple[Resume, ...] = get_args(Resume)
CLAIM_S = 5.0
"""How many seconds `start_run` waits until the store knows that a run is continued."""


def open_store(url: str | None = None) -> RunStore:
    """Open the store at `url` (default: TRACKER_STORE, else `sqlite:///tracker.db`) for reading.

    Unlike `start_run` this does not create a missing store. Raises NoStore, InvalidStoreUrl, StoreUnavailable,
    SchemaOutdated or SchemaTooNew.
    """
    settings = Settings.from_environment()
    return compose.open_existing_store(url or settings.store, settings.token)


def start_run(
    experiment: str | None = None,
    *,
    name: str | None = None,
    run_id: str | None = None,
    resume: Resume = "never",
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    store: str | None = None,
    artifacts: str | None = None,
) -> Run:
    """Start a run and return it; as a context manager it records its own final status.

    `experiment` defaults to TRACKER_EXPERIMENT, else `Default`; `name` to TRACKER_RUN_NAME, else a generated name.

    `resume`: "never" creates a run (RunExists if `run_id` is taken), "must" continues `run_id` (RunNotFound), "allow"
    does either. "auto" continues the newest unfinished run of this experiment and name, else creates one; a run without
    records is continued only if there is no other. With TRACKER_RUN_ID set, that run is opened, and "never" means
    "allow".

    A new run does not need a reachable store: it is written to disk at once and shipped when the store answers. Raises
    InvalidValue for a bad name or URL, JournalError if nothing can be written. Continuing a run reads the store and the
    journals in TRACKER_HOME that are not in it yet, and raises RunDeleted for a deleted run.

    A continued run keeps the script, commit and command line of its first process; each later process is recorded as
    an event `reopened`.
    """
    settings = Settings.from_environment()
    experiment = check_experiment(settings.experiment if experiment is None else experiment)
    name = settings.run_name if name is None else name
    if resume not in RESUMES:
        raise InvalidValue("resume", f"{resume!r}", limit=", ".join(RESUMES))
    wanted = run_id or settings.run_id
    new_id = check_run_id(wanted) if wanted else new_run_id()
    new_name = check_name(name) if name is not None else new_run_name(new_id)
    if settings.mode == "disabled":
        return Run(id=new_id, name=new_name, experiment=experiment, store_url="",
                   recorder=_recorder(RunWriter(new_id, None), None),
                   open_again=(open_again, (new_id, new_name, experiment, "", artifacts)))  # fmt: skip

    url = compose.store_url(store or settings.store, settings.token)
    root = compose.artifact_root(artifacts or settings.artifacts, url)
    mode: Resume = "allow" if run_id is None and settings.run_id and resume == "never" else resume
    wish = ResumeRequest(run_id=wanted, experiment=experiment, name=name, resume=mode)
    found, progress = resume_lookup.find(settings, url, wish, lambda: _sync_store(settings, url))
    if not lifecycle.open_runs():
        CLOCK.set()
    if found is not None:  # new records must be later than the old ones, even if this machine's clock is slow
        CLOCK.advance(max(found.started_ms, found.ended_ms or 0))
    opened_ms = now_ms()
    writer = _open_writer(settings, url, root, found, new_id, new_name, experiment, progress, opened_ms)
    id, name, experiment = (found.id, found.name, found.experiment) if found else (new_id, new_name, experiment)
    earlier = EarlierRecords(
        run_id=id,
        is_continued=found is not None,
        is_unknown=progress is None,
        connect=lambda: resume_lookup.connect(settings, url, root),
        recorded=lambda: resume_lookup.recorded(settings, url, id),
        flush=lambda: run.flush(),
    )
    recorder = _recorder(writer, progress, earlier)
    run = Run(
        id=id,
        name=name,
        experiment=experiment,
        store_url=compose.identity(url),
        recorder=recorder,
        started_ms=found.started_ms if found else opened_ms,
        resumed=found is not None,
        open_again=(open_again, (id, name, experiment, compose.identity(url), artifacts)),
    )
    lifecycle.watch(run)
    if found is not None and settings.mode == "online":
        run.flush(CLAIM_S)  # from now on no other process finds it unfinished
    if params:
        run.log_params(params)
    if tags:
        run.set_tags(tags)
    if settings.plugins.lower() != "off":
        recorder.events.begin(lambda: _observer(settings, writer), run=run)
        recorder.events.put("run_started")
    return run


def open_again(run_id: str, name: str, experiment: str, store: str, artifacts: str | None) -> Run:
    """Return the run of an unpickled `Run`: the one with this id that is open in this process, else open it.

    Pickles contain no passwords, so `store` has none: those of TRACKER_STORE and TRACKER_TOKEN are used if they belong
    to this store. Raises as `start_run` does.
    """
    for run in lifecycle.open_runs():
        if run.id == run_id:
            return run
    settings = Settings.from_environment()
    given = compose.store_url(settings.store, settings.token)
    url = None if not store or store == compose.identity(given) else store
    return start_run(experiment, name=name, run_id=run_id, resume="allow", store=url, artifacts=artifacts)


def compare(run_ids: Iterable[str], *, store: RunStore | str | None = None) -> Comparison:
    """Compare runs, in the order given: parameters that differ, and metrics at each run's best epoch.

    Each of `run_ids` is an id, a unique prefix of one, or a unique name; `store` is an open store, or a URL as for
    `open_store`. Raises RunNotFound, InvalidValue, StoreError.
    """
    from tracker.query.comparison import compare_facts, facts_of

    texts = [run_ids] if isinstance(run_ids, str) else list(run_ids)
    if not texts:
        raise InvalidValue("run_ids", "none were given", limit="at least one run")
    with _opened(store) as reader:
        return compare_facts([facts_of(reader, find_run(reader, text)) for text in texts])


@contextmanager
def _opened(store: RunStore | str | None) -> Iterator[RunStore]:
    """Yield `store` if it is open, else open the store at this URL and close it afterwards."""
    if store is not None and not isinstance(store, str):
        yield store
        return
    with closing(open_store(store)) as opened:
        yield opened


def load_checkpoint(
    run_id: str,
    which: str | int = "best",
    *,
    to: str | os.PathLike[str] | None = None,
    store: RunStore | str | None = None,
) -> Path:
    """Fetch a checkpoint, verify its SHA-256 and return its local path, for `keras.models.load_model`.

    `run_id` is a run's id, a unique prefix of one, or a unique name. `which` is "best" (by the run's monitored metric),
    "best:val_accuracy" (by another metric), "latest", an epoch (the run's number, from 0), a tag, or `id:` and a
    checkpoint's id. Models are preferred; a state checkpoint is returned only if no model matches. A superseded
    checkpoint is never the best, but it is returned for its epoch if that epoch has no other.

    `to` is a file, which is replaced, or a folder; None: a file in TRACKER_HOME that is fetched once and verified
    every time. The copy keeps the suffix by which Keras recognises the format (`.keras`, `.weights.h5`, `.h5`); an
    Orbax checkpoint is a folder. Keras loads with `safe_mode=True` by default: keep that for files you do not trust.

    Raises RunNotFound, CheckpointNotFound (which lists what exists and what was pruned), ArtifactError for bytes that
    are damaged or missing, InvalidValue, StoreError.
    """
    from tracker.artifacts import checkpoint_download

    with _opened(store) as reader:
        run = find_run(reader, run_id)
        one = find_checkpoint(reader, run, which)
        home = compose.artifacts_of(reader)
        if to is None:
            return checkpoint_download.cached(
                home, one, run.id, checkpoint_download.cache_of(reader.url, Settings.from_environment().home)
            )
        return checkpoint_download.copy(home, one, run.id, checkpoint_download.place(one, run.id, to))


def find_checkpoint(store: RunReader, run: RunRecord, which: str | int) -> Checkpoint:
    """The run's checkpoint selected by `which`, as for `load_checkpoint`. Raises CheckpointNotFound, InvalidValue."""
    from tracker.query.checkpoint_choice import choose

    goals = {key: one.goal for key, one in store.metrics(run.id).items()}
    return choose(store.checkpoints(run.id), which, run_id=run.id, metric=run.best_metric, goals=goals)


def sync_journals(*, store: str | None = None) -> Iterator[Synced]:
    """Ship the journals of dead processes in TRACKER_HOME, and yield the result for each.

    A journal of a SQLite store goes to its store; if that file was moved, `store` (default: TRACKER_STORE) must name
    its new place. A journal of a server is shipped only if `store` names that server, since journals contain no
    passwords.
    """
    settings = Settings.from_environment()
    given = compose.store_url(store or settings.store, settings.token)

    def connect(header: JournalHeader) -> tuple[Transport, ArtifactHome]:
        if (route := compose.journal_route(header.store, header.artifacts, given)) is not None:
            return route
        if not header.store.startswith("sqlite:"):
            raise InvalidValue(
                "journal",
                f"it belongs to {header.store}; set TRACKER_STORE to this store, with its password or token if it has "
                "one, and sync again",
            )
        full = compose.store_url(header.store)
        return compose.make_transport(full), compose.open_artifacts(header.artifacts, full)

    return sync(settings.home, connect)


def _recorder(writer: RunWriter, progress: Progress | None, earlier: EarlierRecords | None = None) -> RunRecorder:
    return RunRecorder(writer, Position(progress or Progress()), PluginEvents(writer.report), earlier)


def _observer(settings: Settings, writer: RunWriter) -> Observer:
    from tracker.plugins import RunObserver, installed

    return RunObserver(installed(settings), writer.report)


def _open_writer(
    settings: Settings,
    url: str,
    root: str,
    found: RunRecord | None,
    run_id: str,
    name: str,
    experiment: str,
    began: Progress | None,
    opened_ms: int,
) -> RunWriter:
    artifacts = compose.open_artifacts(root, url)
    run_id = found.id if found else run_id
    header = JournalHeader(
        run_id=run_id,
        writer=os.urandom(6).hex(),
        store=compose.identity(url),
        artifacts=root,
        created_ms=opened_ms,
        pid=os.getpid(),
        host=os.uname().nodename,
        version=VERSION,
        began=began,
    )
    journal = Journal.create(settings.home, header)
    journal.append(
        RunStarted(
            ms=header.created_ms,
            experiment=found.experiment if found else experiment,
            name=found.name if found else name,
            artifact_uri=artifacts.uri(run_id),
            host=header.host,
            pid=header.pid,
            script=origin.script(),
            commit=origin.commit(),
        )
    )
    if settings.mode == "offline":
        return RunWriter(run_id, journal)
    delivery = Delivery(journal, run_id, header.writer, compose.make_transport(url), artifacts)

    def connect(header: JournalHeader) -> tuple[Transport, ArtifactHome] | None:
        return compose.journal_route(header.store, header.artifacts, url)

    earlier = None if found is None else lambda: ship_run(settings.home, run_id, connect)
    shipper = Shipper(journal, delivery, before_start=earlier, after_start=lambda: _sync_store(settings, url))
    shipper.start()
    return RunWriter(run_id, journal, delivery, shipper)


def _sync_store(settings: Settings, url: str) -> None:
    """Ship the journals that dead processes left for this store, and log how many points were shipped."""

    def connect(header: JournalHeader) -> tuple[Transport, ArtifactHome] | None:
        return compose.journal_route(header.store, header.artifacts, url)

    for synced in sync(settings.home, connect):
        if synced.error is None:
            log.info("shipped %d points of run %s that an earlier process left", synced.points, synced.run_id)
