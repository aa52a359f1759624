"""Wrong arguments of every log method: nothing raises, and the log says which call, which argument and what it wants."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tracker.api import start_run
from tracker.client.run_writer import MOST_SAID


class Hostile:
    """An object that is nothing that anybody could record."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")

    def __str__(self) -> str:
        raise RuntimeError("no words")


RIGHT: dict[str, dict[str, Any]] = {
    "log": {"metrics": {"a": 1.0}, "step": 1},
    "log_system": {"metrics": {"a": 1.0}},
    "log_epoch": {"epoch": 1, "metrics": {"b": 1.0}, "seconds": 1.0},
    "define_metric": {"key": "a", "goal": "min", "source": "declared"},
    "monitor_metric": {"key": "a", "source": "declared"},
    "log_histogram": {"key": "h", "values": [1.0], "step": 1, "bins": 3, "axis": "step"},
    "log_bins": {"key": "h", "edges": [0.0, 1.0], "counts": [1], "step": 1, "axis": "step"},
    "log_params": {"params": {"a": 1}},
    "set_tags": {"tags": {"a": "b"}},
    "log_event": {"kind": "k", "epoch": 1, "step": 1},
    "log_text": {"text": "t", "path": "t.txt"},
    "log_image": {"array": [[0.5]], "key": "i", "step": 1},
    "log_artifact": {"local_path": __file__, "path": "p"},
    "log_checkpoint": {"local_path": __file__, "epoch": 1, "step": 1, "metrics": {}, "state": {}, "role": "model"},
    "keep_checkpoints": {"last": 1, "best": 1},
    "start_fit": {"initial_epoch": 0, "epochs": 1, "steps_per_epoch": 1, "batch_size": 1},
}
FREE = {
    ("log_event", "epoch"), ("log_event", "step"), ("log", "step"), ("log_epoch", "seconds"), ("log_artifact", "path"),
    ("log_checkpoint", "step"), ("log_checkpoint", "metrics"), ("log_checkpoint", "state"), ("keep_checkpoints", "last"),
    ("keep_checkpoints", "best"), ("start_fit", "epochs"), ("start_fit", "steps_per_epoch"), ("start_fit", "batch_size"),
    ("start_fit", "initial_epoch"),
}  # fmt: skip
"""Arguments for which None is right."""


FIT_RIGHT: dict[str, dict[str, Any]] = {
    "log_epoch": {"keras_epoch": 1, "metrics": {"b": 1.0}, "seconds": 1.0, "steps": 4},
    "log_batch": {"steps": 1, "metrics": {"a": 1.0}},
    "log_event": {"kind": "k", "keras_epoch": 1, "detail": {"a": 1}},
    "log_checkpoint": {
        "local_path": __file__, "keras_epoch": 1, "steps": 1, "metrics": {}, "state": {}, "role": "model", "ms": 1,
    },
    "reached": {"steps": 1},
    "end": {"outcome": "completed"},
}  # fmt: skip
"""The methods of what `start_fit` returns."""
FIT_FREE = {
    ("log_epoch", "seconds"), ("log_epoch", "steps"), ("log_checkpoint", "steps"), ("log_checkpoint", "metrics"),
    ("log_checkpoint", "state"), ("log_checkpoint", "ms"), ("reached", "steps"),
}  # fmt: skip


@pytest.mark.parametrize(("method", "argument"), [(one, name) for one, named in FIT_RIGHT.items() for name in named])
def test_a_wrong_argument_of_a_fit_is_refused(
    method: str, argument: str, home: object, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is counted and said with the call, nothing is raised, and the fit goes on: what is right is recorded after it."""
    monkeypatch.setenv("TRACKER_MODE", "offline")
    run = start_run()
    for wrong in (Hostile(), object(), None, ["x"], "x", -1.5):
        fit = run.start_fit(epochs=3)
        before, lines = sum(run.problems.values()), len(caplog.records)
        getattr(fit, method)(**{**FIT_RIGHT[method], argument: wrong})
        refused = sum(run.problems.values()) > before
        right = (argument, wrong) == ("kind", "x")
        free = wrong is None and (method, argument) in FIT_FREE
        assert refused is not (right or free), wrong
        for record in caplog.records[lines:]:
            assert f": {method}: " in record.getMessage()
            assert "AttributeError" not in record.getMessage()
        after = sum(run.problems.values())
        epoch = run.next_epoch
        fit.log_epoch(0, {"b": 1.0}, steps=4)
        fit.end("completed")
        assert fit.ended
        assert run.next_epoch >= max(epoch, 1)
        assert sum(run.problems.values()) == after
    run.finish()


@pytest.mark.parametrize(("method", "argument"), [(one, name) for one, named in RIGHT.items() for name in named])
def test_a_wrong_argument_is_named(
    method: str, argument: str, home: object, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever stands in the place of one argument: no error, and a line that begins with the call."""
    monkeypatch.setenv("TRACKER_MODE", "offline")
    run = start_run()
    for wrong in (Hostile(), object(), None, ["x"], -1.5):
        before, caplog_before = sum(run.problems.values()), len(caplog.records)
        getattr(run, method)(**{**RIGHT[method], argument: wrong})
        refused = sum(run.problems.values()) > before
        if wrong is None and (method, argument) in FREE:
            assert not refused
        for record in caplog.records[caplog_before:]:
            assert f": {method}: " in record.getMessage()
            assert "AttributeError" not in record.getMessage()
    run.finish()


def test_data_for_a_text_is_told_what_to_write(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call, the argument, what it got, and what makes a text of it."""
    monkeypatch.setenv("TRACKER_MODE", "offline")
    with start_run() as run:
        run.log_text({"a": 1}, "d.json")  # type: ignore[arg-type]
        assert run.problems == {"text": 1}
    assert "log_text: text: {'a': 1} is of type dict, not a string (limit: a str; json.dumps(…)" in caplog.text


def test_each_mistake_is_said_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later, different one is not swallowed; the same again, at every step, is."""
    monkeypatch.setenv("TRACKER_MODE", "offline")
    with start_run() as run:
        for step in range(100):
            run.log({"a": "x", "b": f"wrong {step}"}, step=step)
            run.log_text("t", "../first")
            run.log_text("t", "../second")
            run.log_artifact(f"nowhere/{step}")
        said = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
        assert len(said) == 5
        for what in (
            "log: metric 'a'",
            "log: metric 'b'",
            "'../first'",
            "'../second'",
            "log_artifact: artifact: 'nowhere/0'",
        ):
            assert sum(what in one for one in said) == 1
        assert sum(run.problems.values()) == 500


def test_so_many_lines_and_no_more(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that does everything wrong fills no log: one line says that the rest is only counted."""
    monkeypatch.setenv("TRACKER_MODE", "offline")
    with start_run() as run:
        for one in range(200):
            run.log({f"key{one}": "x"}, step=one)
        said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert len(said) == MOST_SAID + 1
        assert "are counted in run.problems, not logged" in said[-1]
        assert sum(run.problems.values()) == 200
