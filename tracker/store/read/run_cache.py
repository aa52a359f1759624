"""Cache of encoded runs, valid while the run's version is unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from sqlalchemy import Connection, Row

from tracker.domain.catalogue import RunDetail
from tracker.domain.deadlines import check_deadline
from tracker.store.read.run_details import details_of

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class RunVersion(NamedTuple):
    """The version of a run: every change raises it, except that its experiment is deleted or restored."""

    run_id: str
    version: int
    deleted: bool


class EncodedRuns(Protocol[T_co]):
    """Converts runs, and caches the results by version. Usable from many threads at once."""

    def get(self, of: RunVersion) -> T_co | None:
        """The cached result for this version of the run; None if there is none."""
        ...

    def add(self, of: RunVersion, detail: RunDetail) -> T_co:
        """Convert the run, and cache the result."""
        ...


class Unencoded:
    """Converts and caches nothing: runs are read each time."""

    def get(self, of: RunVersion) -> None:
        return None

    def add(self, of: RunVersion, detail: RunDetail) -> RunDetail:
        return detail


def encoded_rows(connection: Connection, rows: Sequence[Row[Any]], encoded: EncodedRuns[T]) -> list[T]:
    """The results of `encoded` for runs in the order of `rows` (see `details_of`); missing ones are read at once."""
    versions = [RunVersion(row.uid, row.version, row.deleted_ms is not None) for row in rows]
    found = [encoded.get(version) for version in versions]
    missing = [index for index, one in enumerate(found) if one is None]
    if missing:
        for index, detail in zip(missing, details_of(connection, [rows[index] for index in missing]), strict=True):
            check_deadline()
            found[index] = encoded.add(versions[index], detail)
    return found  # type: ignore[return-value]
