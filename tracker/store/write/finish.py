"""What follows from all batches of a transaction: a run's best epoch, its checkpoints and their retention."""

from __future__ import annotations

from collections.abc import Sequence

from tracker.domain.frames import EventLogged, PointBlock
from tracker.store.database.driver_cursor import DriverCursor
from tracker.store.write import checkpoints
from tracker.store.write.best_so_far import USUAL, deciding_metrics
from tracker.store.write.claimed_run import ClaimedRun
from tracker.store.write.item_writer import ItemWriter
from tracker.store.write.point_placement import Placing

_BEST = ("best_metric", "best_epoch", "best_value")


def find_best_epoch(run: ClaimedRun, placing: Placing) -> None:
    """Set the best epoch by the monitored metric, declared or a callback's; without one by val_loss, else loss.

    After the weights of an epoch were restored, that epoch is the best until the metric gets new points.
    """
    keys = _monitored(run)
    if run.restored is not None:
        metrics = run.restored.detail.get("metrics") or {}
        key = next((one for one in keys if isinstance(metrics.get(one), (int, float))), None)
        if key is not None:
            found = (key, run.restored.detail.get("epoch"), metrics[key])
            run.changes.update(zip(_BEST, found, strict=True))
            return
    if "monitor" not in run.changes and not placing.has_changed(run, keys):
        return
    best = placing.best(run, keys) or (None, None, None)
    if best != tuple(run.now(column) for column in _BEST):
        run.changes.update(zip(_BEST, best, strict=True))


def forget_restored(run: ClaimedRun, blocks: Sequence[PointBlock]) -> None:
    """Forget the restored weights of an earlier batch if there are new points of the metric."""
    if run.restored is not None and any(key in block.keys for block in blocks for key in _monitored(run)):
        run.restored = None


def write_checkpoints(raw: DriverCursor, run: ClaimedRun, items: ItemWriter) -> None:
    """Write the run's checkpoints and the events after them, and prune what retention does not keep."""
    if not run.late and "keep_last" not in run.changes:
        return
    deciding = deciding_metrics(run.now("monitor"), run.now("monitor_source"))
    for item in run.late:
        event: EventLogged | None
        if isinstance(item, EventLogged):
            event = item
        else:
            event = checkpoints.add(raw, run.id, item, deciding, run.starts(raw.connection, "epoch"))
        if event is not None:
            items.event(run, event)
    last, best = run.now("keep_last"), run.now("keep_best")
    if last or best or "keep_last" in run.changes or any(map(checkpoints.bounds_others, run.late)):
        metric = run.now("best_metric")
        run.over_budget = checkpoints.prune(raw, run.id, last=last, best=best, metric=metric)
    run.has_pruned = checkpoints.has_pending(raw, run.id)


def _monitored(run: ClaimedRun) -> Sequence[str]:
    monitor = run.now("monitor")
    return (monitor,) if monitor else USUAL
