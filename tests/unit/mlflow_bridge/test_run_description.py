"""The note that a run has in MLflow where its user wrote none."""

from __future__ import annotations

from typing import Any

from tracker.domain.records import Checkpoint, Event, Extreme, Fit, Run, Series
from tracker.mlflow_bridge.run_description import MOST_EVENTS, note, plain


def _run(**facts: Any) -> Run:
    known: dict[str, Any] = {
        "id": "r", "name": "n", "experiment": "Default", "status": "finished", "started_ms": 1000, "ended_ms": 13_000,
        "best_epoch": None, "artifact_uri": "file:///a/r", "alive_ms": 9000,
    }  # fmt: skip
    return Run(**{**known, **facts})


def _loss(last: int) -> dict[str, Series]:
    extreme = Extreme(value=0.5, step=last, ms=2000)
    series = Series(key="loss", axis="epoch", goal="min", count=1, last=extreme, min=extreme, max=extreme, best=extreme)
    return {"loss": series}


def _fit(number: int = 1, **facts: Any) -> Fit:
    known: dict[str, Any] = {
        "number": number, "outcome": "completed", "first_epoch": 0, "epochs": 5, "resumed_from": None,
        "started_ms": 1000, "ended_ms": 11_000,
    }  # fmt: skip
    return Fit(**{**known, **facts})


def _event(kind: str, ms: int = 3000, epoch: int | None = None, **detail: Any) -> Event:
    return Event(kind=kind, epoch=epoch, step=None, ms=ms, detail=detail)


def test_it_says_what_came_of_the_run() -> None:
    """The outcome, how far it came, how long that took, and the best epoch are sentences on top."""
    run = _run(best_epoch=2, best_metric="val_loss", best_value=0.25)
    text = note(run, _loss(2), [_fit(outcome="stopped_early")], [], [])
    assert text == "**Finished** after 3 of 5 epochs in 12 s, stopped early.\n\nBest epoch **2**: val\\_loss 0.25."


def test_it_says_how_far_a_living_run_is() -> None:
    """Of a run that goes on it says nothing that is old a second later."""
    text = note(_run(status="running", ended_ms=None, stop_requested=True), _loss(0), [_fit(outcome=None)], [], [])
    assert text == "**Running**, 1 of 5 epochs so far.\n\nIt was asked to stop."


def test_it_lists_the_decisions_in_words() -> None:
    """Each event is a line with its epoch and the time since the run began."""
    events = [
        _event("fit_started", 1000, fit=1, epochs=5),
        _event("learning_rate_changed", 61_000, epoch=2, **{"from": 0.1, "to": 0.01, "by": "ReduceLROnPlateau"}),
    ]
    lines = note(_run(), {}, [], events, []).split("\n")
    assert lines[-2:] == [
        "- 0.00 s: fit 1 started, to epoch 4",
        "- epoch 2, 1 min: learning rate 0.1 → 0.01, by ReduceLROnPlateau",
    ]


def test_it_says_what_failed() -> None:
    """The exception and the end of its traceback are in the note, as code."""
    failed = _event(
        "run_failed", type="ValueError", message="bad *shape*", traceback="Traceback\n  line 1\n```\nValueError: x"
    )
    text = note(_run(status="failed"), {}, [], [failed], [])
    assert "ValueError: bad \\*shape\\*" in text
    assert "\n    ```\n    ValueError: x" in text


def test_several_fits_are_a_table() -> None:
    """With more than one fit each has a row; with one there is no table."""
    fits = [_fit(), _fit(2, first_epoch=3, epochs=8, outcome=None, ended_ms=None, resumed_from=2, batch_size=32)]
    assert "| 2 | 3 to 7 | running |  | 32 | after epoch 2 |" in note(_run(), {}, fits, [], [])
    assert "|" not in note(_run(), {}, fits[:1], [], [])


def test_it_names_the_checkpoints_that_there_are() -> None:
    """The best, the latest, those with a tag and the state are named by their paths among the artifacts."""

    def kept(id: int, epoch: int, **facts: Any) -> Checkpoint:
        uri = f"file:///a/r/checkpoints/{id}.keras"
        known: dict[str, Any] = {
            "id": id, "epoch": epoch, "step": None, "format": ".keras", "size": 2000, "sha256": "0" * 64, "metrics": {},
            "is_best": False, "state": {}, "uri": uri,
        }  # fmt: skip
        return Checkpoint(**{**known, **facts})

    state = kept(5, 2, role="state")
    some = [kept(1, 0, status="pruned"), kept(2, 1, is_best=True), kept(3, 1, tag="pa*per"), kept(4, 2), state]
    text = note(_run(), {}, [], [], some)
    assert text.split("\n")[-6:] == [
        "3 checkpoints among the artifacts (1 pruned):",
        "",
        "- best: epoch 1, 2.0 kB, checkpoints/2.keras",
        "- latest: epoch 2, 2.0 kB, checkpoints/4.keras",
        "- tagged pa\\*per: epoch 1, 2.0 kB, checkpoints/3.keras",
        "- state to resume from: epoch 2, 2.0 kB, checkpoints/5.keras",
    ]
    assert "- best and latest, tagged paper: epoch 1" in note(
        _run(), {}, [], [], [kept(2, 1, is_best=True, tag="paper")]
    )
    assert note(_run(), {}, [], [], [state]).split("\n")[-3:-1] == ["Among the artifacts:", ""]


def test_a_long_timeline_is_shortened_in_the_middle() -> None:
    """The first and the last decisions stay, and how many are left out is said."""
    events = [_event("best_improved", 1000 + 10 * i, epoch=i, metric="loss", to=1.0) for i in range(MOST_EVENTS + 60)]
    lines = note(_run(), {}, [], events, []).split("\n- ")
    assert len(lines) == MOST_EVENTS + 2
    assert lines[1 + MOST_EVENTS // 2] == "… 60 more decisions …"


def test_a_runs_own_texts_are_shown_as_text() -> None:
    """What a metric's name or an error message holds is neither Markdown nor HTML nor a line of its own."""
    assert plain("<script>*a* [x](javascript:y)\n# b | `c`") == (
        "&lt;script&gt;\\*a\\* \\[x\\](javascript:y)\\n\\# b \\| \\`c\\`".replace("\\n", "\\\\n")
    )
    failed = _event("run_failed", type="E", message="<img src=x onerror=alert(1)>")
    assert "<img" not in note(_run(status="failed"), {}, [], [failed], [])
