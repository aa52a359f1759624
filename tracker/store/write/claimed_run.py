"""Runs that a transaction has locked: claiming and creating them, and the changes of their rows, written once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from sqlalchemy import Connection, select, update

from tracker.domain.errors import RunDeleted, RunNotFound
from tracker.domain.frames import Batch, CheckpointLogged, EventLogged, RunStarted
from tracker.domain.goals import GoalSource
from tracker.domain.vocabulary import Axis, RunStatus
from tracker.store.database.dialect import add, upsert
from tracker.store.database.driver_cursor import DriverCursor, driver_errors
from tracker.store.database.typed_rows import typed
from tracker.store.points.summaries import Summary
from tracker.store.points.supersession import FitStarts, fit_starts
from tracker.store.tables import experiments, runs
from tracker.store.write.series_cache import SeriesLoader

_OF_CALLS = (
    "id", "uid", "version", "started_ms", "stop_requested_ms", "monitor", "best_metric", "best_epoch", "best_value",
)  # fmt: skip
"""The columns that batches of clients without a journal need."""
_COLUMNS = (
    *_OF_CALLS, "experiment_id", "ended_ms", "alive_ms", "opened_ms", "spent_ms", "status", "writer", "monitor_source",
    "keep_last", "keep_best",
)  # fmt: skip
_OF_CALLS_TYPES: Any = tuple[
    int, str, int, int, int | None, str | None, str | None, int | None, float | None, int | None,
]  # fmt: skip
_TYPES: Any = tuple[
    int, str, int, int, int | None, str | None, str | None, int | None, float | None,
    int, int | None, int, int | None, int, RunStatus, str, GoalSource | None, int | None, int | None, int | None,
]  # fmt: skip
"""The columns' types, then that of `deleted_ms`."""
_PLACES = {name: place for place, name in enumerate(_COLUMNS)}


def _select(columns: Sequence[str]) -> str:
    listed = ", ".join(f"r.{name}" for name in columns)
    deleted = "coalesce(r.deleted_ms, e.deleted_ms)"
    return f"SELECT {listed}, {deleted} FROM runs AS r JOIN experiments AS e ON e.id = r.experiment_id WHERE r.uid"


_SELECT, _SELECT_OF_CALLS = _select(_COLUMNS), _select(_OF_CALLS)
_LAST = "SELECT last_number FROM journals WHERE run_id = ? AND writer = ?"
_PARAMS = "SELECT key, type, text FROM params WHERE run_id = ? AND key"


class ClaimedRun:
    """A run while a group of batches is applied to it, its row locked."""

    __slots__ = (
        "_last", "_row", "_starts", "changes", "has_pruned", "id", "is_changed", "is_deleted", "is_new", "late",
        "over_budget", "params", "restored", "series", "started_ms", "uid", "version",
    )  # fmt: skip

    def __init__(self, row: Sequence[Any]) -> None:
        self._row = row
        self.id: int = row[0]
        self.uid: str = row[1]
        self.version: int = row[2]
        self.started_ms: int = row[3]
        self.is_deleted = row[-1] is not None
        self.is_new = False
        """Whether this transaction created it, and has not applied its first frame yet."""
        self.changes: dict[str, Any] = {}
        """Columns of its row to change."""
        self.is_changed = False
        """Whether its version must rise."""
        self.series: dict[str, Summary] | None = None
        self.params: dict[str, tuple[str, str]] = {}
        """Type and text of its parameters, of the keys that the group names."""
        self.late: list[CheckpointLogged | EventLogged] = []
        """Checkpoints, and the events after them: events of the same millisecond must keep their order."""
        self.restored: EventLogged | None = None
        """The last event `weights_restored`, if its fit is still the newest."""
        self.has_pruned = False
        """Whether it has pruned checkpoints whose files are not removed yet."""
        self.over_budget: int | None = None
        """The budget in bytes for which versions of checkpoints were pruned."""
        self._last: dict[str, int] = {}
        self._starts: dict[Axis, FitStarts] = {}

    def now(self, column: str) -> Any:
        """The column's value after the changes so far."""
        return self.changes[column] if column in self.changes else self._row[_PLACES[column]]

    def load_series(self, raw: DriverCursor, loader: SeriesLoader) -> dict[str, Summary]:
        """Its series by key, to be changed in place."""
        if self.series is None:
            self.series = loader.series(raw, self.uid, self.id, self.version)
        return self.series

    def last_number(self, raw: DriverCursor, writer: str) -> int:
        """The last frame of the writer's journal that was applied."""
        if writer not in self._last:
            found = [] if self.is_new else raw.rows(_LAST, (self.id, writer))
            self._last[writer] = found[0][0] if found else 0
        return self._last[writer]

    def set_last_number(self, writer: str, number: int) -> None:
        self._last[writer] = number

    def starts(self, connection: Connection, axis: Axis) -> FitStarts:
        """Where its fits begin on `axis`."""
        if axis not in self._starts:
            self._starts[axis] = fit_starts(connection, self.id, axis)
        return self._starts[axis]

    def forget_starts(self) -> None:
        """Read `starts` again, because a fit was added."""
        self._starts.clear()

    def load_params(self, raw: DriverCursor, keys: Iterable[str]) -> None:
        """Read which of the keys have a value."""
        condition = "= ANY(?)" if raw.postgres else "IN (SELECT value FROM json_each(?))"
        listed = list(keys) if raw.postgres else json.dumps(list(keys))
        for key, type_, text in raw.rows(f"{_PARAMS} {condition}", (self.id, listed)):
            self.params[key] = (type_, text)


def claim(
    raw: DriverCursor, uids: Iterable[str], *, calls_only: bool = False, lock: bool = True
) -> dict[str, ClaimedRun]:
    """The runs that exist, locked in the order of their ids, so that no two transactions wait for each other.

    With `calls_only` they have only what batches of clients without a journal need.
    """
    statement = _SELECT_OF_CALLS if calls_only else _SELECT
    ordered = sorted(set(uids))
    if raw.postgres:
        rows = raw.rows(f"{statement} = ANY(?) ORDER BY r.uid{' FOR UPDATE OF r' if lock else ''}", (ordered,))
    else:
        rows = [row for uid in ordered for row in raw.rows(f"{statement} = ?", (uid,))]
    kind, columns = (_OF_CALLS_TYPES, _OF_CALLS) if calls_only else (_TYPES, _COLUMNS)
    return {row[1]: ClaimedRun(row) for row in typed(rows, kind, "runs", (*columns, "deleted_ms"))}


def create_missing(raw: DriverCursor, group: Sequence[Batch], claimed: dict[str, ClaimedRun], now_ms: int) -> None:
    """Create the runs that batches of `group` start and that do not exist, and claim them."""
    starts: dict[str, tuple[Batch, RunStarted]] = {}
    for batch in group:
        if batch.run_id not in claimed and not batch.after and (started := start_of(batch)) is not None:
            starts.setdefault(batch.run_id, (batch, started))
    if not starts:
        return
    # In order, like claims.
    first = {started.experiment: started.ms for _, started in reversed(starts.values())}
    ids = {name: experiment_id(raw.connection, name, ms) for name, ms in sorted(first.items())}
    created = {
        uid
        for uid, (batch, started) in sorted(starts.items())
        if create_run(
            raw.connection,
            uid,
            ids[started.experiment],
            name=started.name,
            started_ms=started.ms,
            alive_ms=started.ms,
            writer=batch.writer,
            artifact_uri=started.artifact_uri,
            version=now_ms,
        )
    }
    for uid, run in claim(raw, starts).items():
        run.is_new = uid in created
        claimed[uid] = run


def start_of(batch: Batch) -> RunStarted | None:
    """The frame with which the batch opens its run, if it does."""
    return next((item for _, item in batch.items if type(item) is RunStarted), None)


def create_run(
    connection: Connection,
    uid: str,
    experiment_id: int,
    *,
    name: str,
    started_ms: int,
    alive_ms: int,
    writer: str,
    artifact_uri: str,
    version: int,
) -> bool:
    """Create a running run; return False if there is one with this id. `writer` is empty for a run without a lease.

    `version` is the time: a run that is removed and created again must not reuse one, because caches compare versions.
    """
    row = {
        "uid": uid,
        "experiment_id": experiment_id,
        "name": name,
        "status": "running",
        "started_ms": started_ms,
        "alive_ms": alive_ms,
        "writer": writer,
        "artifact_uri": artifact_uri,
        "version": version,
    }
    return add(connection, runs, ("uid",), row)


def experiment_id(connection: Connection, name: str, ms: int) -> int:
    """The id of the experiment, which is created if it is missing and restored if it was deleted."""
    by_name = select(experiments.c.id, experiments.c.deleted_ms).where(experiments.c.name == name)
    found = connection.execute(by_name).one_or_none()
    if found is None:
        connection.execute(upsert(connection, experiments, ("name",), ()), {"name": name, "created_ms": ms})
        found = connection.execute(by_name).one()
    if found.deleted_ms is not None:
        connection.execute(update(experiments).where(experiments.c.id == found.id).values(deleted_ms=None))
    return int(found.id)


@contextmanager
def changing(
    connection: Connection, run_id: str, *, even_deleted: bool = False
) -> Iterator[tuple[DriverCursor, ClaimedRun]]:
    """Claim one run for changes in the `with` block. RunNotFound; RunDeleted if it, or its experiment, is deleted."""
    with driver_errors(connection, "a run"):
        raw = DriverCursor(connection)
        run = claim(raw, [run_id]).get(run_id)
        if run is None:
            raise RunNotFound(run_id)
        if run.is_deleted and not even_deleted:
            raise RunDeleted(run_id)
        yield raw, run
        run.is_changed = True
        write_rows(raw, [run])


def write_rows(raw: DriverCursor, claimed: Iterable[ClaimedRun], loader: SeriesLoader | None = None) -> None:
    """Write the changes of the runs' rows, and raise the versions of the runs that changed."""
    by_columns: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
    for run in claimed:
        if run.is_changed:
            run.changes["version"] = run.version + 1
        if run.is_changed and loader is not None:
            loader.raised(run.uid, run.id, run.version + 1)
        if run.changes:
            by_columns.setdefault(tuple(run.changes), []).append((*run.changes.values(), run.id))
    for columns, rows in by_columns.items():
        if columns == ("version",) and raw.postgres:
            raw.run("UPDATE runs SET version = version + 1 WHERE id = ANY(?)", ([row[-1] for row in rows],))
        elif len(rows) == 1:
            raw.run(_update(columns), rows[0])
        else:
            raw.many(_update(columns), rows)


@cache
def _update(columns: tuple[str, ...]) -> str:
    return f"UPDATE runs SET {', '.join(f'{name} = ?' for name in columns)} WHERE id = ?"
