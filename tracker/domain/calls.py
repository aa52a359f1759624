"""Batches of clients without a journal: what one call of MLflow's API logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tracker.domain.frames import Batch, Item, Params, PointsLogged, RunRenamed, StopRequested, Tags


def batch_of_call(
    run_id: str,
    keys: Sequence[str] = (),
    steps: Sequence[int] = (),
    ms: Sequence[int] = (),
    values: Sequence[float] = (),
    *,
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    name: str | None = None,
    stop_ms: int | None = None,
) -> Batch:
    """A batch without a writer and without numbers, stored whole or not at all; see `PointsLogged` for the points.

    A parameter that has another value already refuses the whole batch (ParamConflict). `name` renames the run. With
    `stop_ms` it asks the training to stop, at that time.
    """
    items: list[tuple[int, Item]] = []
    if keys:
        items.append((0, PointsLogged(keys, steps, ms, values)))
    if params:
        items.append((0, Params(0, 0, dict(params))))
    if tags:
        items.append((0, Tags(0, dict(tags))))
    if name is not None:
        items.append((0, RunRenamed(name)))
    if stop_ms is not None:
        items.append((0, StopRequested(stop_ms)))
    return Batch(run_id, "", 0, 0, items)
