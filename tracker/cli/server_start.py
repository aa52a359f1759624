"""Common code of `tracker server` and `tracker ui`: from options to server processes."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tracker import compose
from tracker.artifacts.local import path_of
from tracker.cli.output import say
from tracker.cli.stores import Database
from tracker.domain.errors import StoreError, StoreUnavailable
from tracker.domain.extras import how_to_install

if TYPE_CHECKING:
    from tracker.server.gate import Hosts
    from tracker.server.logs import Format, Log
    from tracker.server.workers import WorkerSlot

QUERY_SECONDS = 30.0
"""Default seconds that a request of a server may read from the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Options of a server."""

    host: str = "127.0.0.1"
    port: int = 5000
    any_port: bool = False
    """Whether another port may be used if this one is taken."""
    url: str
    root: str
    workers: int = 1
    allow_host: Sequence[str] = ()
    allow_artifacts: Sequence[str] = ()
    max_artifact_bytes: int | None = None
    query_seconds: float = QUERY_SECONDS
    """Seconds that a request may read; 0 for no limit."""
    log_level: str = "info"
    log_format: Format = "text"
    insecure: bool = False


def serve(wanted: ServerOptions, talk: logging.Handler, *, started: Callable[[str], None] = lambda url: None) -> None:
    """Serve until a signal ends it. `started` is called with the address once it serves; `talk` is silent meanwhile."""
    try:
        from tracker.server.logs import Log
        from tracker.server.process import Setup, run
        from tracker.server.serve import address_of, is_loopback, resolve
        from tracker.server.workers import Workers
    except ModuleNotFoundError as error:
        raise StoreError(
            f"the server needs {error.name}, which is not installed: {how_to_install('server')}"
        ) from error
    public = not is_loopback(str(resolve(wanted.host, wanted.port)[1][0]))
    exposed = wanted.insecure or (public and _has_tokens(wanted.url))
    with _listening(wanted, exposed=exposed) as opened:
        _check_places(wanted)
        setup = Setup(
            url=wanted.url,
            root=wanted.root,
            hosts=_hosts(wanted, public),
            guarded=public and not wanted.insecure,
            allowed=wanted.allow_artifacts,
            largest_file=wanted.max_artifact_bytes,
            query_seconds=wanted.query_seconds or None,
            log_level=wanted.log_level,
            log_format=wanted.log_format,
        )
        address = address_of(opened)

        def answers(log: Log) -> None:
            _announce(log, f"serving {compose.identity(wanted.url)} at {address}")
            started(address)

        def work(place: WorkerSlot) -> None:
            first = place.index == 0 and not place.anew
            run(setup, opened, place=place, started=answers if first else _quiet)

        logging.getLogger("tracker").removeHandler(talk)
        if wanted.workers == 1:
            run(setup, opened, started=answers)
        else:
            compose.open_sql_store(wanted.url).close()  # its errors are reported once, before processes are forked
            with Log(wanted.log_level, wanted.log_format).running(requests=False):
                Workers(wanted.workers, work).run()
    _announce(Log(wanted.log_level, wanted.log_format), "ended; everything that was accepted is committed")


def _announce(log: Log, text: str) -> None:
    """Print a message for the person who started the server; as a JSON object in the JSON log format."""
    if log.format == "text":
        say(text)
    else:
        log.say(text)


def _quiet(log: Log) -> None:
    """Print nothing: another process has reported that the server serves."""


def _listening(wanted: ServerOptions, *, exposed: bool) -> socket.socket:
    from tracker.server.serve import PortTaken, listen

    try:
        return listen(wanted.host, wanted.port, exposed=exposed)
    except PortTaken:
        if not wanted.any_port:
            raise
        return listen(wanted.host, 0, exposed=exposed)


def _hosts(wanted: ServerOptions, public: bool) -> Hosts:
    """The host names that the server accepts: its own, and those of the options."""
    from tracker.server.gate import LOOPBACK, Hosts

    own = {socket.gethostname(), wanted.host} if public else set()
    return Hosts(names=LOOPBACK | {name.lower() for name in (*own, *wanted.allow_host)}, addresses=public)


def _has_tokens(url: str) -> bool:
    """Whether the store has a valid access token; a missing store is not created."""
    database = Database(url)
    try:
        if database.revision() is None:
            return False
    finally:
        database.close()
    with compose.open_sql_store(url) as store:
        return bool(store.tokens.keys().by_digest)


def _check_places(wanted: ServerOptions) -> None:
    """StoreUnavailable if the database's folder, or that for files, cannot be written."""
    folders = [path_of(wanted.root)]
    if (file := compose.sqlite_file(wanted.url)) is not None:
        folders.append(file.parent)
        if file.exists() and not os.access(file, os.W_OK):
            raise StoreUnavailable(f"{file} cannot be written; a server needs to")
    for folder in map(_nearest, folders):
        try:
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            reason = error.strerror or error
            raise StoreUnavailable(f"the folder {str(folder)!r} cannot be written: {reason}") from error


def _nearest(folder: Path) -> Path:
    """The folder, or its nearest existing parent."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
