"""Which checkpoint is meant by best, latest, an epoch, a tag or an id."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tracker.domain.errors import CheckpointNotFound, InvalidValue
from tracker.domain.records import Checkpoint
from tracker.query.checkpoint_choice import check_tag, choose, spans


def kept(id: int, epoch: int, **facts: Any) -> Checkpoint:
    known: dict[str, Any] = {
        "id": id, "epoch": epoch, "step": None, "format": ".keras", "size": 1, "sha256": "0" * 64, "metrics": {},
        "is_best": False, "state": {}, "uri": f"file:///a/r/checkpoints/{id}.keras", "ms": id,
    }  # fmt: skip
    return Checkpoint(**{**known, **facts})


def chosen(which: Any, *checkpoints: Checkpoint, **more: Any) -> int:
    return choose(checkpoints, which, run_id="r", **more).id


def test_best_and_latest() -> None:
    """The best is by the run's metric where the checkpoints have it, else the last that was the best so far."""
    flagged = [kept(1, 0, is_best=True), kept(2, 1, is_best=True), kept(3, 2)]
    assert (chosen("best", *flagged), chosen("latest", *flagged)) == (2, 3)
    valued = [kept(1, 0, metrics={"loss": 0.2}), kept(2, 1, metrics={"loss": 0.1}), kept(3, 2, metrics={"loss": 0.3})]
    assert chosen("best", *valued, metric="loss", goals={"loss": "min"}) == 2
    assert chosen("best", *valued, metric="loss", goals={"loss": "max"}) == 3


def test_best_by_another_metric() -> None:
    """By the checkpoints' own values of it; where they have none, the last that its callback held for the best."""
    some = [
        kept(1, 0, metrics={"val_loss": 0.1, "val_accuracy": 0.7}, state={"best_by": "val_f"}),
        kept(2, 1, metrics={"val_loss": 0.2, "val_accuracy": 0.9}, state={"best_by": "val_f"}),
        kept(3, 2, metrics={"val_loss": 0.3, "val_accuracy": 0.8}),
    ]
    known = {"metric": "val_loss", "goals": {"val_loss": "min", "val_accuracy": "max"}}
    assert chosen("best", *some, **known) == chosen("best:val_loss", *some, **known) == 1
    assert chosen("best:val_accuracy", *some, **known) == 2
    assert chosen("best:val_f", *some, **known) == 2
    there = "best:val_accuracy, best:val_f, best:val_loss"
    with pytest.raises(
        CheckpointNotFound, match=f"no checkpoint best by val_acc: none has a value of val_acc .*{there}"
    ):
        chosen("best:val_acc", *some, **known)
    with pytest.raises(CheckpointNotFound, match=r"not known: run.define_metric\('speed', goal=...\)"):
        chosen("best:speed", kept(1, 0, metrics={"speed": 1.0}))
    with pytest.raises(InvalidValue, match="names no metric"):
        chosen("best:", *some)


def test_best_of_those_saved_in_the_middle_of_epochs() -> None:
    """They have no value of the metric: of those judged by the best epoch, the nearest to its end is meant."""
    mid = {"mid_epoch": True}
    some = [
        kept(1, 1, is_best=True),
        kept(2, 2, is_best=True, state=mid),
        kept(3, 2, is_best=True, state=mid),
        kept(4, 3, state=mid),
    ]
    assert chosen("best", *some, metric="val_loss", goals={"val_loss": "min"}) == 1
    assert chosen("best", *some[1:], metric="val_loss", goals={"val_loss": "min"}) == 2


def test_an_epoch_is_its_newest_checkpoint_that_still_counts() -> None:
    """Of an epoch trained twice the later training's is meant, whatever came last; else what there is."""
    twice = [kept(1, 3, superseded=True, ms=9), kept(2, 3, ms=5), kept(3, 3, ms=6), kept(4, 4, superseded=True)]
    assert chosen(3, *twice) == chosen("3", *twice) == chosen(np.int64(3), *twice) == 3
    assert chosen(4, *twice) == 4
    with pytest.raises(CheckpointNotFound, match="no checkpoint best"):
        chosen("best", kept(1, 0, superseded=True))


def test_models_come_before_states() -> None:
    """The state to resume from is given only where there is no model, and is never the best."""
    both = [kept(1, 2), kept(2, 2, role="state"), kept(3, 3, role="state")]
    assert (chosen("latest", *both), chosen(2, *both), chosen(3, *both)) == (1, 1, 3)
    assert chosen("latest", both[1], both[2]) == 3
    with pytest.raises(CheckpointNotFound):
        chosen("best", *both[1:])


def test_tags_and_ids() -> None:
    """A tag means the newest that has it, `id:` one exactly; neither finds what was pruned."""
    some = [kept(1, 0, tag="paper"), kept(2, 1, tag="paper"), kept(3, 2, status="pruned")]
    assert (chosen("paper", *some), chosen("id:1", *some)) == (2, 1)
    with pytest.raises(CheckpointNotFound, match=r"no checkpoint id:3: it was pruned, .*epoch 2.* bytes are gone"):
        chosen("id:3", *some)


def test_the_error_says_what_there_is() -> None:
    """Epochs that have a checkpoint are named, in few words, with their tags; so is what was pruned."""
    many = [kept(i, epoch, tag="best one" if epoch == 7 else None) for i, epoch in enumerate([0, 1, 2, 5, 7, 8])]
    with pytest.raises(CheckpointNotFound, match=r"of epoch 3: there are .* epochs 0 to 2, 5, 7 to 8, tagged 'best"):
        chosen(3, *many)
    with pytest.raises(CheckpointNotFound, match=r"of epoch 9: it was pruned.*; all that it had are pruned"):
        chosen(9, kept(1, 9, status="pruned"))
    with pytest.raises(CheckpointNotFound, match="none at all"):
        chosen("latest")
    for given, meant in (("bst", "best"), ("lastest", "latest"), ("best won", "best one")):
        with pytest.raises(CheckpointNotFound, match=f"no checkpoint '{given}': did you mean '{meant}'\\?; there are "):
            chosen(given, *many)
    assert spans(range(0, 100, 2)).count(",") == 12


@pytest.mark.parametrize("which", [1.5, True, -1, None, ""])
def test_what_means_nothing(which: Any) -> None:
    """A value that can mean no checkpoint is refused, with what can."""
    with pytest.raises(InvalidValue, match="an epoch"):
        chosen(which, kept(1, 1))


@pytest.mark.parametrize("name", ["best", "latest", "12", "id:3", "best:loss"])
def test_tags_that_would_never_be_found(name: str) -> None:
    """A tag must not be a word that means something already."""
    with pytest.raises(InvalidValue, match="means something already"):
        check_tag(name)
