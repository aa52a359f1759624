"""Retention: which checkpoints of a run are kept, by their number or by a budget of bytes.

A callback that saves to the same path again leaves one file on disk, and the catalogue keeps each version. The budget
is in the `state` of every checkpoint whose path may be overwritten, so that a store needs nothing else to apply it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tracker.domain.checkpoint_ranking import best_of, published, ranking
from tracker.domain.goals import Goal
from tracker.domain.records import Checkpoint

BUDGET = "budget"
"""Key in a checkpoint's `state`: bytes that the run may use while older versions of its path (`state.file`) are kept.
"""


def unneeded(
    checkpoints: Sequence[Checkpoint], *, last: int | None, best: int | None, metric: str | None, goal: Goal | None
) -> Sequence[Checkpoint]:
    """The checkpoints that retention prunes.

    Of role `state` all but the newest. Of role `model`, if `last` or `best` is given, all but that many of the last and
    of the best, at least one each; otherwise those of `over_budget`. Never one that has a tag.
    """
    states, models = published(checkpoints, "state"), published(checkpoints, "model")
    beyond = states[:-1]
    if last is not None or best is not None:
        kept = {one.id for one in models[-max(last or 1, 1) :]}
        kept.update(one.id for one in ranking(models, metric, goal)[: max(best or 1, 1)])
        beyond += [one for one in models if one.id not in kept]
    else:
        stay = [one for one in states if one.tag is not None or one is states[-1]]
        beyond += over_budget(models, stay, metric, goal)
    return [one for one in beyond if one.tag is None]


def budget_of(checkpoints: Iterable[Checkpoint]) -> int | None:
    """The budget in bytes of the newest of `checkpoints` that has one, given oldest first; None if none has."""
    budget = None
    for one in checkpoints:
        if type(found := one.state.get(BUDGET)) is int:
            budget = found
    return budget


def over_budget(
    models: Sequence[Checkpoint], states: Sequence[Checkpoint], metric: str | None, goal: Goal | None
) -> Sequence[Checkpoint]:
    """The `models` to prune, the oldest versions first; both lists are of published ones, the oldest first.

    The newest of each path, the best by `metric`, those with a tag and those with a path of their own stay. A file that
    several rows share counts once, and goes when no other row needs it. The rule is applied after each save in turn, so
    that it does not matter how many come at once.
    """
    budget = budget_of(models)
    if budget is None:
        return ()
    sizes = {one.uri: one.size for one in (*models, *states)}
    if sum(sizes.values()) <= budget:
        return ()
    gone: list[Checkpoint] = []
    there: list[Checkpoint] = []
    fixed = {one.uri: one.size for one in states}
    for one in models:
        there.append(one)
        surplus = sum((fixed | {model.uri: model.size for model in there}).values()) - budget
        if surplus > 0 and (going := _oldest_versions(there, fixed, surplus, metric, goal)):
            gone += [model for model in there if model.id in going]
            there = [model for model in there if model.id not in going]
    return gone


def _oldest_versions(
    there: Sequence[Checkpoint], fixed: Iterable[str], surplus: int, metric: str | None, goal: Goal | None
) -> set[int]:
    """The ids of those to prune now, so that `surplus` bytes are free, or as many as possible."""
    best = best_of(there, metric, goal)
    newest = {one.state.get("file"): one.id for one in there if BUDGET in one.state}
    may_go = {
        one.id
        for one in there
        if BUDGET in one.state and newest[one.state.get("file")] != one.id and one.tag is None and one is not best
    }
    needed = Counter(one.uri for one in there if one.id not in may_go) + Counter(fixed)
    going: set[int] = set()
    freed: set[str] = set()
    for one in there:
        if one.id in may_go and one.uri not in needed:
            if one.uri not in freed:
                if surplus <= 0:
                    break
                freed.add(one.uri)
                surplus -= one.size
            going.update(same.id for same in there if same.uri == one.uri)
    return going
