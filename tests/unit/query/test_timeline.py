"""A timeline that is too long: which events are left out."""

from __future__ import annotations

import pytest

from tracker.domain.records import Event
from tracker.query.timeline import condensed, described


def events(kinds: str) -> list[Event]:
    """An event a letter: `c` a checkpoint was saved, `i` an improvement, `r` another rate, else a decision."""
    named = {"c": "checkpoint_saved", "i": "best_improved", "r": "learning_rate_changed"}
    return [
        Event(kind=named.get(kind, "fit_started"), epoch=i, step=None, ms=i, detail={}) for i, kind in enumerate(kinds)
    ]


@pytest.mark.parametrize(("kinds", "most", "head", "hidden", "tail"), [
    ("abab", 4, [0, 1, 2, 3], 0, []),
    ("abababab", 5, [0, 1], 3, [5, 6, 7]),
    ("acccccb", 4, [0], 3, [4, 5, 6]),
    ("ccccb", 1, [], 4, [4]),
    ("cccccc", 2, [], 4, [4, 5]),
    ("acbcacbca", 4, [0, 2], 5, [6, 8]),
    ("aiciciabri", 5, [0, 1], 5, [6, 7, 9]),
    ("aiiirrb", 5, [0, 1], 2, [4, 5, 6]),
    ("aiaiaia", 3, [0], 4, [4, 6]),
])  # fmt: skip
def test_what_comes_often_goes_first(kinds: str, most: int, head: list[int], hidden: int, tail: list[int]) -> None:
    """Of too many events the oldest of saved checkpoints go, then improvements and rates, then decisions."""
    first, count, last = condensed(events(kinds), most)
    assert ([e.ms for e in first], count, [e.ms for e in last]) == (head, hidden, tail)


def test_a_saved_checkpoint_in_words() -> None:
    """It says whether it was the best so far, and how large it is; what is not as ours are is listed."""
    event = Event(kind="checkpoint_saved", epoch=1, step=2, ms=3, detail={"is_best": True, "size": 27000, "id": 4})
    assert described(event) == "checkpoint saved, the best so far: 27 kB"
    odd = Event(kind="checkpoint_saved", epoch=1, step=2, ms=3, detail={"path": "m.keras"})
    assert described(odd) == "checkpoint saved: path m.keras"
