"""Labels of a checkpoint besides its numbers: the words that select it, and its state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tracker.domain.checkpoint_ranking import BEST_BY, best_of, latest_of
from tracker.domain.ports import RunReader
from tracker.domain.records import Checkpoint, Run, Series
from tracker.query.checkpoint_choice import BEST, best_by
from tracker.query.text_format import number

MOST = 8
"""Maximum number of checkpoints in a short list."""


def marks(store: RunReader, run: Run, checkpoints: Sequence[Checkpoint]) -> dict[int, str]:
    """By the checkpoint's id the words that select it besides its epoch: the best, the latest, its tag."""
    return marks_of(run, checkpoints, store.metrics(run.id))


def marks_of(run: Run, checkpoints: Sequence[Checkpoint], metrics: Mapping[str, Series]) -> dict[int, str]:
    """`marks` from records that were read already."""
    goals = {key: one.goal for key, one in metrics.items()}
    best = best_of(checkpoints, run.best_metric, goals.get(run.best_metric or ""))
    latest = latest_of(checkpoints) or latest_of(checkpoints, "state")
    # The best for a callback with another monitor is a best, too, which no other label here would say.
    others = {str(one.state[BEST_BY]) for one in checkpoints if BEST_BY in one.state} - {run.best_metric}
    words: dict[int, list[str]] = {}
    for one, word in (
        (best, BEST),
        *((best_by(checkpoints, metric, goals), f"{BEST}:{metric}") for metric in sorted(others)),
        (latest, "latest"),
        *((one, one.tag) for one in checkpoints),
    ):
        if one is not None and word is not None:
            words.setdefault(one.id, []).append(word)
    return {id: ", ".join(some) for id, some in words.items()}


def best_label(run: Run) -> str:
    """The metric that decides which checkpoint of a run is the best; "" if none does."""
    return "" if run.best_metric is None else f"{BEST} by {run.best_metric}"


def best_note(run: Run, checkpoints: Sequence[Checkpoint]) -> str:
    """`best_label`, and a note if the best epoch has no checkpoint of a model."""
    words = best_label(run)
    models = [one for one in checkpoints if one.role == "model" and one.status == "published" and not one.superseded]
    if not words or not models or any(one.epoch == run.best_epoch for one in models):
        return words
    return f"{words}; there is none of epoch {run.best_epoch}, the best"


def without_replaced_states(checkpoints: Sequence[Checkpoint]) -> Sequence[Checkpoint]:
    """All except states that newer ones replaced: there is one for each epoch, and none can be restored."""
    return [one for one in checkpoints if one.role == "model" or one.status == "published"]


def notable(checkpoints: Sequence[Checkpoint], marked: Mapping[int, str]) -> Sequence[Checkpoint]:
    """At most `MOST` of them in their order: those with a label, then the newest, pruned ones last."""
    newest = sorted(
        without_replaced_states(checkpoints),
        key=lambda one: (one.id in marked, one.status == "published", one.ms, one.id),
    )
    few = {one.id for one in newest[-MOST:]}
    return [one for one in checkpoints if one.id in few]


def measured(one: Checkpoint, metric: str | None) -> str:
    """Its metrics as text, first the one that decides which is the best."""
    keys = sorted(one.metrics, key=lambda key: key != metric)
    return ", ".join(f"{key} {number(one.metrics[key])}" for key in keys)


def remarks(one: Checkpoint) -> str:
    """Its unusual properties: its bytes are gone, it has no model, its epoch was trained again."""
    said = (
        ("pruned", one.status == "pruned"),
        ("state to resume from", one.role == "state"),
        ("superseded", one.superseded),
    )
    return ", ".join(text for text, holds in said if holds)
