"""Applies unnumbered writes as rows and summaries, many calls at a time, in the caller's transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from tracker.domain.catalogue import Logged
from tracker.domain.errors import InvalidValue, ParamConflict, RunDeleted, RunNotFound
from tracker.domain.frames import Ack
from tracker.store.database.driver_cursor import Raw
from tracker.store.points import rollups
from tracker.store.points.deduplication import write_points
from tracker.store.points.summaries import Summary, new_summary
from tracker.store.read.params import text_number
from tracker.store.write.series_cache import Recall

_STEPS = 2**63
_TIMES = 2**62
"""Times are stored relative to the run's start, so they need some room in 64 bits."""


@dataclass(slots=True, eq=False)
class _Target:
    """A run while a group is applied to it, its row locked."""

    id: int
    uid: str
    version: int
    started_ms: int
    deleted: bool
    stop: bool
    monitor: str | None
    best: tuple[str | None, int | None, float | None]
    series: dict[str, Summary] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    """Stored parameters, of the keys that the group names."""
    new_params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    name: str | None = None
    asks_stop: bool = False
    changed: bool = False


def apply_logged(
    connection: Connection,
    raw: Raw,
    group: Sequence[Logged],
    recall: Recall,
    clock: Callable[[], int],
    *,
    settling: bool = False,
) -> list[Ack | Exception]:
    """Store all of `group` that can be stored; return the answer to each call, in order.

    Errors of single calls (RunNotFound, RunDeleted, ParamConflict, InvalidValue) are found before anything is written,
    so that they do not affect the others. `settling` is for calls that were accepted before: they are stored even if
    their run was deleted since. The transaction must hold the write lock; raises the driver's errors.
    """
    targets = _claim(raw, sorted({one.run_id for one in group}))
    _read_params(raw, group, targets)
    waiting: list[tuple[Summary, int]] = []
    alike: dict[tuple[int, tuple[str, ...]], list[Logged]] = {}
    results: list[Ack | Exception] = []
    for one in group:
        target = targets.get(one.run_id)
        wrong = _refusal(one, target) if target is None or not settling else None
        if wrong is not None or target is None:
            results.append(wrong or RunNotFound(one.run_id))
            continue
        results.append(Ack(last=0, stop=target.stop or one.stop))
        _take_texts(one, target)
        if one.keys:
            if not target.series:
                target.series = recall.series(raw, target.uid, target.id, target.version)
            if settling:
                alike.setdefault((target.id, tuple(one.keys)), []).append(one)
            else:
                _take_points(one, target, waiting)
    for calls in alike.values():
        _take_alike(calls, targets[calls[0].run_id], waiting)
    if waiting:
        _write_points(connection, raw, waiting, targets.values())
    _write_texts(raw, targets.values(), clock)
    _raise_versions(raw, [target for target in targets.values() if target.changed], recall)
    return results


def _claim(raw: Raw, uids: Sequence[str]) -> dict[str, _Target]:
    """Lock the runs that exist, in the order of `uids`."""
    rows = (
        raw.rows(f"{_SELECT_RUN} = ANY(?) ORDER BY r.uid FOR UPDATE OF r", (list(uids),))
        if raw.postgres
        else [row for uid in uids for row in raw.rows(f"{_SELECT_RUN} = ?", (uid,))]
    )
    return {
        row[1]: _Target(
            id=row[0],
            uid=row[1],
            version=row[2],
            started_ms=row[3],
            deleted=row[4] is not None,
            stop=row[5] is not None,
            monitor=row[6],
            best=row[7:10],
        )
        for row in rows
    }


def _read_params(raw: Raw, group: Sequence[Logged], targets: dict[str, _Target]) -> None:
    wanted: dict[str, set[str]] = {}
    for one in group:
        if one.params and one.run_id in targets:
            wanted.setdefault(one.run_id, set()).update(one.params)
    condition = "= ANY(?)" if raw.postgres else "IN (SELECT value FROM json_each(?))"
    for uid, keys in wanted.items():
        target = targets[uid]
        these = list(keys) if raw.postgres else json.dumps(list(keys))
        target.params.update(
            raw.rows(f"SELECT key, text FROM params WHERE run_id = ? AND key {condition}", (target.id, these))
        )


def _refusal(one: Logged, target: _Target | None) -> Exception | None:
    """The error if it cannot be stored, else None."""
    if target is None:
        return RunNotFound(one.run_id)
    if target.deleted:
        return RunDeleted(one.run_id)
    for key, text in one.params.items():
        stands = target.params.get(key, text)
        if stands != text:
            return ParamConflict(one.run_id, key, stands, text)
    return out_of_range(one) if one.keys else None


def out_of_range(one: Logged) -> InvalidValue | None:
    """InvalidValue if a step or a time does not fit its column."""
    if min(one.steps) < -_STEPS or max(one.steps) >= _STEPS:
        return InvalidValue("step", "a step does not fit 64 bits", limit="-2**63 to 2**63 - 1")
    if min(one.ms) < -_TIMES or max(one.ms) >= _TIMES:
        return InvalidValue("timestamp", "a time is too far from now", limit="-2**62 to 2**62 - 1")
    return None


def _take_texts(one: Logged, target: _Target) -> None:
    for key, text in one.params.items():
        if key not in target.params:
            target.params[key] = target.new_params[key] = text
    if one.tags:
        target.tags.update(one.tags)
    if one.name is not None:
        target.name = one.name
    target.asks_stop |= one.stop
    target.changed |= bool(target.new_params or one.tags or one.name is not None or one.stop)


def _take_points(one: Logged, target: _Target, waiting: list[tuple[Summary, int]]) -> None:
    known, started_ms = target.series, target.started_ms
    for key, step, ms, value in zip(one.keys, one.steps, one.ms, one.values, strict=True):
        series = known.get(key) or _new_series(key, target)
        points = series.waiting
        if points is None:
            series.waiting = [(step, ms, value)]
            if series.columns is None:
                waiting.append((series, started_ms))
        else:
            points.append((step, ms, value))


def _new_series(key: str, target: _Target) -> Summary:
    series = target.series[key] = new_summary(target.id, key, "time" if key.startswith("system/") else "step")
    return series


def _take_alike(calls: Sequence[Logged], target: _Target, waiting: list[tuple[Summary, int]]) -> None:
    """`_take_points` for calls of a run with the same keys, a key at a time."""
    keys = calls[0].keys
    if len(calls) == 1 or len(set(keys)) < len(keys):
        for one in calls:
            _take_points(one, target, waiting)
        return
    steps = zip(*(one.steps for one in calls), strict=True)
    ms = zip(*(one.ms for one in calls), strict=True)
    values = zip(*(one.values for one in calls), strict=True)
    for key, *columns in zip(keys, steps, ms, values, strict=True):
        series = target.series.get(key) or _new_series(key, target)
        if series.waiting is None and series.columns is None:
            series.columns = (columns[0], columns[1], columns[2])
            waiting.append((series, target.started_ms))
        else:
            series.waiting = [*(series.waiting or ()), *zip(*columns, strict=True)]


def _write_points(
    connection: Connection, raw: Raw, waiting: Sequence[tuple[Summary, int]], targets: Iterable[_Target]
) -> None:
    changed = write_points(connection, raw, waiting)
    long = [one for one in changed if one.count - one.rolled_count >= rollups.LEAST]
    if long:
        rollups.extend(connection, long)
    runs = {one.run for one in changed}
    epochs = {one.run for one in changed if one.axis == "epoch"}
    for target in targets:
        target.changed |= target.id in runs
        if target.id in epochs:
            _find_best_epoch(raw, target)


def _find_best_epoch(raw: Raw, target: _Target) -> None:
    """Update the best epoch as for journals: a call may log to a series on the axis `epoch` that a journal began."""
    found: tuple[str | None, int | None, float | None] = (None, None, None)
    for key in [target.monitor] if target.monitor else ["val_loss", "loss"]:
        one = target.series.get(key)
        if one is not None and one.axis == "epoch" and one.best is not None:
            found = (key, one.best[1], one.best[0])
            break
    if found != target.best:
        raw.run("UPDATE runs SET best_metric = ?, best_epoch = ?, best_value = ? WHERE id = ?", (*found, target.id))


# -- params, tags, names and stop requests ---------------------------------------------------------------------------


def _write_texts(raw: Raw, targets: Iterable[_Target], clock: Callable[[], int]) -> None:
    new_params: list[tuple[int, str, str, float | None]] = []
    tags: list[tuple[int, str, str]] = []
    for one in targets:
        new_params.extend((one.id, key, text, text_number(text)) for key, text in sorted(one.new_params.items()))
        tags.extend((one.id, key, value) for key, value in sorted(one.tags.items()))
        if one.name is not None:
            raw.run("UPDATE runs SET name = ? WHERE id = ?", (one.name, one.id))
        if one.asks_stop:
            ms = clock()
            raw.run("UPDATE runs SET stop_requested_ms = ? WHERE id = ?", (ms, one.id))
            raw.run(
                "INSERT INTO events (run_id, ms, kind, fit, detail) VALUES (?, ?, 'stop_requested', 0, '{}')",
                (one.id, ms),
            )
    if new_params:
        raw.many("INSERT INTO params (run_id, key, type, text, number) VALUES (?, ?, 'str', ?, ?)", new_params)
    if tags:
        raw.many(
            "INSERT INTO tags (run_id, key, value) VALUES (?, ?, ?)"
            " ON CONFLICT (run_id, key) DO UPDATE SET value = excluded.value",
            tags,
        )


def _raise_versions(raw: Raw, changed: Sequence[_Target], recall: Recall) -> None:
    if changed:
        if raw.postgres:
            raw.run("UPDATE runs SET version = version + 1 WHERE id = ANY(?)", ([one.id for one in changed],))
        else:
            raw.many("UPDATE runs SET version = version + 1 WHERE id = ?", [(one.id,) for one in changed])
        for one in changed:
            recall.raised(one.uid, one.id, one.version + 1)


_SELECT_RUN = (
    "SELECT r.id, r.uid, r.version, r.started_ms, coalesce(r.deleted_ms, e.deleted_ms), r.stop_requested_ms, r.monitor,"
    " r.best_metric, r.best_epoch, r.best_value FROM runs AS r JOIN experiments AS e ON e.id = r.experiment_id"
    " WHERE r.uid"
)
