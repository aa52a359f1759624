"""Which of a run's checkpoints is meant: the best, the latest, that of an epoch, or one that has a tag."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

from tracker.domain.checkpoints import best_of, latest_of
from tracker.domain.errors import CheckpointNotFound, InvalidValue
from tracker.domain.goals import Goal
from tracker.domain.records import Checkpoint

BEST, LATEST = "best", "latest"
_MOST_SPANS = 12
_LIMIT = "'best', 'latest', an epoch (counted from 0), a tag, or 'id:' and a checkpoint's id"

_Picked = Checkpoint | None


def choose(
    checkpoints: Iterable[Checkpoint],
    which: str | int,
    *,
    run_id: str,
    metric: str | None = None,
    goal: Goal | None = None,
) -> Checkpoint:
    """The checkpoint that `which` means among those of the run, whose best epoch is by `metric` and its `goal`.

    "best" and "latest" are what `best_of` and `latest_of` say; an epoch, also as text, is its newest checkpoint, one
    that no later fit superseded if there is such a one; any other text is a tag, or `id:` and a checkpoint's id. Files
    that hold a model come before those that hold the state of a training. CheckpointNotFound says what there is;
    InvalidValue.
    """
    everything = list(checkpoints)
    kept = [one for one in everything if one.status == "published"]
    rule, words = _rule(which, metric, goal)
    found = rule(kept)
    if found is not None:
        return found
    gone = None if words in (BEST, LATEST) else rule(everything)
    raise CheckpointNotFound(run_id, words, _what_there_is(everything, gone))


def spans(epochs: Iterable[int]) -> str:
    """Epochs in words: `0 to 4, 7`; not all of them if there are very many gaps."""
    numbers = sorted(set(epochs))
    parts = []
    for _, group in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        first, *rest = [number for _, number in group]
        parts.append(f"{first} to {rest[-1]}" if rest else f"{first}")
    if len(parts) > _MOST_SPANS:
        parts[_MOST_SPANS // 2 : -_MOST_SPANS // 2] = ["…"]
    return ", ".join(parts)


def _rule(
    which: str | int, metric: str | None, goal: Goal | None
) -> tuple[Callable[[Sequence[Checkpoint]], _Picked], str]:
    """How to pick what `which` means, and `which` in words."""
    if which == BEST:
        return lambda some: best_of(some, metric, goal), BEST
    if which == LATEST:
        return lambda some: latest_of(some) or latest_of(some, "state"), LATEST
    if isinstance(which, str):
        return _named(which)
    try:
        epoch = which.__index__()  # NumPy's whole numbers too
    except AttributeError:
        raise InvalidValue("which", f"{which!r} is a {type(which).__name__}", limit=_LIMIT) from None
    if isinstance(which, bool) or epoch < 0:
        raise InvalidValue("which", f"{which!r} is no epoch", limit=_LIMIT)
    return lambda some: _of_epoch(some, epoch), f"of epoch {epoch}"


def check_tag(name: str) -> str:
    """`name` if a checkpoint that has it as its tag can be asked for by it, else InvalidValue."""
    if name in (BEST, LATEST) or name.isdecimal() or name.startswith("id:"):
        raise InvalidValue("tag", f"{name!r} means something already", limit="not best, latest, an epoch or id:…")
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
    """Those that hold a model, all of them if there is no such one."""
    return [one for one in some if one.role == "model"] or some


def _newest(some: Sequence[Checkpoint]) -> _Picked:
    return max(some, key=lambda one: (one.ms, one.id), default=None)


def _what_there_is(everything: Sequence[Checkpoint], gone: _Picked) -> str:
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
