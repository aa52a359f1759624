"""Selects a checkpoint of a run: the best, the latest, that of an epoch, or one that has a tag."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

from tracker.domain.checkpoint_ranking import BEST_BY, best_of, is_best_by, latest_of
from tracker.domain.errors import CheckpointNotFound, InvalidValue, did_you_mean
from tracker.domain.goals import Goal, infer_goal
from tracker.domain.records import Checkpoint

BEST, LATEST = "best", "latest"
_MOST_SPANS = 12
_BY = "best:"
_LIMIT = "'best', 'best:' and a metric, 'latest', an epoch (counted from 0), a tag, or 'id:' and a checkpoint's id"

_Picked = Checkpoint | None


def choose(
    checkpoints: Iterable[Checkpoint],
    which: str | int,
    *,
    run_id: str,
    metric: str | None = None,
    goals: Mapping[str, Goal | None] | None = None,
) -> Checkpoint:
    """The checkpoint that `which` names among those of the run, whose best epoch is by `metric`.

    `goals` are those of the run's metrics. "best" and "latest" mean what `best_of` and `latest_of` return; `best:` and
    a metric is the best by that one; an epoch, also as text, is its newest checkpoint, one that no later fit superseded
    if possible; any other text is a tag, or `id:` and a checkpoint's id. Files that hold a model come before those that
    hold the state of a training. CheckpointNotFound says what exists; InvalidValue.
    """
    everything = list(checkpoints)
    kept = [one for one in everything if one.status == "published"]
    if isinstance(which, str) and (which == BEST or which.startswith(_BY)):
        by = metric if which == BEST else which.removeprefix(_BY)
        found = _best(kept, by, goals or {}, is_monitored=which == BEST or by == metric)
        words = f"{BEST} by {by}" if by else BEST
        gone, more = None, "" if by is None else _why_no_best(kept, by, goals or {})
    else:
        rule, words = _rule(which)
        found, more = rule(kept), _did_you_mean(which, kept)
        gone = None if words == LATEST else rule(everything)
    if found is None:
        raise CheckpointNotFound(run_id, words, f"{more}{_available(everything, gone)}")
    return found


def metrics_of_best(checkpoints: Iterable[Checkpoint], goals: Mapping[str, Goal | None]) -> Sequence[str]:
    """The metrics by which a best checkpoint can be asked for, in order."""
    models = [one for one in checkpoints if one.role == "model" and one.status == "published"]
    known = {key for one in models for key in one.metrics if _goal(key, goals) is not None}
    return sorted(known | {str(one.state[BEST_BY]) for one in models if BEST_BY in one.state})


def best_by(checkpoints: Iterable[Checkpoint], metric: str, goals: Mapping[str, Goal | None]) -> Checkpoint | None:
    """The best by another metric than the run's: by the checkpoints' own values, else as callbacks judged it."""
    return best_of(checkpoints, metric, _goal(metric, goals), held=is_best_by(metric))


def spans(epochs: Iterable[int]) -> str:
    """Epochs in words: `0 to 4, 7`; shortened if there are very many gaps."""
    numbers = sorted(set(epochs))
    parts = []
    for _, group in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        first, *rest = [number for _, number in group]
        parts.append(f"{first} to {rest[-1]}" if rest else f"{first}")
    if len(parts) > _MOST_SPANS:
        parts[_MOST_SPANS // 2 : -_MOST_SPANS // 2] = ["…"]
    return ", ".join(parts)


def _best(
    kept: Sequence[Checkpoint], metric: str | None, goals: Mapping[str, Goal | None], *, is_monitored: bool
) -> _Picked:
    if metric == "":
        raise InvalidValue("which", f"{_BY!r} names no metric", limit=_LIMIT)
    if is_monitored or metric is None:
        return best_of(kept, metric, goals.get(metric or ""))
    return best_by(kept, metric, goals)


def _goal(metric: str, goals: Mapping[str, Goal | None]) -> Goal | None:
    return goals.get(metric) or infer_goal(metric)


def _why_no_best(kept: Sequence[Checkpoint], metric: str, goals: Mapping[str, Goal | None]) -> str:
    """Why none of them is the best by the metric, and by which metrics there is one; "" if there is no checkpoint."""
    if not kept:
        return ""
    if any(metric in one.metrics for one in kept) and _goal(metric, goals) is None:
        why = f"whether it is better small or large is not known: run.define_metric({metric!r}, goal=...) says so"
    else:
        why = f"none has a value of {metric} among its metrics"
    others = ", ".join(f"{_BY}{key}" for key in metrics_of_best(kept, goals))
    return f"{why}; there is {others}; " if others else f"{why}; "


def _did_you_mean(which: str | int, kept: Sequence[Checkpoint]) -> str:
    """The word or tag that is nearest to a text that is neither; "" if none is."""
    tags = {one.tag for one in kept if one.tag is not None}
    near = did_you_mean(which, {BEST, LATEST, *tags}) if isinstance(which, str) else ""
    return f"{near.removeprefix('; ')}; " if near else ""


def _rule(which: str | int) -> tuple[Callable[[Sequence[Checkpoint]], _Picked], str]:
    """The function that picks what `which` means, and `which` in words."""
    if which == LATEST:
        return lambda some: latest_of(some) or latest_of(some, "state"), LATEST
    if isinstance(which, str):
        return _named(which)
    try:
        epoch = which.__index__()  # NumPy's whole numbers too
    except AttributeError:
        raise InvalidValue("which", f"{which!r} is of type {type(which).__name__}", limit=_LIMIT) from None
    if isinstance(which, bool) or epoch < 0:
        raise InvalidValue("which", f"{which!r} is not an epoch", limit=_LIMIT)
    return lambda some: _of_epoch(some, epoch), f"of epoch {epoch}"


def check_tag(name: str) -> str:
    """`name` if it can be a tag that selects a checkpoint, else InvalidValue."""
    if name in (BEST, LATEST) or name.isdecimal() or name.startswith(("id:", _BY)):
        limit = "not best, best:…, latest, an epoch or id:…"
        raise InvalidValue("tag", f"{name!r} means something already", limit=limit)
    return name


def _named(name: str) -> tuple[Callable[[Sequence[Checkpoint]], _Picked], str]:
    kind, _, number = name.partition(":")
    if kind == "id" and number.isdecimal():
        return lambda some: next((one for one in some if one.id == int(number)), None), name
    if name.isdecimal():
        return lambda some: _of_epoch(some, int(name)), f"of epoch {int(name)}"
    if not name:
        raise InvalidValue("which", "nothing was given", limit=_LIMIT)
    return lambda some: _newest([one for one in some if one.tag == name]), repr(name)


def _of_epoch(some: Iterable[Checkpoint], epoch: int) -> _Picked:
    its = _models_first([one for one in some if one.epoch == epoch])
    return _newest([one for one in its if not one.superseded]) or _newest(its)


def _models_first(some: Sequence[Checkpoint]) -> Sequence[Checkpoint]:
    """Those that hold a model, or all of them if none does."""
    return [one for one in some if one.role == "model"] or some


def _newest(some: Sequence[Checkpoint]) -> _Picked:
    return max(some, key=lambda one: (one.ms, one.id), default=None)


def _available(everything: Sequence[Checkpoint], gone: _Picked) -> str:
    kept = [one for one in everything if one.status == "published"]
    says = []
    if gone is not None:
        says.append(f"it was pruned, its row (id {gone.id}, epoch {gone.epoch}) is kept, its bytes are gone")
    if kept:
        tags = sorted({one.tag for one in kept if one.tag is not None})
        tagged = f", tagged {', '.join(map(repr, tags))}" if tags else ""
        says.append(f"there are those of the epochs {spans(one.epoch for one in kept)}{tagged}")
    elif everything:
        says.append("all that it had are pruned")
    else:
        says.append("it has none at all")
    return "; ".join(says)
