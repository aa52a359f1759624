"""The same script, killed and started again, goes on as if it had never died."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from e2e.keras_lab import Lab, training
from e2e.server_lab import Server, away

import tracker
from tracker.api import sync_journals
from tracker.domain.errors import InvalidValue
from tracker.domain.records import Checkpoint, Event

SCENARIOS = ("resume",)

pytestmark = pytest.mark.timeout(280)
SCRIPT = Path(__file__).with_name("keras_resume.py")


def start(folder: Path, backend: str, how: str, epoch: int = 0, batch: int = 0, **more: str) -> int:
    """Start the script in `folder`, and return how its process ended."""
    given = [str(SCRIPT), how, str(epoch), str(batch), "facts.json"]
    done = training(given, folder, backend, timeout=120, **more)
    assert done.returncode != 1, done.stderr[-4000:]
    return done.returncode


def same(folder: Path, store: str) -> tuple[str, list[Event], list[Checkpoint]]:
    """The resumed training is the one that never died, on record too; its run, what happened, and its states."""
    facts = json.loads((folder / "facts.json").read_text())
    assert facts["apart"] < 1e-6
    assert facts["states"][0] == facts["states"][1]
    assert facts["iterations"][0] == facts["iterations"][1]
    with closing(tracker.open_store(store)) as opened:
        (run,) = opened.find_runs("script")
        assert run.status == "finished"
        for key, values in facts["history"].items():
            found = opened.history(run.id, key)
            assert found.steps.tolist() == list(range(len(values)))
            if key != "learning_rate":  # Keras notes the rate after the cut
                assert found.values == pytest.approx(values, abs=1e-6)
        states = [one for one in opened.checkpoints(run.id) if one.role == "state"]
        return run.id, [*opened.events(run.id)], states


def test_killed_again_and_again(tmp_path: Path) -> None:
    """SIGKILL in the middle of an epoch, in the middle of a save, and SIGTERM: every time it goes on from its state."""
    assert start(tmp_path, "tensorflow", "kill", 1, 2) == -9
    assert start(tmp_path, "tensorflow", "save", 2) == -9
    left = list((tmp_path / "home" / "states").rglob("*.weights.h5"))
    assert left, "the save was not interrupted"
    left[0].parents[1].rename(tmp_path / "home" / "states" / "another-run-that-nobody-goes-on-with")
    assert start(tmp_path, "tensorflow", "term", 3, 1) in (-15, 143)
    assert start(tmp_path, "tensorflow", "end") == 0
    store = f"sqlite:///{tmp_path / 'tracker.db'}"
    run_id, events, states = same(tmp_path, store)
    assert [one.epoch for one in events if one.kind == "resumed"] == [1, 2, 3]
    with closing(tracker.open_store(store)) as opened:
        fits = [(one.phase, one.first_epoch, one.resumed_from) for one in opened.fits(run_id)]
        assert fits == [(1, 0, None), (1, 1, 0), (1, 2, 1), (1, 3, 2)]
    assert [one.status for one in states].count("published") == 1
    assert not list((tmp_path / "home" / "states").iterdir())


def test_offline_it_goes_on_from_its_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed and started again without a store, the training is after one sync what it would have been with one."""
    offline = {"TRACKER_MODE": "offline", "STEPS": "3"}
    assert start(tmp_path, "tensorflow", "kill", 1, 2, **offline) == -9
    assert start(tmp_path, "tensorflow", "kill", 3, 1, **offline) == -9
    assert start(tmp_path, "tensorflow", "end", **offline) == 0
    assert not (tmp_path / "tracker.db").exists()
    monkeypatch.setenv("TRACKER_HOME", str(tmp_path / "home"))
    store = f"sqlite:///{tmp_path / 'tracker.db'}"
    monkeypatch.setenv("TRACKER_STORE", store)
    assert [one.error for one in sync_journals()] == [None] * 3
    run_id, _, states = same(tmp_path, store)
    with closing(tracker.open_store(store)) as opened:
        assert [(one.number, one.phase, one.outcome) for one in opened.fits(run_id)] == [
            (1, 1, "lost"), (2, 1, "lost"), (3, 1, "completed")]  # fmt: skip
        assert [one.number for one in opened.epochs(run_id)] == list(range(7))
    assert [one.status for one in states].count("published") == 1


def test_it_goes_on_while_its_server_is_away(tmp_path: Path, store_url: str) -> None:
    """The state lies beside the journal of the killed process; when the server is back, all is there once."""
    with away(store_url) as server:
        there = {"TRACKER_STORE": server.url}
        server.start()
        assert start(tmp_path, "tensorflow", "kill", 2, 1, **there) == -9
        server.end()
        assert start(tmp_path, "tensorflow", "kill", 4, 1, **there) == -9
        server.start()
        assert start(tmp_path, "tensorflow", "end", **there) == 0
    run_id, _, _ = same(tmp_path, store_url)
    with closing(tracker.open_store(store_url)) as opened:
        assert [one.number for one in opened.epochs(run_id)] == list(range(7))
        assert [one.number for one in opened.fits(run_id)] == [1, 2, 3]


def test_over_a_server_in_the_middle_of_an_epoch(tmp_path: Path, store_url: str) -> None:
    """The state comes from the server's artifacts, on a machine that has nothing of the first."""
    with Server(store_url) as server:
        there = {"TRACKER_STORE": server.url, "STEPS": "3"}
        assert start(tmp_path, "jax", "kill", 2, 2, **there) == -9
        assert start(tmp_path, "jax", "end", **there) == 0
        _, events, _ = same(tmp_path, server.url)
    (resumed,) = [one for one in events if one.kind == "resumed"]
    assert (resumed.epoch, resumed.detail["step"]) == (2, 9)


def test_a_server_that_is_away_as_the_script_starts(tmp_path: Path, store_url: str) -> None:
    """Where no journal of it lies, the script ends before it trains anew; once the server answers, it goes on."""
    with away(store_url) as server:
        server.start()
        there = {"TRACKER_STORE": server.url}
        assert start(tmp_path, "jax", "kill", 2, 2, **there) == -9
        server.end()
        with pytest.raises(AssertionError, match="the store did not answer as the run was opened"):
            start(tmp_path, "jax", "end", **there, TRACKER_HOME=str(tmp_path / "elsewhere"))
        server.start()
        assert start(tmp_path, "jax", "end", **there) == 0
        with closing(tracker.open_store(server.url)) as opened:
            assert [one.status for one in opened.find_runs("script")] == ["finished"]
            (run,) = [one for one in opened.find_runs("script") if one.status == "finished"]
            assert [one.first_epoch for one in opened.fits(run.id)] == [0, 2]


@pytest.mark.parametrize("name", ["epochs", "ours", "steps", "dataset", "hostile"])
def test_a_resumed_training_is_the_same(keras: Lab, name: str) -> None:
    """Weights, optimizer, callbacks and each epoch's metrics are those of a training that never died."""
    facts = keras.said(f"resume_{name}")
    resumed, whole = facts[f"resume_{name}"], facts[f"resume_{name}.whole"]
    for one, other in zip(resumed.pop("weights"), whole.pop("weights"), strict=True):
        assert one == pytest.approx(other, abs=1e-6)
    assert resumed == whole
    assert resumed["left"] is None
    pieces, one_piece = keras.run(f"resume_{name}"), keras.run(f"resume_{name}.whole")
    assert pieces.status == one_piece.status == "finished"
    keys = keras.keys(pieces.id)
    assert keys == keras.keys(one_piece.id)
    for key in keys:
        found, expected = (keras.store.history(run.id, key) for run in (pieces, one_piece))
        assert found.steps.tolist() == expected.steps.tolist(), key
        assert np.allclose(found.values, expected.values, rtol=0, atol=1e-6, equal_nan=True), key
    said = [line for lines in facts[f"resume_{name}.said"] for line in lines]
    if name == "steps":  # it died before its first state
        assert "the fit died and no state to resume from was saved" in said.pop(0)
        assert said.pop(0).endswith("1 problems in all (no_state_at_end: 1)")
    assert said == []


@pytest.mark.parametrize(("name", "resumed", "fits"), [
    ("epochs", [(3, 16), (3, 16)], [(0, 1), (4, 17), (4, 17)]),
    ("ours", [(2, 12)], [(0, 1), (3, 13)]),
    ("steps", [(0, 3), (2, 12)], [(0, 1), (0, 1), (0, 4), (3, 13)]),
    ("dataset", [(1, 8), (3, 20)], [(0, 1), (1, 9), (3, 21)]),
])  # fmt: skip
def test_what_was_resumed_is_on_record(
    keras: Lab, name: str, resumed: list[tuple[int, int]], fits: list[tuple[int, int]]
) -> None:
    """Each fit says where it went on, in one phase; the event names the state, of which the newest alone is kept."""
    run = keras.run(f"resume_{name}")
    found = keras.store.fits(run.id)
    assert [(one.first_epoch, one.first_step) for one in found] == fits
    assert {one.phase for one in found} == {1}
    states = {one.id: one for one in keras.store.checkpoints(run.id) if one.role == "state"}
    told = [one.detail for one in keras.store.events(run.id) if one.kind == "resumed"]
    assert [(one["epoch"], one["step"]) for one in told] == resumed
    assert all(one["checkpoint"] in states for one in told)
    assert [one.status for one in states.values()].count("published") == 1


def test_what_early_stopping_knew_is_told(keras: Lab) -> None:
    """The best epoch was trained by a process that is no more: its metrics are told all the same, its best once."""
    run, whole = keras.run("resume_epochs"), keras.run("resume_epochs.whole")
    kinds = ("early_stopped", "weights_restored", "best_improved", "learning_rate_changed")
    # What was decided in an epoch that was killed is decided again, and both are told.
    told = [
        {(one.kind, one.epoch, one.step, json.dumps(dict(one.detail))) for one in keras.store.events(each.id)}
        for each in (run, whole)
    ]
    seen, expected = ({one for one in some if one[0] in kinds} for some in told)
    assert seen == expected
    assert {kind for kind, *_ in seen} == set(kinds)


def test_no_later_fit_skips_epochs(keras: Lab) -> None:
    """Keras never clears what makes a model begin late; after a resumed fit every other begins at its first epoch."""
    facts = keras.said("test_09")
    assert facts["resumed"] == [2, 3]
    assert facts["later"] == facts["phase"] == [0, 1, 2, 3]
    assert facts["left"] is None
    epochs = keras.store.epochs(facts["run"])
    assert [one.number for one in epochs] == [*range(9)]


def test_a_training_that_was_complete_is_not_trained_again(keras: Lab) -> None:
    """The script of a finished run, resumed once more, trains nothing, and that is said."""
    facts = keras.said("test_09")
    assert facts["first again"] == facts["second again"] == []
    assert facts["more"] == [0]
    assert "has its 4 epochs already" in facts["said"][1]


def test_the_second_training_of_a_script_goes_on(keras: Lab) -> None:
    """Killed in its second fit, a script does not train its first again."""
    facts = keras.said("resume_two_fits")
    assert (facts["first"], facts["second"]) == ([], [1, 2])
    assert "fit 1 of this script is complete, training goes on in fit 2" in facts["said"][0]
    run = keras.run("resume_two_fits")
    assert [one.number for one in keras.store.epochs(run.id)] == [0, 1, 2, 3, 4]
    assert [one.phase for one in keras.store.fits(run.id) if (one.epochs or 0) > one.first_epoch] == [1, 2, 2]


def test_a_fit_that_died_is_resumed_in_the_same_process(keras: Lab) -> None:
    """Also a new model goes on where the one before died."""
    assert keras.said("resume_here")["epochs"] == [2, 3]
    assert [one.number for one in keras.store.epochs(keras.run("resume_here").id)] == [0, 1, 2, 3]


def test_the_best_epoch_is_saved_again_with_its_epoch(keras: Lab) -> None:
    """Trained again after a kill it is as good, and its checkpoint stands in the place of the superseded one."""
    assert keras.said("resume_best")["best"] is not None
    rows = [one for one in keras.store.checkpoints(keras.run("resume_best").id) if one.role == "model"]
    assert [(one.epoch, one.superseded) for one in rows] == [(0, False), (1, False), (2, True), (2, False)]
    assert rows[-1].is_best


def test_a_worker_beside_the_chief_goes_on_too(keras: Lab) -> None:
    """It is told by TRACKER_RUN_ID which run, loads its state and records nothing; without it is refused at once."""
    facts = keras.said("resume_worker")
    assert [one.number for one in keras.store.epochs(keras.run("resume_worker").id)] == [0, 1]
    if keras.backend == "tensorflow":
        assert "TRACKER_RUN_ID" in facts["refused"]
        assert (facts["epochs"], facts["errors"]) == ([2, 3], 0)


def test_another_model_is_an_error_at_once(keras: Lab) -> None:
    """What differs is named, nothing is trained, and the model trains from its first epoch afterwards."""
    facts = keras.said("resume_another_model")
    assert "is not the one whose state was saved: variable 0 was" in facts["wider"]
    assert "momentum float32(3, 1) is new" in facts["optimizer"]
    assert facts["wider later"] == facts["optimizer later"] == [0]
    assert len(keras.store.epochs(keras.run("resume_another_model").id)) == 2


def test_ours_wins_over_backup_and_restore(keras: Lab) -> None:
    """Before and after ours in the list, with an older state of its own."""
    facts = keras.said("resume_beside_backup")
    assert facts["before"] == facts["after"] == [3, 4]


def test_what_can_only_begin_an_epoch_anew_is_said(keras: Lab) -> None:
    """With a generator the wish for steps is answered as the training begins; the epoch is trained from its begin."""
    first, again = keras.said("resume_generator")["said"]
    assert "the batches of a generator cannot be passed over" in first[0]
    assert "begins again with its first batch" in again[0]
    run = keras.run("resume_generator")
    assert [(one.first_epoch, one.first_step) for one in keras.store.fits(run.id)] == [(0, 1), (2, 9)]


@pytest.mark.parametrize("given", [
    {"checkpoint": 0}, {"checkpoint": -1}, {"checkpoint": True}, {"checkpoint": "step"}, {"checkpoint": 1.5},
    {"resume": "auto"}, {"resume": None},
])  # fmt: skip
def test_arguments_that_cannot_be_meant(given: dict[str, Any]) -> None:
    """They are refused by name, with what is allowed."""
    from tracker_keras import TrackerCallback

    ((name, _),) = given.items()
    with pytest.raises(InvalidValue, match=rf"{name}: .*limit: "):
        TrackerCallback(**given)
