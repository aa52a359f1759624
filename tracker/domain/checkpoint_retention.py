"""Which checkpoint is the latest, and which the best."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tracker.domain.goals import Goal
from tracker.domain.records import Checkpoint
from tracker.domain.vocabulary import CheckpointRole

BEST_BY = "best_by"
"""The key in a checkpoint's `state` of the metric by which the callback that saved it held it for the best."""
MID_EPOCH = "mid_epoch"
"""The key in a checkpoint's `state` that is true if it was saved in the middle of its epoch."""
Held = Callable[[Checkpoint], bool]


def latest_of(checkpoints: Iterable[Checkpoint], role: CheckpointRole = "model") -> Checkpoint | None:
    """The newest by time of those whose bytes are there, superseded or not; None if there is none.

    A state of a later fit is newer than those of earlier ones, whatever the clocks of their machines say.
    """
    found = published(checkpoints, role)
    return found[-1] if found else None


def best_of(
    checkpoints: Iterable[Checkpoint], metric: str | None, goal: Goal | None, *, held: Held | None = None
) -> Checkpoint | None:
    """The best by `metric` of those whose bytes are there; None if nothing says which.

    For the run's best give its `best_metric` and the goal of that series: this one and the latest are never pruned.
    `held` as `ranking` says.
    """
    ranked = ranking(checkpoints, metric, goal, held=held)
    return ranked[0] if ranked else None


def ranking(
    checkpoints: Iterable[Checkpoint], metric: str | None, goal: Goal | None, *, held: Held | None = None
) -> Sequence[Checkpoint]:
    """Those that can be the best by `metric`, the best first; superseded ones cannot.

    First come those that have a value of it among their own metrics, of equal values the earlier one first. Then come
    those without, which were held for the best when they were saved (`held`, default: `is_best`), the last first; of
    several that were judged by the same epoch the first one is the nearest to it.
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
    """Whether a callback that monitors `metric` held a checkpoint for the best when it saved it."""
    return lambda one: one.state.get(BEST_BY) == metric


def is_mid_epoch(state: Mapping[str, Any]) -> bool:
    """Whether a checkpoint of this state was saved in the middle of its epoch: the epoch's values are not its own."""
    return state.get(MID_EPOCH) is True


def _was_best(one: Checkpoint) -> bool:
    return one.is_best


def _judged_by(one: Checkpoint) -> tuple[int, int]:
    """The epoch whose values say how good the checkpoint is, and its fit."""
    return one.fit, one.epoch - is_mid_epoch(one.state)


def published(checkpoints: Iterable[Checkpoint], role: CheckpointRole) -> list[Checkpoint]:
    """Those of the role whose bytes are there, the newest last."""

    def age(one: Checkpoint) -> tuple[int, int, int]:
        return one.fit if role == "state" else 0, one.ms, one.id

    return sorted((one for one in checkpoints if one.status == "published" and one.role == role), key=age)
