"""What readers made of runs before, used again as long as the runs stand as they did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from sqlalchemy import Connection, Row

from tracker.domain.catalogue import RunDetail
from tracker.domain.deadlines import check_deadline
from tracker.store.run_details import details_of

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class RunVersion(NamedTuple):
    """How a run stands: every change of it raises `version`, but for that its experiment is deleted or restored."""

    run_id: str
    version: int
    deleted: bool


class Shown(Protocol[T_co]):
    """What is made of runs, by how they stand. Usable from many threads at once."""

    def get(self, of: RunVersion) -> T_co | None:
        """What was made of the run as it stands, if it is still there."""
        ...

    def add(self, of: RunVersion, detail: RunDetail) -> T_co:
        """Make it, and keep it."""
        ...


class AsRead:
    """Runs as they are read, every time."""

    def get(self, of: RunVersion) -> None:
        return None

    def add(self, of: RunVersion, detail: RunDetail) -> RunDetail:
        return detail


def shown_rows(connection: Connection, rows: Sequence[Row[Any]], shown: Shown[T]) -> list[T]:
    """What `shown` makes of runs in the order of `rows` (see `details_of`); what it does not have is read at once."""
    versions = [RunVersion(row.uid, row.version, row.deleted_ms is not None) for row in rows]
    found = [shown.get(version) for version in versions]
    missing = [index for index, one in enumerate(found) if one is None]
    if missing:
        for index, detail in zip(missing, details_of(connection, [rows[index] for index in missing]), strict=True):
            check_deadline()
            found[index] = shown.add(versions[index], detail)
    return found  # type: ignore[return-value]
