"""One process of the server: store, writer, application and periodic work, until a signal ends it."""

from __future__ import annotations

import contextlib
import gc
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from starlette.types import ASGIApp

from tracker import compose
from tracker.artifacts.local import LocalArtifacts, path_of
from tracker.domain.extras import how_to_install
from tracker.domain.frames import Batch
from tracker.mlflow_bridge.bridge import Bridge
from tracker.mlflow_bridge.locations import Locations
from tracker.plugins import installed
from tracker.server import server_folders
from tracker.server.app import Around, create_app
from tracker.server.gate import Hosts
from tracker.server.group_commit import GroupCommit
from tracker.server.logs import Format, Log
from tracker.server.memory import LOOK_S, FreedMemory
from tracker.server.metrics import Metrics
from tracker.server.mlflow.app import mlflow_app
from tracker.server.mounts import find_mounts
from tracker.server.operations import Services
from tracker.server.periodic import Periodic
from tracker.server.request_body import BodyLimits
from tracker.server.serve import serve
from tracker.server.token_auth import FRESH_S, TokenAuth
from tracker.server.workers import WorkerSlot
from tracker.settings import Settings
from tracker.store.store import SqlRunStore

log = logging.getLogger("tracker.server")

SWEEP_S = 15.0
SEAL_S = 60.0
"""Seconds between searches for runs whose lease has expired: their status in SQL is at most this late."""
REMOVE_S = 5.0
"""Seconds between removals of pruned checkpoints' files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Configuration of a process of the server.

    `url` and `root` are as `compose.store_url` and `compose.artifact_root` return them. Tokens are required if
    `guarded`, even if the store has none. `allowed` are artifact locations that MLflow's clients may name. A request
    reads for `query_seconds` at most, None for no limit.
    """

    url: str
    root: str
    hosts: Hosts
    guarded: bool = False
    allowed: Sequence[str] = ()
    largest_file: int | None = None
    query_seconds: float | None = None
    log_level: str = "info"
    log_format: Format = "text"


def run(
    setup: Setup, opened: socket.socket, *, started: Callable[[Log], None], place: WorkerSlot | None = None
) -> None:
    """Serve on the socket until SIGTERM or SIGINT; return when all that was accepted is committed.

    `started` is called when it serves. `place` is this process's slot among several that serve on the same socket.
    Raises StoreError if the store cannot be opened.
    """
    metrics = Metrics(place.others if place is not None else lambda: ())
    if place is not None and (before := place.before()) is not None:
        metrics.resume(before)
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        output = enter(Log(setup.log_level, setup.log_format).running())
        store = enter(compose.open_sql_store(setup.url))
        auth = TokenAuth(store.tokens.keys, guarded=setup.guarded)
        append_many = metrics.measured(store.append_soon, lambda batch: batch.points)
        writer = enter(GroupCommit(append_many, settle=store.settle))
        metrics.waiting = lambda: writer.waiting
        enter(Periodic("tokens", FRESH_S / 2, auth.refresh))
        enter(Periodic("leases", SWEEP_S, store.sweep))
        enter(Periodic("sealing", SEAL_S, store.compaction.seal_idle))
        files = LocalArtifacts(path_of(setup.root))
        server_folders.hide(_folders(setup))
        enter(Periodic("checkpoints", REMOVE_S, lambda: store.remove_pruned(files)))
        enter(Periodic("memory", LOOK_S, FreedMemory().release))
        if place is not None:
            enter(Periodic("metrics", 1.0, lambda: place.put(metrics.own())))
        app = create_app(
            store,
            writer,
            files,
            hosts=setup.hosts,
            auth=auth,
            intake=BodyLimits(largest_file=setup.largest_file),
            metrics=metrics,
            query_seconds=setup.query_seconds,
            note=output.answered,
            around=_mlflow(setup, store, writer),
            mounts=find_mounts(installed(Settings.from_environment())),
            started=partial(started, output),
        )
        # Requests make very many short-lived objects: the collector need not scan the present ones with them.
        gc.freeze()
        gc.set_threshold(50_000, 20, 1000)
        serve(app, opened)


def _folders(setup: Setup) -> Iterator[Path]:
    """Where the store and the files are."""
    if (file := compose.sqlite_file(setup.url)) is not None:
        yield file.parent
    yield path_of(setup.root)


def _mlflow(setup: Setup, store: SqlRunStore, writer: GroupCommit) -> Around:
    """Returns the function that puts MLflow's API and pages before our own routes."""
    if find_spec("mlflow") is None:
        log.warning(f"MLflow is not installed, so its pages are not here: {how_to_install('mlflow')}")
    locations = Locations(setup.root, proxied=True, allowed=setup.allowed)

    def write(batch: Batch) -> None:
        writer.submit(batch).result()

    bridge = Bridge(store, locations=locations, log=write)

    def around(native: ASGIApp, services: Services) -> ASGIApp:
        return mlflow_app(native, services=services, bridge=bridge, locations=locations, url=setup.url)

    return around
