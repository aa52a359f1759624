"""Shipping what dead processes left behind."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tracker.client.delivery import READ_BYTES, Delivery
from tracker.client.journal import HEADER_BYTES, SUFFIX, Journal, adopt, folder, header_of
from tracker.client.journal_reader import JournalReader
from tracker.domain.errors import JournalError, RunNotFound
from tracker.domain.frames import Batch, Frame, RunEnded, RunStarted
from tracker.domain.identity import new_run_name
from tracker.domain.ports import ArtifactHome, Transport
from tracker.domain.words import DEFAULT_EXPERIMENT
from tracker.wire.frames import JournalHeader

log = logging.getLogger("tracker")

Connect = Callable[[JournalHeader], tuple[Transport, ArtifactHome] | None]
"""Gives the way to a journal's store; None if it is not one to ship to now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """What became of one journal."""

    path: Path
    run_id: str
    store: str
    points: int
    refused: int = 0
    garbage: int = 0
    error: str | None = None
    """Why it was left as it is; None if everything is stored."""


def sync(home: Path, connect: Connect) -> Iterator[Synced]:
    """Ship every journal below `home` whose owner is dead, one after the other, and yield what became of each.

    A run whose owner died without a word is ended as `lost`, at the time of its last frame. Journals of living owners
    are not touched; one that cannot be shipped is left as it is.
    """
    for path in _oldest_first(folder(home)):
        try:
            adopted = adopt(path)
        except (JournalError, OSError) as error:
            log.warning("%s", error)
            yield Synced(path=path, run_id=path.name.split(".")[0], store="", points=0, error=str(error))
            continue
        if adopted is None:
            continue
        journal, header = adopted
        try:
            if (way := connect(header)) is not None:
                yield _ship(journal, header, *way)
        except Exception as error:  # whatever it is, the next journal has its turn
            log.warning("journal %s was not shipped and stays where it is: %s", path, error)
            yield Synced(path=path, run_id=header.run_id, store=header.store, points=0, error=str(error))
        finally:
            journal.close()


def _oldest_first(folder: Path) -> list[Path]:
    """The journals in the order in which they were begun: of a run that was continued the last word must come last."""

    def begun(path: Path) -> tuple[int, str]:
        try:
            with path.open("rb") as file:
                return header_of(path, file.read(HEADER_BYTES))[0].created_ms, path.name
        except (JournalError, OSError):
            return 0, path.name

    return sorted((path for path in folder.glob(f"*{SUFFIX}") if path.is_file()), key=begun)


def _ship(journal: Journal, header: JournalHeader, transport: Transport, artifacts: ArtifactHome) -> Synced:
    delivery = Delivery(journal, header.run_id, header.writer, transport, artifacts)
    with closing(transport):
        _end_as_lost(journal, header)
        delivery.skip_known()
        try:
            _deliver_all(delivery)
        except RunNotFound:
            transport.send(_beginning(header, artifacts))
            _deliver_all(delivery)
        delivery.finish()
    return Synced(
        path=journal.path,
        run_id=header.run_id,
        store=header.store,
        points=delivery.delivered_points,
        refused=delivery.refused,
        garbage=delivery.garbage,
    )


def _deliver_all(delivery: Delivery) -> None:
    while delivery.deliver():
        pass


def _beginning(header: JournalHeader, artifacts: ArtifactHome) -> Batch:
    """The first frame of a journal in which it is damaged, as far as the header knows what it said."""
    started = RunStarted(
        ms=header.created_ms,
        experiment=DEFAULT_EXPERIMENT,
        name=new_run_name(header.run_id),
        artifact_uri=artifacts.uri(header.run_id),
        host=header.host,
        pid=header.pid,
    )
    return Batch(run_id=header.run_id, writer=header.writer, first=1, last=1, items=[(1, started)])


def _end_as_lost(journal: Journal, header: JournalHeader) -> None:
    """Give a journal whose owner died silently its last word, after cutting off a torn last write."""
    last: Frame | None = None
    ms = header.created_ms
    reader = JournalReader(journal.fd, journal.start)
    while frames := reader.read(READ_BYTES):
        last = frames[-1][1]
        ms = max(ms, last.ms)
    journal.last_number = reader.last_number
    if reader.torn():
        journal.cut(reader.left_over())
    if not reader.last_number:
        return  # it died before it had begun
    if not isinstance(last, RunEnded) and not journal.append(RunEnded(ms=ms, status="lost")):
        raise JournalError(f"cannot write to {journal.path}: {journal.disk_error}")
