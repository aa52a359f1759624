"""Pending journals in TRACKER_HOME, and who will ship them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tracker.client.journal import HEADER_BYTES, REFUSED, SUFFIX, adopt, folder, header_of
from tracker.client.staging import left_in
from tracker.domain.errors import JournalError

State = Literal["live", "dead", "refused", "unreadable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingJournal:
    """A journal file and its state.

    `live`: its process runs and ships it. `dead`: `tracker sync` will. `refused`: kept because the store refused some
    of it, or some was damaged. `unreadable`: no journal, or it cannot be opened; `problem` says why. `files`, of
    `files_size` bytes, are next to it; `why` says what delays them, if that is known.
    """

    path: Path
    state: State
    size: int
    run_id: str
    store: str = ""
    pid: int = 0
    host: str = ""
    problem: str = ""
    files: int = 0
    files_size: int = 0
    why: str = ""


def waiting_journals(home: Path) -> Iterator[WaitingJournal]:
    """All journals below `home`, by name. None of them is changed."""
    for path in sorted(folder(home).glob(f"*{SUFFIX}*")):
        if path.name.endswith((SUFFIX, SUFFIX + REFUSED)) and path.is_file():
            try:
                yield _inspected(path)
            except FileNotFoundError:
                continue  # its process finished meanwhile
            except (JournalError, OSError) as error:
                run_id = path.name.partition(".")[0]
                yield WaitingJournal(path=path, state="unreadable", size=0, run_id=run_id, problem=str(error))


def _inspected(path: Path) -> WaitingJournal:
    with path.open("rb") as file:
        header, _ = header_of(path, file.read(HEADER_BYTES))
        size = file.seek(0, 2)
    state: State = "refused" if path.name.endswith(REFUSED) else "live"
    if state == "live" and (adopted := adopt(path)) is not None:
        adopted[0].close()
        state = "dead"
    files, files_size, why = left_in(path.with_suffix(".files"))
    return WaitingJournal(
        path=path, state=state, size=size, run_id=header.run_id, store=header.store, pid=header.pid, host=header.host,
        files=files, files_size=files_size, why=why,
    )  # fmt: skip
