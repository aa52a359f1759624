"""Shipping what dead processes left behind."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tracker.client.delivery import Delivery
from tracker.client.journal import SUFFIX, Journal, adopt, folder
from tracker.client.journal_reader import JournalReader
from tracker.domain.errors import JournalError
from tracker.domain.frames import Frame, RunEnded
from tracker.domain.ports import ArtifactHome, Transport
from tracker.wire import JournalHeader

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
    for path in sorted(folder(home).glob(f"*{SUFFIX}")):
        try:
            adopted = adopt(path)
        except JournalError as error:
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


def _ship(journal: Journal, header: JournalHeader, transport: Transport, artifacts: ArtifactHome) -> Synced:
    delivery = Delivery(journal, header.run_id, header.writer, transport, artifacts)
    with closing(transport):
        _end_as_lost(journal, header)
        delivery.skip_known()
        while delivery.deliver():
            pass
    journal.finish(keep=bool(delivery.refused or delivery.garbage))
    return Synced(
        path=journal.path,
        run_id=header.run_id,
        store=header.store,
        points=delivery.delivered_points,
        refused=delivery.refused,
        garbage=delivery.garbage,
    )


def _end_as_lost(journal: Journal, header: JournalHeader) -> None:
    """Give a journal whose owner died silently its last word, after cutting off a torn last write."""
    last: Frame | None = None
    ms = header.created_ms
    reader = JournalReader(journal.fd, journal.start)
    while frames := reader.read(256 * 1024):
        last = frames[-1][1]
        ms = max(ms, last.ms)
    journal.last_number = reader.last_number
    journal.cut(reader.torn_bytes())
    if not isinstance(last, RunEnded):
        journal.append(RunEnded(ms=ms, status="lost"))
