"""Checkpoints in SQL: their rows and events, retention, and removal of pruned files.

A file is removed in three steps, so that neither a concurrent writer nor `kill -9` can leave a row without its bytes:
rows become `pruned`; once no published row names their file, it is marked in a transaction that holds the run's lock;
then it is removed. A new row for a marked file is refused, and its writer publishes under another name.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import unquote

from sqlalchemy import Connection, Engine, Row, exists, select, update

from tracker.domain.checkpoint_ranking import BEST_BY
from tracker.domain.errors import CheckpointNotFound, FileRemoved, InvalidValue, TrackerError
from tracker.domain.frames import CheckpointLogged, EventLogged
from tracker.domain.limits import check_key, check_safe_path
from tracker.domain.ports import ArtifactHome, Folders
from tracker.domain.records import Checkpoint, Removed
from tracker.domain.retention import BUDGET, budget_of, unneeded
from tracker.store import addresses
from tracker.store.database.driver_cursor import DriverCursor
from tracker.store.database.json_columns import as_text, json_number
from tracker.store.database.row_writer import write_numbered
from tracker.store.database.typed_rows import Json, from_json, record, typed
from tracker.store.engine import reading, writing
from tracker.store.points.supersession import FitStarts, fit_starts, is_superseded
from tracker.store.tables import CHECKPOINT_SAVED, PENDING, PUBLISHED, checkpoints, runs, series
from tracker.store.write.best_so_far import best_so_far
from tracker.store.write.claimed_run import ClaimedRun

log = logging.getLogger("tracker")

THERE, MARKED, GONE, AGAIN = 0, 1, 2, -1
"""State of a pruned row's file, in the column `removed`; AGAIN: perhaps stored once more since it was marked."""
_JsonFloat = Literal["NaN", "Infinity", "-Infinity"]
"""Floats that JSON has no number for, see `json_number`."""
PLACE = "checkpoints/"
"""Folder of checkpoint files below a run's artifacts; files elsewhere are never removed."""
_REMOVED = "SELECT uri FROM checkpoints WHERE run_id = ? AND sha256 = ? AND removed <> ?"
_PENDING = f"SELECT id FROM checkpoints WHERE run_id = ? AND {PENDING.text} LIMIT 1"
_PUBLISHED_BYTES = f"SELECT sum(size) FROM checkpoints WHERE run_id = ? AND {PUBLISHED.text}"
_NEWEST_STATE = (
    f"SELECT state FROM checkpoints WHERE run_id = ? AND {PUBLISHED.text} AND role = 'model' AND state LIKE ?"
    " ORDER BY ms DESC, id DESC LIMIT 1"
)


def add(
    raw: DriverCursor, run: int, item: CheckpointLogged, metrics: Sequence[str], starts: FitStarts
) -> EventLogged | None:
    """Write the row; return its event, for role `model`. FileRemoved if the file may have been removed.

    `metrics` are the keys that may decide whether it was the best so far, if its writer does not say.
    """
    removed = [uri for (uri,) in raw.rows(_REMOVED, (run, item.sha256, THERE))]
    uri = addresses.of(raw.connection.dialect).stored(item.uri)
    if uri in removed:
        raise FileRemoved(item.uri)
    is_best, metric = bool(item.is_best) and item.role == "model", None
    if item.is_best is None and item.role == "model":
        is_best, metric = best_so_far(raw.connection, run, item, metrics, starts)
    row = {
        "run_id": run,
        "fit": item.fit,
        "epoch": item.epoch,
        "step": item.step,
        "ms": item.ms,
        "format": item.format,
        "size": item.file.size,
        "sha256": item.sha256,
        "metrics": as_text({key: json_number(value) for key, value in item.metrics.items()}),
        "is_best": is_best,
        "state": as_text(item.state),
        "uri": uri,
        "status": "published",
        "role": item.role,
    }
    if removed:  # its writer may have stored the bytes again under a marked name: that file is removed, too
        c = checkpoints.c
        raw.connection.execute(
            update(checkpoints)
            .where(c.run_id == run, c.sha256 == item.sha256, c.removed != THERE)
            .values(removed=AGAIN)
        )
    number = write_numbered(raw, checkpoints, row)
    if item.role != "model":
        return None
    detail = {"checkpoint": number, "is_best": is_best} | {key: row[key] for key in ("format", "size", "sha256")}
    if uri:
        detail["uri"] = uri
    if is_best and metric is not None:
        detail["metric"] = metric
    if isinstance(by := item.state.get(BEST_BY), str):
        detail[BEST_BY] = by
    return EventLogged(item.ms, CHECKPOINT_SAVED, item.epoch, item.step, item.fit, detail)


def bounds_others(item: CheckpointLogged | EventLogged) -> bool:
    """Whether earlier checkpoints may have to be pruned for this one."""
    return isinstance(item, CheckpointLogged) and (item.role == "state" or BUDGET in item.state)


def prune(raw: DriverCursor, run: int, *, last: int | None, best: int | None, metric: str | None) -> int | None:
    """Mark the checkpoints that retention does not keep as pruned; `metric` is the run's current best metric.

    Returns the budget in bytes for which versions of overwritten files were pruned, None if none were.
    """
    c, connection = checkpoints.c, raw.connection
    wanted = select(checkpoints).where(c.run_id == run, PUBLISHED)
    if last is None and best is None and not _may_be_over_budget(raw, run):
        wanted = wanted.where(c.role == "state")
    goal = connection.execute(select(series.c.goal).where(series.c.run_id == run, series.c.key == metric)).scalar()
    there = records(connection, run, connection.execute(wanted.order_by(c.ms, c.id)).all())
    beyond = unneeded(there, last=last, best=best, metric=metric, goal=goal)
    ids = [one.id for one in beyond]
    for begin in range(0, len(ids), 500):
        some = c.id.in_(ids[begin : begin + 500])
        connection.execute(update(checkpoints).where(some).values(status="pruned"))
        # There are very many of these rows, and their state is useless without the file.
        connection.execute(update(checkpoints).where(some, c.role == "state").values(state=as_text({})))
    if last is None and best is None and any(one.role == "model" for one in beyond):
        return budget_of(one for one in there if one.role == "model")
    return None


def _may_be_over_budget(raw: DriverCursor, run: int) -> bool:
    """Whether the run's checkpoints may exceed the budget; a file that several rows share is counted once for each."""
    newest = raw.rows(_NEWEST_STATE, (run, f'%"{BUDGET}":%'))
    budget = next((from_json(state, Json, "checkpoints.state").get(BUDGET) for (state,) in newest), None)
    [(size,)] = raw.rows(_PUBLISHED_BYTES, (run,))
    return type(budget) is int and int(size or 0) > budget


def has_pending(raw: DriverCursor, run: int) -> bool:
    """Whether the run has pruned rows whose files are not removed yet."""
    return bool(raw.rows(_PENDING, (run,)))


def records(connection: Connection, run: int, rows: Sequence[Row[Any]]) -> list[Checkpoint]:
    """The records of rows of the run."""
    starts = fit_starts(connection, run, "epoch")
    places = typed([(row.fit, row.epoch) for row in rows], tuple[int, int], "checkpoints", ("fit", "epoch"))
    return [_record(row, is_superseded(fit, epoch, starts)) for row, (fit, epoch) in zip(rows, places, strict=True)]


def get_checkpoints(connection: Connection, run: int) -> Sequence[Checkpoint]:
    """All checkpoints of the run, oldest first."""
    c = checkpoints.c
    return records(connection, run, connection.execute(_of_run(run).order_by(c.ms, c.id)).all())


def set_tag(raw: DriverCursor, run: ClaimedRun, checkpoint_id: int, tag: str | None) -> None:
    """Tag a checkpoint, or remove its tag, after which retention may prune it. CheckpointNotFound, InvalidValue."""
    c = checkpoints.c
    found = raw.connection.execute(select(c.status).where(c.run_id == run.id, c.id == checkpoint_id)).scalar()
    if found is None:
        raise CheckpointNotFound(run.uid, str(checkpoint_id))
    if tag is not None:
        check_key("tag", tag)
        if found == "pruned":
            raise InvalidValue("checkpoint", f"{checkpoint_id} was pruned, its bytes are gone", limit="published ones")
    raw.connection.execute(update(checkpoints).where(c.id == checkpoint_id).values(tag=tag))
    if tag is None:
        last, best, metric = map(run.now, ("keep_last", "keep_best", "best_metric"))
        prune(raw, run.id, last=last, best=best, metric=metric)


def remove_pruned(engine: Engine, home: ArtifactHome, run_id: str | None = None) -> Removed:
    """Remove the files of pruned checkpoints, of one run or of all, that are in `home` and that no published row names.

    Failures are logged, and the next call tries again.
    """
    c = checkpoints.c
    pending = select(runs.c.id, runs.c.uid).where(exists().where(c.run_id == runs.c.id, PENDING)).order_by(runs.c.uid)
    if run_id is not None:
        pending = pending.where(runs.c.uid == run_id)
    with reading(engine) as connection:
        found = connection.execute(pending).all()
    files = size = 0
    for run in found:
        for uri, bytes_ in _mark(engine, home, run.id, run.uid).items():
            if _remove(home, run.uid, uri):
                files, size = files + 1, size + bytes_
                with writing(engine) as connection:
                    connection.execute(
                        update(checkpoints)
                        .where(c.run_id == run.id, c.uri == uri, c.removed == MARKED)
                        .values(removed=GONE)
                    )
    return Removed(files=files, bytes=size)


def _mark(engine: Engine, home: ArtifactHome, run: int, uid: str) -> Mapping[str, int]:
    """Mark the files of the run that may be removed; return {uri: size}."""
    c, other = checkpoints.c, checkpoints.alias()
    named = exists().where(other.c.run_id == run, other.c.uri == c.uri, other.c.status == "published")
    with writing(engine) as connection:
        connection.execute(select(runs.c.id).where(runs.c.id == run).with_for_update())
        rows = connection.execute(select(c.id, c.uri, c.size).where(c.run_id == run, PENDING, ~named)).all()
        ours = [row for row in rows if _path(home, uid, row.uri) is not None]
        for begin in range(0, len(ours), 500):
            some = c.id.in_([row.id for row in ours[begin : begin + 500]])
            connection.execute(update(checkpoints).where(some).values(removed=MARKED))
    return {row.uri: row.size for row in ours}


def _remove(home: ArtifactHome, uid: str, uri: str) -> bool:
    path = _path(home, uid, uri)
    if path is None or not isinstance(home, Folders):
        return False
    try:
        home.delete(uid, path)
    except TrackerError as error:
        log.warning("the file of a pruned checkpoint stays for now: %s", error)
        return False
    return True


def _path(home: ArtifactHome, uid: str, uri: str) -> str | None:
    """The file's path below the run's artifacts in `home`; None if it is not a checkpoint's file there."""
    if not isinstance(home, Folders):
        return None
    try:
        root = home.uri(uid)
        if not uri.startswith(f"{root}/{PLACE}"):
            return None
        return check_safe_path(unquote(uri[len(root) + 1 :]))
    except InvalidValue:
        return None


def _of_run(run: int) -> Any:
    return select(checkpoints).where(checkpoints.c.run_id == run)


def _record(row: Row[Any], superseded: bool) -> Checkpoint:
    metrics = from_json(row.metrics, dict[str, float | _JsonFloat], "checkpoints.metrics")
    values = {
        "id": row.id,
        "epoch": row.epoch,
        "step": row.step,
        "format": row.format,
        "size": row.size,
        "sha256": row.sha256,
        "metrics": {key: float(value) for key, value in metrics.items()},
        "is_best": row.is_best and not superseded,
        "state": from_json(row.state, Json, "checkpoints.state"),
        "uri": row.uri,
        "fit": row.fit,
        "ms": row.ms,
        "status": row.status,
        "role": row.role,
        "tag": row.tag,
        "superseded": superseded,
    }
    return record(Checkpoint, "checkpoints", values)
