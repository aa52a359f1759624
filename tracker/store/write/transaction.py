"""The write path: a group of batches becomes rows in one transaction, each of them whole or not at all.

Claim the runs → check each batch → apply its items, place its points → write summaries, the best epoch, checkpoints,
rows. Batches of journals and those of clients without one differ in how their points are placed (`numbered_points`,
`deduplication`), and in nothing else. Batches of journals come first.

A group is applied as a whole. If the database refuses a value of it, the transaction is rolled back, and the batches
are applied one by one, each in a savepoint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import DataError, IntegrityError

from tracker.domain.errors import (
    InvalidValue,
    ParamConflict,
    RunDeleted,
    RunNotFound,
    StoreRestored,
    StoreUnavailable,
    TrackerError,
)
from tracker.domain.frames import (
    Ack,
    Batch,
    CheckpointLogged,
    CheckpointsKept,
    FitStarted,
    Params,
    PointBlock,
    PointsLogged,
)
from tracker.store.database.driver_cursor import DriverCursor, driver_errors
from tracker.store.database.row_writer import RowBuffer
from tracker.store.database.time_limits import waited_for_lock
from tracker.store.engine import driver_transaction
from tracker.store.points.sealing import Sealing
from tracker.store.tables import journals
from tracker.store.write import finish
from tracker.store.write.claimed_run import ClaimedRun, claim, create_missing, start_of, write_rows
from tracker.store.write.item_writer import ItemWriter
from tracker.store.write.point_placement import Placing
from tracker.store.write.series_cache import SeriesCache, SeriesLoader

REFUSALS = (DataError, IntegrityError, OverflowError, UnicodeError, TrackerError)
"""Errors of a batch, not of the store."""
_BRIEFLY_S = 0.1
"""How long to wait for the lock of a run once a group has waited for one in vain."""
_STEPS = 2**63
_TIMES = 2**62
"""Times are stored relative to the run's start, so they need some room in 64 bits."""


@dataclass(frozen=True, slots=True)
class WriteState:
    """What the write path of one store has from one transaction to the next."""

    cache: SeriesCache
    clock: Callable[[], int]
    """The time in ms since the epoch."""
    sealing: Sealing


def append_group(
    engine: Engine, group: Sequence[Batch], state: WriteState, *, even_deleted: bool = False
) -> list[Ack | Exception]:
    """Apply the batches; return, once all is committed, what `append` would return or raise for each."""
    loader = SeriesLoader(state.cache)
    try:
        with driver_transaction(engine) as raw:
            results = apply(raw, group, loader, state, even_deleted=even_deleted)
    except StoreUnavailable as error:
        if len(group) == 1 or not _is_lock(error):
            raise
        return _append_separately(engine, group, state, even_deleted=even_deleted)
    except REFUSALS as error:
        if len(group) == 1:
            return [_refusal(group[0], error)]
        loader = SeriesLoader(state.cache)
        with driver_transaction(engine) as raw:
            results = apply_each(raw, group, loader, state, even_deleted=even_deleted)
    loader.keep()
    return results


def _append_separately(
    engine: Engine, group: Sequence[Batch], state: WriteState, *, even_deleted: bool
) -> list[Ack | Exception]:
    """`append_group` while another connection holds the lock of a run: only batches of that run fail.

    Each batch has a transaction of its own, which hardly waits, since the group has waited already.
    """
    results: list[Ack | Exception] = [Ack(last=0)] * len(group)
    locked: dict[str, StoreUnavailable] = {}
    for index in _in_order(group):
        batch = group[index]
        if batch.run_id in locked:
            results[index] = locked[batch.run_id]
            continue
        loader = SeriesLoader(state.cache)
        try:
            with driver_transaction(engine, _BRIEFLY_S) as raw:
                (results[index],) = apply(raw, [batch], loader, state, even_deleted=even_deleted)
        except StoreUnavailable as error:
            if not _is_lock(error):
                raise
            results[index] = locked[batch.run_id] = error
        except REFUSALS as error:
            results[index] = _refusal(batch, error)
        else:
            loader.keep()
    return results


def _is_lock(error: StoreUnavailable) -> bool:
    """Whether another connection held a lock for too long."""
    return waited_for_lock(getattr(error.__cause__, "orig", None))


def apply_each(
    raw: DriverCursor, group: Sequence[Batch], loader: SeriesLoader, state: WriteState, *, even_deleted: bool = False
) -> list[Ack | Exception]:
    """`apply` for batches of which the database refuses some: those fail alone."""
    # Locked in order, whatever the order of the batches.
    claim(raw, {batch.run_id for batch in group})
    results: list[Ack | Exception] = [Ack(last=0)] * len(group)
    for index in _in_order(group):
        batch = group[index]
        try:
            with driver_errors(raw.connection, "a batch"):
                raw.run("SAVEPOINT batch")
                (results[index],) = apply(raw, [batch], loader, state, even_deleted=even_deleted)
                raw.run("RELEASE SAVEPOINT batch")
        except REFUSALS as error:
            raw.run("ROLLBACK TO SAVEPOINT batch")
            loader.drop(batch.run_id)
            results[index] = _refusal(batch, error)
    return results


def apply(
    raw: DriverCursor, group: Sequence[Batch], loader: SeriesLoader, state: WriteState, *, even_deleted: bool = False
) -> list[Ack | Exception]:
    """Store what can be stored of `group`; return the answer to each batch, in order.

    Errors that can be known before anything is written are answers, so that they do not affect other batches. With
    `even_deleted`, calls to deleted runs are stored too. The transaction must hold the write lock. Raises the driver's
    errors, and InvalidValue or FileRemoved if a single batch cannot be stored.
    """
    now_ms = state.clock()
    claimed = claim(raw, {batch.run_id for batch in group}, calls_only=not any(batch.writer for batch in group))
    create_missing(raw, group, claimed, now_ms)
    _load_params(raw, group, claimed)
    rows = RowBuffer()
    placing = Placing(raw, loader, state.sealing)
    items = ItemWriter(raw, rows, placing.define, now_ms)
    results: list[Ack | Exception] = [Ack(last=0)] * len(group)
    accepted: list[tuple[int, int, ClaimedRun]] = []
    for index in _in_order(group):
        batch = group[index]
        run = claimed.get(batch.run_id)
        error = check(raw, batch, run, even_deleted=even_deleted)
        if run is None or error is not None:
            results[index] = error or RunNotFound(batch.run_id)
            continue
        if batch.writer:
            _take_frames(raw, batch, run, items, placing, rows)
        else:
            _take_call(batch, run, items, placing)
        accepted.append((index, run.last_number(raw, batch.writer) if batch.writer else 0, run))
    placing.finish()
    changed_runs = list({run.id: run for _, _, run in accepted}.values())
    for run in changed_runs:
        if run.changes.get("status", "running") != "running":
            placing.seal_ended(run)
        finish.find_best_epoch(run, placing)
        finish.write_checkpoints(raw, run, items)
    rows.flush(raw)
    write_rows(raw, changed_runs, loader)
    for index, last, run in accepted:
        results[index] = _answer(group[index], last, run)
    return results


def check(
    raw: DriverCursor, batch: Batch, run: ClaimedRun | None, *, even_deleted: bool = False
) -> TrackerError | None:
    """The error if the batch cannot be stored, as far as it can be known without writing."""
    if run is None:
        started = start_of(batch) if batch.after else None
        return RunNotFound(batch.run_id) if started is None else StoreRestored(batch.run_id, 0, batch.after)
    if batch.writer:
        if run.is_new and start_of(batch) is None:
            return RunNotFound(batch.run_id)
        if batch.after > (last := run.last_number(raw, batch.writer)):
            return StoreRestored(batch.run_id, last, batch.after)
        return None
    if run.is_deleted and not even_deleted:
        return RunDeleted(batch.run_id)
    for _, item in batch.items:
        if type(item) is Params:
            for key, text in item.values.items():
                known = run.params.get(key)
                if known is not None and known[1] != text:
                    return ParamConflict(batch.run_id, key, known[1], text)
        elif type(item) is PointsLogged and (error := _out_of_range(item)) is not None:
            return error
    return None


def _out_of_range(logged: PointsLogged) -> InvalidValue | None:
    """InvalidValue if a step or a time does not fit its column."""
    if min(logged.steps) < -_STEPS or max(logged.steps) >= _STEPS:
        return InvalidValue("step", "a step does not fit 64 bits", limit="-2**63 to 2**63 - 1")
    if min(logged.ms) < -_TIMES or max(logged.ms) >= _TIMES:
        return InvalidValue("timestamp", "a time is too far from now", limit="-2**62 to 2**62 - 1")
    return None


def _take_frames(
    raw: DriverCursor, batch: Batch, run: ClaimedRun, items: ItemWriter, placing: Placing, rows: RowBuffer
) -> None:
    """Apply the frames of the batch that were not applied before, and renew the run's lease."""
    last = run.last_number(raw, batch.writer)
    if batch.last > last:
        blocks = [part for block in batch.blocks if (part := _unseen(block, last)) is not None]
        finish.forget_restored(run, blocks)
        for number, item in batch.items:
            if number <= last:
                continue
            if type(item) is FitStarted:
                # Points of earlier fits must be stored before a new fit supersedes some of them.
                placing.take(run, [block for block in blocks if block.numbers[0] < number])
                blocks = [block for block in blocks if block.numbers[0] > number]
                placing.store()
                items.apply(run, batch.writer, item)
                placing.supersede(run, item)
            else:
                items.apply(run, batch.writer, item)
        placing.take(run, blocks)
        run.is_changed = True
        run.set_last_number(batch.writer, batch.last)
        row = {"run_id": run.id, "writer": batch.writer, "last_number": batch.last}
        rows.add(journals, row, ("run_id", "writer"), ("last_number",))
    items.renew(run, batch.writer)


def _take_call(batch: Batch, run: ClaimedRun, items: ItemWriter, placing: Placing) -> None:
    calls = []
    for _, item in batch.items:
        if type(item) is PointsLogged:
            calls.append(item)
        else:
            items.apply(run, "", item)
    if len(calls) == 1:
        placing.take_call(run, calls[0])
    elif calls:
        placing.take_calls(run, calls)


def _answer(batch: Batch, last: int, run: ClaimedRun) -> Ack:
    stop = run.now("stop_requested_ms") is not None
    if not any(type(item) in (CheckpointLogged, CheckpointsKept) for _, item in batch.items):
        return Ack(last, stop)
    return Ack(last, stop, run.has_pruned, run.over_budget)


def _in_order(group: Sequence[Batch]) -> list[int]:
    """Batches of journals first."""
    if len(group) == 1:
        return [0]
    return sorted(range(len(group)), key=lambda index: not group[index].writer)


def _load_params(raw: DriverCursor, group: Sequence[Batch], claimed: dict[str, ClaimedRun]) -> None:
    wanted: dict[str, set[str]] = {}
    for batch in group:
        for _, item in batch.items:
            if type(item) is Params and item.values:
                wanted.setdefault(batch.run_id, set()).update(item.values)
    for uid, keys in wanted.items():
        if uid in claimed:
            claimed[uid].load_params(raw, keys)


def _unseen(block: PointBlock, last: int) -> PointBlock | None:
    """The rows of `block` whose frames were not applied before; None if there are none."""
    if block.numbers[0] > last:
        return block
    keep = [row for row, number in enumerate(block.numbers) if number > last]
    if not keep:
        return None
    return PointBlock(
        axis=block.axis,
        fit=block.fit,
        keys=block.keys,
        numbers=[block.numbers[row] for row in keep],
        steps=[block.steps[row] for row in keep],
        ms=[block.ms[row] for row in keep],
        values=[[column[row] for row in keep] for column in block.values],
    )


def _refusal(batch: Batch, error: Any) -> Exception:
    if isinstance(error, TrackerError):
        return error
    what = f"frames {batch.first} to {batch.last}" if batch.writer else "what is logged"
    refusal = InvalidValue(what, f"cannot be stored: {getattr(error, 'orig', error)}")
    refusal.__cause__ = error
    return refusal
