"""Which checkpoint is the latest, which the best, and which are kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from tracker.domain.goals import Goal
from tracker.domain.records import Checkpoint
from tracker.domain.words import CheckpointRole


def latest_of(checkpoints: Iterable[Checkpoint], role: CheckpointRole = "model") -> Checkpoint | None:
    """The newest by time of those whose bytes are there, superseded or not; None if there is none.

    A state of a later fit is newer than those of earlier ones, whatever the clocks of their machines say.
    """
    found = _published(checkpoints, role)
    return found[-1] if found else None


def best_of(checkpoints: Iterable[Checkpoint], metric: str | None, goal: Goal | None) -> Checkpoint | None:
    """The best of those whose bytes are there: it and the latest are never pruned. None if nothing says which.

    `metric` is the run's `best_metric` and `goal` that of its series. Of the checkpoints' own values of it the best
    counts, of equal ones the first. If none has one it is the last that was the best so far. Superseded ones do not
    count.
    """
    ranked = ranking(checkpoints, metric, goal)
    return ranked[0] if ranked else None


def ranking(checkpoints: Iterable[Checkpoint], metric: str | None, goal: Goal | None) -> Sequence[Checkpoint]:
    """Those that can be the best, the best first; see `best_of`."""
    sign = {"min": 1.0, "max": -1.0}.get(goal or "", 0.0)

    def value(one: Checkpoint) -> float:
        return sign * one.metrics.get(metric or "", math.nan) if sign else math.nan

    able = [one for one in _published(checkpoints, "model") if not one.superseded]
    valued = sorted((one for one in able if not math.isnan(value(one))), key=value)
    flagged = [one for one in reversed(able) if one.is_best and math.isnan(value(one))]
    return [*valued, *flagged]


def unneeded(
    checkpoints: Sequence[Checkpoint], *, last: int | None, best: int | None, metric: str | None, goal: Goal | None
) -> Sequence[Checkpoint]:
    """Those that retention prunes.

    Of role `state` all but the newest. Of the others, if `last` or `best` is given, all but the last and the best so
    many, the newest and the best. Never one that has a tag.
    """
    beyond = _published(checkpoints, "state")[:-1]
    if last is not None or best is not None:
        models = _published(checkpoints, "model")
        kept = {one.id for one in models[-max(last or 1, 1) :]}
        kept.update(one.id for one in ranking(models, metric, goal)[: max(best or 1, 1)])
        beyond += [one for one in models if one.id not in kept]
    return [one for one in beyond if one.tag is None]


def _published(checkpoints: Iterable[Checkpoint], role: CheckpointRole) -> list[Checkpoint]:
    """Those of the role whose bytes are there, the newest last."""

    def age(one: Checkpoint) -> tuple[int, int, int]:
        return one.fit if role == "state" else 0, one.ms, one.id

    return sorted((one for one in checkpoints if one.status == "published" and one.role == role), key=age)
