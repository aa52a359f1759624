"""Finds the latest and the best checkpoint of a run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tracker.domain.goals import Goal
from tracker.domain.records import Checkpoint
from tracker.domain.vocabulary import CheckpointRole

BEST_BY = "best_by"
"""Key in a checkpoint's `state`: the metric by which the callback that saved it considered it the best."""
MID_EPOCH = "mid_epoch"
"""Key in a checkpoint's `state`: true if it was saved in the middle of its epoch."""
Held = Callable[[Checkpoint], bool]


def latest_of(checkpoints: Iterable[Checkpoint], role: CheckpointRole = "model") -> Checkpoint | None:
    """The newest published checkpoint of the role by time, superseded or not; None if there is none.

    A state checkpoint of a later fit is newer than those of earlier fits, whatever the machines' clocks say.
    """
    found = published(checkpoints, role)
    return found[-1] if found else None


def best_of(
    checkpoints: Iterable[Checkpoint], metric: str | None, goal: Goal | None, *, held: Held | None = None
) -> Checkpoint | None:
    """The best published checkpoint by `metric`; None if that cannot be decided.

    For the run's best give its `best_metric` and the goal of that series: this one and the latest are never pruned. For
    `held` see `ranking`.
    """
    ranked = ranking(checkpoints, metric, goal, held=held)
    return ranked[0] if ranked else None


def ranking(
    checkpoints: Iterable[Checkpoint], metric: str | None, goal: Goal | None, *, held: Held | None = None
) -> Sequence[Checkpoint]:
    """The candidates for the best by `metric`, the best first, without superseded ones.

    First come those with a value in their own metrics, of equal values the earlier one first. Then come those without
    that were considered the best when they were saved (`held`, default: `is_best`), the last first; of several that
    were judged by the same epoch, the first one is the nearest to it.
    """
    sign = {"min": 1.0, "max": -1.0}.get(goal or "", 0.0)

    def value(one: Checkpoint) -> float:
        return sign * one.metrics.get(metric or "", math.nan) if sign else math.nan

    able = [one for one in published(checkpoints, "model") if not one.superseded]
    valued = sorted((one for one in able if not math.isnan(value(one))), key=value)
    flagged = [one for one in able if math.isnan(value(one)) and (held or _was_best)(one)]
    judged = [list(some) for _, some in itertools.groupby(flagged, _judged_by)]
    return [*valued, *itertools.chain.from_iterable(reversed(judged))]


def is_best_by(metric: str) -> Held:
    """A function that tells whether the callback that saved a checkpoint considered it the best by `metric`."""
    return lambda one: one.state.get(BEST_BY) == metric


def is_mid_epoch(state: Mapping[str, Any]) -> bool:
    """Whether a checkpoint of this state was saved in the middle of its epoch, whose values are not its own then."""
    return state.get(MID_EPOCH) is True


def _was_best(one: Checkpoint) -> bool:
    return one.is_best


def _judged_by(one: Checkpoint) -> tuple[int, int]:
    """The epoch whose values say how good the checkpoint is, and its fit."""
    return one.fit, one.epoch - is_mid_epoch(one.state)


def published(checkpoints: Iterable[Checkpoint], role: CheckpointRole) -> list[Checkpoint]:
    """The published checkpoints of the role, the newest last."""

    def age(one: Checkpoint) -> tuple[int, int, int]:
        return one.fit if role == "state" else 0, one.ms, one.id

    return sorted((one for one in checkpoints if one.status == "published" and one.role == role), key=age)
