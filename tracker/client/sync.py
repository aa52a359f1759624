"""Ships the journals that dead processes left behind."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tracker.client.delivery import READ_BYTES, Delivery
from tracker.client.journal import (
    HAS_SECOND_FRAMES,
    HEADER_BYTES,
    SUFFIX,
    VERSION,
    Journal,
    adopt,
    folder,
    header_of,
)
from tracker.client.journal_reader import JournalReader
from tracker.client.uploads import SecondFrames
from tracker.domain.errors import JournalError, RunNotFound, StoreError
from tracker.domain.frames import Batch, RunEnded, RunStarted
from tracker.domain.identity import new_run_name
from tracker.domain.ports import ArtifactHome, Transport
from tracker.domain.vocabulary import DEFAULT_EXPERIMENT
from tracker.wire.frame_codec import JournalHeader

log = logging.getLogger("tracker")

Connect = Callable[[JournalHeader], tuple[Transport, ArtifactHome] | None]
"""Connects to a journal's store; None if it is not to be shipped now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """Result of shipping one journal."""

    path: Path
    run_id: str
    store: str
    points: int
    refused: int = 0
    garbage: int = 0
    files: int = 0
    """How many files could not be stored yet; everything else of the journal is stored."""
    error: str | None = None
    """Why the journal was left where it is; None if everything is stored."""


def ship_run(home: Path, run_id: str, connect: Connect) -> None:
    """Ship the journals that dead processes left of one run, without files, before a new process continues the run.

    Raises StoreError while the store is away.
    """
    for path, header in headers_in(folder(home)):
        if header.run_id == run_id:
            for synced in _sync_one(path, connect, files=False, waits=True):
                log.info("shipped %d points of run %s that an earlier process left", synced.points, run_id)


def sync(home: Path, connect: Connect) -> Iterator[Synced]:
    """Ship every journal below `home` whose owner is dead, one after the other, and yield a result for each.

    Files are shipped after the frames of all journals. A run whose owner died without ending it is ended as `lost`, at
    the time of its last frame. Journals of living owners are not touched; one that cannot be shipped is left as it is.
    """
    paths = _oldest_first(folder(home))
    with_files: list[Path] = []
    for path in paths:
        for synced in _sync_one(path, connect, files=False):
            if synced.files and synced.error is None:
                with_files.append(path)
            else:
                yield synced
    for path in with_files:
        yield from _sync_one(path, connect, files=True)


def _sync_one(path: Path, connect: Connect, *, files: bool, waits: bool = False) -> Iterator[Synced]:
    """Ship one journal; with `waits` StoreError is raised while its store is away."""
    try:
        adopted = adopt(path)
    except (JournalError, OSError) as error:
        log.warning("%s", error)
        yield Synced(path=path, run_id=path.name.split(".")[0], store="", points=0, error=str(error))
        return
    if adopted is None:
        return
    journal, header = adopted
    try:
        if (way := connect(header)) is not None:
            yield _ship(journal, header, *way, files=files)
    except Exception as error:  # any error must not stop the next journals
        if waits and isinstance(error, StoreError):
            raise
        log.warning("journal %s was not shipped and stays where it is: %s", path, error)
        yield Synced(path=path, run_id=header.run_id, store=header.store, points=0, error=str(error))
    finally:
        journal.close()


def headers_in(folder: Path) -> list[tuple[Path, JournalHeader]]:
    """The journals with their headers, sorted by creation; those without a valid header are left out."""
    found: list[tuple[Path, JournalHeader]] = []
    for path in folder.glob(f"*{SUFFIX}"):
        if not path.is_file():  # reading a pipe would never end
            continue
        try:
            with path.open("rb") as file:
                found.append((path, header_of(path, file.read(HEADER_BYTES))[0]))
        except (JournalError, OSError):
            continue
    return sorted(found, key=lambda one: (one[1].created_ms, one[0].name))


def _oldest_first(folder: Path) -> list[Path]:
    """The journals sorted by creation, so that the final status of a continued run comes last."""
    known = [path for path, _ in headers_in(folder)]
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if path.is_file() and path not in known) + known


def _ship(
    journal: Journal, header: JournalHeader, transport: Transport, artifacts: ArtifactHome, *, files: bool
) -> Synced:
    delivery = Delivery(journal, header.run_id, header.writer, transport, artifacts)
    late: str | None = None
    with closing(transport):
        answers = _end_as_lost(journal, header)
        delivery.skip_known(answers, is_earlier=header.version < HAS_SECOND_FRAMES)
        if header.version < VERSION:
            journal.upgrade(header)
        try:
            _deliver_frames(delivery)
        except RunNotFound:
            transport.send(_beginning(header, artifacts))
            _deliver_frames(delivery)
        if files:
            late = _deliver_files(delivery)
        if not delivery.files:
            delivery.finish()
    if late is not None:
        journal.staging.explain(late)
        log.warning(
            "run %s: all is stored but %d files; the journal %s stays where it is: %s",
            header.run_id, delivery.files, journal.path, late,
        )  # fmt: skip
    return Synced(
        path=journal.path,
        run_id=header.run_id,
        store=header.store,
        points=delivery.delivered_points,
        refused=delivery.refused,
        garbage=delivery.garbage,
        files=delivery.files,
        error=late,
    )


def _deliver_frames(delivery: Delivery) -> None:
    while delivery.deliver_frames():
        pass


def _deliver_files(delivery: Delivery) -> str | None:
    """Store the files and their rows; return the reason if one could not be stored."""
    try:
        while delivery.deliver():
            pass
    except StoreError as error:
        return str(error)
    return next(iter(delivery.late.values()), None)


def _beginning(header: JournalHeader, artifacts: ArtifactHome) -> Batch:
    """Replacement for the damaged first frame of a journal, from what the header contains."""
    started = RunStarted(
        ms=header.created_ms,
        experiment=DEFAULT_EXPERIMENT,
        name=new_run_name(header.run_id),
        artifact_uri=artifacts.uri(header.run_id),
        host=header.host,
        pid=header.pid,
    )
    return Batch(run_id=header.run_id, writer=header.writer, first=1, last=1, items=[(1, started)])


def _end_as_lost(journal: Journal, header: JournalHeader) -> SecondFrames:
    """Cut off a torn last write, and end the run as `lost` if its owner died without ending it.

    Returns which of its files are stored.
    """
    answers, has_ended = SecondFrames(), False
    ms = header.created_ms
    reader = JournalReader(journal.fd, journal.start)
    while frames := reader.read(READ_BYTES):
        for number, frame in frames:
            answers.add(number, frame)
            has_ended = has_ended or isinstance(frame, RunEnded)
        ms = max(ms, frames[-1][1].ms)
    journal.last_number = reader.last_number
    if reader.torn():
        journal.cut(reader.left_over())
    if reader.last_number and not has_ended and not journal.append(RunEnded(ms=ms, status="lost")):
        raise JournalError(f"cannot write to {journal.path}: {journal.disk_error}")
    return answers
