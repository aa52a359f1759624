"""What RunStore promises about checkpoints and their retention, over every database, and over HTTP."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from e2e.server_lab import served
from small_blocks import open_small

from tracker.artifacts.local import LocalArtifacts
from tracker.client.batch_builder import make_batch
from tracker.compose import open_store
from tracker.domain.checkpoint_ranking import best_of, latest_of
from tracker.domain.errors import CheckpointNotFound, FileRemoved, InvalidValue, RunNotFound
from tracker.domain.frames import (
    Ack,
    CheckpointLogged,
    CheckpointsKept,
    EpochEnded,
    EventLogged,
    FitStarted,
    Frame,
    MetricDefined,
    RunStarted,
    Staged,
)
from tracker.domain.ports import RunStore
from tracker.domain.records import Checkpoint, Removed
from tracker.query.timeline import described
from tracker.store.store import SqlRunStore


class Lab:
    """A run and its files, written to as a client does: a file first, then the row that names it."""

    def __init__(self, store: RunStore, home: LocalArtifacts, folder: Path, run_id: str = "r") -> None:
        self.store, self.home, self.run_id = store, home, run_id
        self._source = folder / "source"
        self._number = 0
        self.send(RunStarted(1000, "Default", "n", home.uri(run_id), "host", 1))

    def send(self, *frames: Frame, writer: str = "w") -> Ack:
        numbered = list(enumerate(frames, self._number + 1))
        self._number += len(frames)
        return self.store.append(make_batch(self.run_id, writer, numbered))

    def put(self, data: str, path: str = "checkpoints/{sha256}.keras") -> tuple[str, str]:
        self._source.write_text(data)
        return self.home.put(self.run_id, path, self._source)

    def saved(self, epoch: int, data: str | None = None, *, ms: int | None = None, **more: Any) -> CheckpointLogged:
        """A checkpoint whose file is published and whose row is not there yet."""
        data = data or f"weights of {more.get('role', 'model')} {epoch} of fit {more.get('fit', 1)}"
        uri, digest = self.put(data)
        fields: dict[str, Any] = {"fit": 1, "metrics": {}, "is_best": None, "state": {}, "role": "model"} | more
        file = Staged("f", "checkpoints/{sha256}.keras", len(data), digest)
        when = 5000 + epoch if ms is None else ms
        return CheckpointLogged(
            ms=when,
            epoch=epoch,
            step=epoch * 10,
            format=".keras",
            file=file,
            sha256=digest,
            uri=uri,
            **fields,
        )

    def version(self, epoch: int, value: float, data: str | None = None, **more: Any) -> CheckpointLogged:
        """A checkpoint of ten bytes by a callback that writes over `file`, within a budget."""
        budget, file = more.pop("budget"), more.pop("file", "best.keras")
        state = {"by": "ModelCheckpoint", "file": file, "budget": budget}
        data = data or f"{file[:4]:4}{epoch:6}"
        return self.saved(epoch, data, metrics={"val_loss": value}, state=state, **more)

    def train(self, *losses: float, **more: Any) -> None:
        """An epoch and its checkpoint for each, a batch each."""
        for epoch, loss in enumerate(losses):
            self.send(ended(epoch, loss), self.saved(epoch, metrics={"val_loss": loss}, **more))

    def all(self) -> list[Checkpoint]:
        return list(self.store.checkpoints(self.run_id))

    def kept(self, role: str = "model") -> list[int]:
        """The epochs of those that are published, oldest first."""
        return [one.epoch for one in self.all() if one.status == "published" and one.role == role]

    @property
    def files(self) -> int:
        return len(self.home.list(self.run_id))


def ended(epoch: int, loss: float, fit: int = 1) -> EpochEnded:
    return EpochEnded(3000 + epoch, epoch, fit, 0.5, {"val_loss": loss}, (epoch + 1) * 10)


def begun(number: int, first: int = 0) -> FitStarted:
    return FitStarted(3000, number, 1, first, first * 10 + 1, 0, 0, 10, 10, 32, None, "h")


class CheckpointContract:
    """The contract of checkpoints; heirs have the fixtures `sql`, the store itself, and `store`, the way to it."""

    @pytest.fixture
    def home(self, tmp_path: Path) -> LocalArtifacts:
        return LocalArtifacts(tmp_path / "artifacts")

    @pytest.fixture
    def lab(self, store: RunStore, home: LocalArtifacts, tmp_path: Path) -> Lab:
        lab = Lab(store, home, tmp_path)
        lab.send(begun(1))
        return lab

    # -- rows and events ---------------------------------------------------------------------------------------------

    def test_row_and_event_come_together(self, lab: Lab) -> None:
        """A checkpoint of the model is an event too, which names its row; one to resume from is a row alone."""
        lab.send(ended(0, 0.5), lab.saved(0, metrics={"val_loss": 0.5}), lab.saved(0, role="state", ms=6000))
        model, state = lab.all()
        [event] = [one for one in lab.store.events("r") if one.kind == "checkpoint_saved"]
        assert (event.ms, event.epoch, event.step, event.fit) == (5000, 0, 0, 1)
        assert event.detail == {
            "checkpoint": model.id,
            "format": ".keras",
            "size": model.size,
            "sha256": model.sha256,
            "is_best": True,
            "metric": "val_loss",
            "uri": model.uri,
        }
        assert (model.role, state.role, state.is_best) == ("model", "state", False)

    @pytest.mark.parametrize("at_once", [False, True])
    def test_best_so_far_however_late_it_is_told(self, lab: Lab, at_once: bool) -> None:
        """Whether an epoch was the best when it ended is the same in one batch, as of a run that was offline."""
        losses = [0.5, math.nan, 0.7, 0.4, 0.4, 0.3]
        frames = [f for epoch, loss in enumerate(losses) for f in (ended(epoch, loss), lab.saved(epoch))]
        if at_once:
            lab.send(*frames)
        else:
            for one in range(0, len(frames), 2):
                lab.send(*frames[one : one + 2])
        assert [one.is_best for one in lab.all()] == [True, False, False, True, False, True]

    def test_best_so_far_though_older_weights_were_restored(self, lab: Lab) -> None:
        """The run's result may be an older epoch's; which epochs were the best as they ended stays as it was."""
        for epoch, loss in enumerate([0.5, 0.499, 0.6]):
            lab.send(ended(epoch, loss))
        detail = {"epoch": 0, "metrics": {"val_loss": 0.5}}
        lab.send(EventLogged(9, "weights_restored", 0, 10, 1, detail), *(lab.saved(epoch) for epoch in range(3)))
        assert lab.store.get_run("r").best_epoch == 0
        assert [one.is_best for one in lab.all()] == [True, True, False]

    def test_who_logs_it_may_say_what_is_best(self, lab: Lab) -> None:
        """The caller's `is_best` is kept, whatever the metrics are."""
        lab.send(ended(0, 0.5), lab.saved(0, is_best=False), ended(1, 0.9), lab.saved(1, is_best=True))
        assert [one.is_best for one in lab.all()] == [False, True]

    def test_oldest_first_by_time(self, lab: Lab) -> None:
        """What a dead process left is shipped later, and is at its place in the order."""
        lab.send(lab.saved(3, ms=9000), lab.saved(1, ms=7000), lab.saved(2, ms=8000))
        assert [one.epoch for one in lab.all()] == [1, 2, 3]

    def test_superseded_is_kept_and_not_best(self, lab: Lab) -> None:
        """A checkpoint that a later fit superseded stays in the list, but is not the best any more."""
        lab.train(0.5, 0.4, 0.1)
        lab.send(begun(2, first=1), ended(1, 0.45, fit=2), lab.saved(1, fit=2, ms=9000, metrics={"val_loss": 0.45}))
        found = [(one.fit, one.epoch, one.superseded, one.is_best) for one in lab.all()]
        assert found == [(1, 0, False, True), (1, 1, True, False), (1, 2, True, False), (2, 1, False, True)]
        best = best_of(lab.all(), "val_loss", "min")
        assert best is not None
        assert (best.fit, best.epoch) == (2, 1)

    def test_late_word_on_a_superseded_epoch(self, lab: Lab) -> None:
        """However late the row comes: its event says what was so when it was saved, and it is the best no more."""
        late = [lab.saved(0), lab.saved(1), lab.saved(2)]
        lab.send(ended(0, 0.5), ended(1, 0.4), ended(2, 0.45), begun(2, first=1), ended(1, 0.3, fit=2))
        lab.send(*late)
        events = [one for one in lab.store.events("r") if one.kind == "checkpoint_saved"]
        assert [one.detail["is_best"] for one in events] == [True, True, False]
        assert [one.is_best for one in lab.all()] == [True, False, False]

    @pytest.mark.parametrize("late", [False, True])
    def test_in_the_middle_of_an_epoch(self, lab: Lab, late: bool) -> None:
        """A save is judged by what was known at its step, by the epochs before; whenever its row comes."""
        mid = {"mid_epoch": True}
        losses = [0.5, 0.4, 0.6, 0.3, 0.7]
        rows = [lab.saved(epoch, state=mid, ms=5000 + epoch) for epoch in range(6)]
        if late:
            lab.send(*(ended(epoch, loss) for epoch, loss in enumerate(losses)), *reversed(rows))
        else:
            for epoch, row in enumerate(rows):
                lab.send(row, *(ended(epoch, loss) for loss in losses[epoch : epoch + 1]))
        assert [one.is_best for one in lab.all()] == [False, True, True, False, True, False]
        best = best_of(lab.all(), "val_loss", "min")
        assert best is not None
        assert best.epoch == 4

    @pytest.mark.parametrize("late", [False, True])
    def test_in_the_middle_of_an_epoch_with_a_value(self, lab: Lab, late: bool) -> None:
        """What its own metrics say is held against the epochs before, by the metric that they had then."""
        values = [0.9, 0.45, 0.41, 0.39]
        rows = [
            lab.saved(epoch, state={"mid_epoch": True}, metrics={"loss": value}) for epoch, value in enumerate(values)
        ]
        epochs = [EpochEnded(3000 + e, e, 1, 0.5, {"loss": v}, e) for e, v in enumerate([0.5, 0.4, 0.6])]
        epochs.append(EpochEnded(3003, 3, 1, 0.5, {"loss": 0.1, "val_loss": 0.1}, 3))
        for first, then in zip(rows, epochs, strict=True):
            lab.send(then) if late else lab.send(first, then)
        if late:
            lab.send(*rows)
        assert [one.is_best for one in lab.all()] == [False, True, False, True]
        events = [one.detail.get("metric") for one in lab.store.events("r") if one.kind == "checkpoint_saved"]
        assert events == [None, "loss", None, "loss"]

    def test_what_another_callback_held_for_best(self, lab: Lab) -> None:
        """Best is by the run's metric; by which other one a callback held it for the best is kept, and on the event."""
        lab.send(ended(0, 0.5), lab.saved(0, state={"best_by": "val_accuracy"}))
        lab.send(ended(1, 0.9), lab.saved(1, state={"best_by": "val_accuracy"}))
        assert [(one.is_best, one.state["best_by"]) for one in lab.all()] == [
            (True, "val_accuracy"), (False, "val_accuracy")
        ]  # fmt: skip
        events = [one for one in lab.store.events("r") if one.kind == "checkpoint_saved"]
        assert [described(one).partition(": ")[0] for one in events] == [
            "checkpoint saved, the best so far by val_loss and by val_accuracy",
            "checkpoint saved, the best so far by val_accuracy",
        ]

    # -- retention ---------------------------------------------------------------------------------------------------

    def test_all_are_kept_by_default(self, lab: Lab) -> None:
        """Nothing is pruned that nobody asked to."""
        lab.train(0.5, 0.1, 0.3, 0.4)
        assert lab.kept() == [0, 1, 2, 3]

    @pytest.mark.parametrize(("last", "best", "kept"), [
        (1, None, [1, 5]), (2, None, [1, 4, 5]), (3, 1, [1, 3, 4, 5]), (None, 1, [1, 5]), (None, 3, [1, 2, 4, 5]),
        (2, 2, [1, 2, 4, 5]), (6, 6, [0, 1, 2, 3, 4, 5]), (100, None, [0, 1, 2, 3, 4, 5]),
    ])  # fmt: skip
    @pytest.mark.parametrize("said", ["before", "after"])
    def test_last_and_best(self, lab: Lab, last: int | None, best: int | None, kept: list[int], said: str) -> None:
        """The last k and the best k stay, and the newest and the best in any case; earlier ones are pruned at once."""
        losses = [0.9, 0.1, 0.2, 0.8, 0.3, 0.7]
        if said == "before":
            lab.send(CheckpointsKept(1, last, best))
        lab.train(*losses)
        if said == "after":
            lab.send(CheckpointsKept(1, last, best))
        assert lab.kept() == kept
        assert len(lab.all()) == 6

    def test_no_word_keeps_all_again(self, lab: Lab) -> None:
        """The last word counts; what was pruned stays so."""
        lab.send(CheckpointsKept(1, 1, None))
        lab.train(0.3, 0.4, 0.5)
        lab.send(CheckpointsKept(2, None, None))
        lab.send(lab.saved(3), lab.saved(4))
        assert lab.kept() == [0, 2, 3, 4]

    def test_larger_may_be_better(self, lab: Lab) -> None:
        """The best are chosen by the run's monitored metric and its goal."""
        lab.send(MetricDefined(1, "val_loss", "max", "declared"), CheckpointsKept(1, 1, 2))
        lab.train(0.5, 0.9, 0.1, math.nan, 0.8, 0.2)
        assert lab.kept() == [1, 4, 5]

    def test_without_values_the_flag_counts(self, lab: Lab) -> None:
        """Checkpoints that do not have the metric among their own are as good as was said when they were saved."""
        lab.send(CheckpointsKept(1, 1, 2))
        for epoch, best in enumerate([True, False, True, True, False, False]):
            lab.send(lab.saved(epoch, is_best=best))
        assert lab.kept() == [2, 3, 5]

    def test_superseded_ones_are_no_longer_the_best(self, lab: Lab) -> None:
        """A value that a later fit replaced holds no place among the best."""
        lab.train(0.5, 0.1)
        lab.send(begun(2, first=1), CheckpointsKept(1, 1, 1))
        lab.send(ended(1, 0.4, fit=2), lab.saved(1, fit=2, ms=9000, metrics={"val_loss": 0.4}))
        lab.send(ended(2, 0.6, fit=2), lab.saved(2, fit=2, ms=9001, metrics={"val_loss": 0.6}))
        assert [(one.fit, one.epoch) for one in lab.all() if one.status == "published"] == [(2, 1), (2, 2)]

    def test_of_states_the_newest_is_kept(self, lab: Lab) -> None:
        """With no word needed; a later fit's is newer, whatever the clock of its machine says."""
        for epoch in range(3):
            lab.send(lab.saved(epoch, role="state"))
        assert (lab.kept("state"), lab.kept()) == ([2], [])
        lab.send(begun(2, first=3), lab.saved(3, role="state", fit=2, ms=10))
        assert lab.kept("state") == [3]
        late = lab.saved(9, role="state", ms=99_000)
        lab.send(late)
        assert lab.kept("state") == [3]
        newest = latest_of(lab.all(), "state")
        assert newest is not None
        assert newest.epoch == 3

    def test_states_are_none_of_the_last_or_best(self, lab: Lab) -> None:
        """Retention counts the model's checkpoints alone."""
        lab.send(CheckpointsKept(1, 2, None))
        for epoch in range(4):
            lab.send(lab.saved(epoch, is_best=epoch == 0), lab.saved(epoch, role="state"))
        assert (lab.kept(), lab.kept("state")) == ([0, 2, 3], [3])

    # -- the budget of files that are written over -------------------------------------------------------------------

    @pytest.mark.parametrize("at_once", [False, True])
    def test_older_versions_go_beyond_the_budget(self, lab: Lab, at_once: bool) -> None:
        """The oldest go that are neither newest, best nor tagged; the answer says so, and rows stay. 10 bytes each."""
        values = [0.5, 0.1, 0.9, 0.8, 0.7, 0.6]
        rows = [lab.version(epoch, value, budget=30) for epoch, value in enumerate(values)]
        epochs = [ended(epoch, value) for epoch, value in enumerate(values)]
        if at_once:
            acks = [lab.send(*(frame for both in zip(epochs, rows, strict=True) for frame in both))]
        else:
            acks = [lab.send(*both) for both in zip(epochs, rows, strict=True)]
        assert lab.kept() == [1, 4, 5]
        assert [ack.over_budget for ack in acks] == ([30] if at_once else [None, None, None, 30, 30, 30])
        assert len(lab.all()) == 6
        assert all(ack.pruned == (ack.over_budget is not None) for ack in acks)

    def test_what_stays_whatever_the_budget(self, lab: Lab) -> None:
        """With none at all: the newest of each path, the best, what is tagged; and files that nobody writes over."""
        lab.send(lab.version(0, 0.5, budget=0), ended(0, 0.5))
        lab.store.tag_checkpoint("r", lab.all()[0].id, "paper")
        for epoch, value in enumerate([0.2, 0.3, 0.4, 0.6], start=1):
            lab.send(ended(epoch, value), lab.version(epoch, value, budget=0))
            lab.send(lab.version(epoch, value, budget=0, file=f"m-{epoch}.keras", ms=5500 + epoch))
        lab.send(lab.version(1, 0.2, budget=0, file="other.keras", ms=5501), lab.saved(7, is_best=False))
        left = [(one.epoch, one.state.get("file")) for one in lab.all() if one.status == "published"]
        assert left == [
            (0, "best.keras"), (1, "best.keras"), (4, "best.keras"), (7, None), (1, "m-1.keras"), (1, "other.keras"),
            (2, "m-2.keras"), (3, "m-3.keras"), (4, "m-4.keras"),
        ]  # fmt: skip

    def test_equal_versions_count_once(self, lab: Lab) -> None:
        """Bytes that lie once have their size once; what another row needs frees nothing, and stays."""
        for epoch in range(4):
            lab.send(ended(epoch, 0.5), lab.version(epoch, 0.5, "the same--", budget=20))
        assert lab.kept() == [0, 1, 2, 3]
        lab.send(lab.version(4, 0.6, budget=20))
        assert lab.kept() == [0, 1, 2, 3, 4]
        lab.send(lab.version(5, 0.4, budget=20))
        assert lab.kept() == [4, 5]

    def test_who_says_how_many_overrules_the_budget(self, lab: Lab) -> None:
        """`keep_checkpoints` decides alone; without a word of it the budget counts again, the newest one's."""
        lab.send(CheckpointsKept(1, 3, None))
        for epoch, value in enumerate([0.1, 0.2, 0.3, 0.4]):
            lab.send(ended(epoch, value), lab.version(epoch, value, budget=0))
        assert lab.kept() == [0, 1, 2, 3]
        lab.send(CheckpointsKept(2, None, None))
        assert lab.kept() == [0, 3]
        for epoch, value in enumerate([0.5, 0.6, 0.7], start=4):
            lab.send(ended(epoch, value), lab.version(epoch, value, budget=1000))
        assert lab.kept() == [0, 3, 4, 5, 6]

    def test_a_state_counts_and_is_no_version(self, lab: Lab) -> None:
        """The bytes of the state to resume from are the run's, too; it is kept as ever."""
        lab.send(lab.saved(0, "0123456789", role="state", ms=4000))
        for epoch in range(3):
            lab.send(ended(epoch, epoch / 10), lab.version(epoch, epoch / 10, budget=30))
        assert (lab.kept("state"), lab.kept()) == ([0], [0, 2])

    # -- tags --------------------------------------------------------------------------------------------------------

    def test_tagged_ones_stay(self, lab: Lab) -> None:
        """A tag keeps a checkpoint of either role; without it retention has its way at once."""
        lab.send(lab.saved(0, is_best=False), lab.saved(0, role="state"))
        model, state = lab.all()
        for one in (model, state):
            lab.store.tag_checkpoint("r", one.id, "release")
        lab.send(CheckpointsKept(1, 1, None))
        for epoch in (1, 2):
            lab.send(lab.saved(epoch, is_best=True), lab.saved(epoch, role="state"))
        assert (lab.kept(), lab.kept("state")) == ([0, 2], [0, 2])
        assert [one.tag for one in lab.all()[:2]] == ["release"] * 2
        for one in (model, state):
            lab.store.tag_checkpoint("r", one.id, None)
        assert (lab.kept(), lab.kept("state")) == ([2], [2])

    @pytest.mark.parametrize("tag", ["", "x" * 251, "a\nb"])
    def test_bad_tags_are_refused(self, lab: Lab, tag: str) -> None:
        """A tag is a name like others."""
        lab.send(lab.saved(0))
        with pytest.raises(InvalidValue, match="tag key"):
            lab.store.tag_checkpoint("r", lab.all()[0].id, tag)

    def test_what_cannot_be_tagged(self, lab: Lab, home: LocalArtifacts, tmp_path: Path) -> None:
        """Only a published checkpoint of the run can be kept."""
        lab.send(CheckpointsKept(1, 1, None))
        lab.send(lab.saved(0, is_best=False), lab.saved(1, is_best=True))
        pruned = lab.all()[0].id
        with pytest.raises(InvalidValue, match="was pruned, its bytes are gone"):
            lab.store.tag_checkpoint("r", pruned, "release")
        Lab(lab.store, home, tmp_path, "other")
        for run, number in (("other", pruned), ("r", 12345)):
            with pytest.raises(CheckpointNotFound):
                lab.store.tag_checkpoint(run, number, "release")
        with pytest.raises(RunNotFound):
            lab.store.tag_checkpoint("nobody", pruned, "release")

    # -- files -------------------------------------------------------------------------------------------------------

    def test_pruned_files_go_and_others_stay(self, lab: Lab, sql: SqlRunStore) -> None:
        """The answer says that there is something to remove; then there is not."""
        assert not lab.send(lab.saved(0, is_best=True)).pruned
        assert lab.send(CheckpointsKept(1, 1, None), lab.saved(1, is_best=False), lab.saved(2, is_best=False)).pruned
        assert lab.files == 3
        size = lab.all()[1].size
        assert sql.remove_pruned(lab.home) == Removed(files=1, bytes=size)
        assert sql.remove_pruned(lab.home) == Removed(files=0, bytes=0)
        published = {one.uri for one in sql.checkpoints("r") if one.status == "published"}
        assert published == {f"{lab.home.uri('r')}/{path}" for path in lab.home.list("r")}
        assert lab.kept() == [0, 2]
        assert lab.send(lab.saved(3, is_best=False)).pruned
        assert not lab.send(ended(9, 0.5)).pruned

    def test_equal_bytes_lie_once_and_stay_while_one_needs_them(self, lab: Lab, sql: SqlRunStore) -> None:
        """Several rows may name a file; it goes with the last of them."""
        lab.send(CheckpointsKept(1, 1, None))
        lab.send(lab.saved(0, "same", is_best=True), lab.saved(1, "same"), lab.saved(2, "other"))
        assert len({one.uri for one in lab.all()}) == 2
        assert lab.kept() == [0, 2]
        assert sql.remove_pruned(lab.home).files == 0
        lab.send(lab.saved(3, "third", is_best=True))
        assert lab.kept() == [3]
        assert sql.remove_pruned(lab.home).files == 2
        assert lab.files == 1

    def test_a_name_that_was_removed_is_not_used_again(self, lab: Lab, sql: SqlRunStore) -> None:
        """A row that comes for it is refused, also if its bytes were put there again: they may go any moment."""
        lab.send(CheckpointsKept(1, 1, None))
        lab.send(lab.saved(0, "same", is_best=False), lab.saved(1, "other", is_best=True))
        sql.remove_pruned(lab.home)
        again = lab.saved(2, "same")
        with pytest.raises(FileRemoved, match="publish it under another name"):
            lab.send(again)
        assert lab.kept() == [1]

    def test_only_checkpoints_files_of_the_run_are_removed(self, lab: Lab, sql: SqlRunStore, tmp_path: Path) -> None:
        """A row that names another file, of this run or of others, costs nobody anything but itself."""
        others = Lab(lab.store, lab.home, tmp_path, "other")
        theirs, _ = others.put("theirs")
        notes, _ = lab.put("notes", "notes.txt")
        root = lab.home.uri("r")
        named = [theirs, notes, f"{root}/checkpoints/../notes.txt", f"{root}/checkpoints", "file:///etc/passwd", ""]
        row = lab.saved(0, is_best=False)
        lab.send(CheckpointsKept(1, 1, None))
        for epoch, uri in enumerate(named):
            file = Staged("f", "p", 1)
            lab.send(CheckpointLogged(epoch, epoch, 1, 1, ".keras", {}, False, {}, file, "ab" * 32, uri))
        lab.send(row, lab.saved(9, ms=9999, is_best=True))
        assert sql.remove_pruned(lab.home).files == 1
        assert (others.files, lab.home.list("r")[-1]) == (1, "notes.txt")

    def test_what_cannot_be_removed_is_tried_again(self, lab: Lab, sql: SqlRunStore) -> None:
        """A removal that fails costs nothing but time, and none is held up by another."""
        lab.send(CheckpointsKept(1, 1, None))
        lab.send(*(lab.saved(epoch, is_best=epoch == 3) for epoch in range(4)))
        place, away = lab.home.root / "r" / "checkpoints", lab.home.root / "away"
        place.rename(away)
        place.symlink_to(away)
        assert sql.remove_pruned(lab.home).files == 0
        place.unlink()
        away.rename(place)
        assert lab.files == 4
        assert sql.remove_pruned(lab.home).files == 3
        assert lab.files == 1

    def test_writers_and_removal_at_once(self, lab: Lab, sql: SqlRunStore) -> None:
        """Whatever meets whatever, each published row has its bytes in the end."""
        lab.send(CheckpointsKept(1, 1, None))
        over = threading.Event()

        def remove() -> None:
            while not over.is_set():
                sql.remove_pruned(lab.home)

        remover = threading.Thread(target=remove)
        remover.start()
        try:
            for turn in range(40):
                row = lab.saved(turn, f"one of {turn % 3}", is_best=True)
                try:
                    lab.send(row)
                except FileRemoved:
                    uri, _ = lab.put(f"one of {turn % 3}", f"checkpoints/{{sha256}}-w-{turn}.keras")
                    lab.send(CheckpointLogged(row.ms, turn, 1, 1, ".keras", {}, True, {}, row.file, row.sha256, uri))
                named = {one.uri for one in lab.all() if one.status == "published"}
                root = lab.store.get_run("r").artifact_uri
                there = {f"{root}/{path}" for path in lab.home.list("r")}
                assert named <= there
        finally:
            over.set()
            remover.join()
        sql.remove_pruned(lab.home)
        assert lab.files == len(lab.kept()) == 1


class TestSqlCheckpoints(CheckpointContract):
    """SQLite and PostgreSQL."""

    @pytest.fixture
    def sql(self, any_url: str) -> Iterator[SqlRunStore]:
        with open_small(any_url) as store:
            yield store

    @pytest.fixture
    def store(self, sql: SqlRunStore) -> RunStore:
        return sql


class TestHttpCheckpoints(CheckpointContract):
    """A tracking server over SQLite."""

    @pytest.fixture
    def sql(self, store_url: str) -> Iterator[SqlRunStore]:
        with open_small(store_url) as store:
            yield store

    @pytest.fixture
    def store(self, sql: SqlRunStore, home: LocalArtifacts) -> Iterator[RunStore]:
        with served(sql, home) as url, closing(open_store(url)) as store:
            yield store
