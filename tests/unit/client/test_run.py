"""A run as training code holds it: what it records, what it refuses, and that it never raises for a bad value."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from e2e.children import eventually

from tracker import compose
from tracker.api import open_store, start_run
from tracker.client.run import Run
from tracker.domain.errors import InvalidStoreUrl, InvalidValue, JournalError, RunExists, RunNotFound
from tracker.domain.ports import RunStore
from tracker.domain.vocabulary import LEASE_MS
from tracker.store.engine import make_engine
from tracker.store.store import SqlRunStore


@pytest.fixture
def store(store_url: str) -> Iterator[RunStore]:
    """The store of the test, with its schema."""
    with closing(compose.open_store(store_url)) as opened:
        yield opened


@pytest.fixture
def run(store: RunStore) -> Iterator[Run]:
    """A run that is open."""
    with start_run(name="it") as opened:
        yield opened


def stored(store: RunStore, run: Run) -> dict[str, list[tuple[int, float]]]:
    """All points of the run: {key: [(step, value)]}."""
    assert run.flush() == 0
    history = {key: store.history(run.id, key) for key in store.metrics(run.id)}
    return {key: list(zip(h.steps.tolist(), h.values.tolist(), strict=True)) for key, h in history.items()}


# -- values ----------------------------------------------------------------------------------------------------------


def test_numbers_of_any_kind_are_numbers(run: Run, store: RunStore) -> None:
    """Python's and NumPy's numbers, and arrays of one element of any shape, are recorded as floats."""
    values: dict[str, Any] = {
        "int": 1,
        "bool": True,
        "float": 1.0,
        "float32": np.float32(1),
        "float64": np.float64(1),
        "int8": np.int8(1),
        "0-d": np.array(1.0),
        "(1,)": np.array([1]),
        "(1, 1)": np.array([[1.0]], dtype=np.float16),
    }
    run.log(values, step=0)
    run.log_epoch(0, {f"epoch {key}": value for key, value in values.items()}, seconds=np.float32(2))
    assert stored(store, run) == {key: [(0, 1.0)] for key in [*values, *(f"epoch {key}" for key in values)]}
    assert store.epochs(run.id)[0].seconds == 2.0
    assert run.problems == {}


def test_nan_and_infinities_are_kept(run: Run, store: RunStore) -> None:
    """They come back as they were logged; NaN is never the best, smallest or largest."""
    for step, value in enumerate([math.inf, 1.0, math.nan, -math.inf, math.nan]):
        run.log({"loss": value}, step=step)
    run.log_epoch(0, {"val_loss": math.nan})
    values = [value for _, value in stored(store, run)["loss"]]
    assert np.array_equal(values, [math.inf, 1.0, math.nan, -math.inf, math.nan], equal_nan=True)
    series = store.metrics(run.id)
    assert series["loss"].last is not None
    assert math.isnan(series["loss"].last.value)
    assert series["loss"].min is not None
    assert series["loss"].max is not None
    assert (series["loss"].min.value, series["loss"].max.value) == (-math.inf, math.inf)
    assert series["val_loss"].best is None
    assert store.get_run(run.id).best_epoch is None


BAD_VALUES: list[tuple[Any, str]] = [
    ("0.5", "is not a number"),
    (None, "is not a number"),
    (b"1", "is not a number"),
    ([0.5], "(list) is not a number"),
    ({}, "(dict) is not a number"),
    (object(), "(object) is not a number"),
    (1j, "(complex) is not a number"),
    (10**400, "does not fit a 64-bit float"),
    (np.zeros((3, 2)), "an array of shape (3, 2) is not one number (limit: one element"),
    (np.array([]), "an array of shape (0,) is not one number"),
]


@pytest.mark.parametrize(("value", "message"), BAD_VALUES, ids=lambda value: type(value).__name__)
def test_what_is_no_number_is_refused_alone(
    run: Run, store: RunStore, caplog: pytest.LogCaptureFixture, value: Any, message: str
) -> None:
    """The message names the metric and what is wrong, is said once and counted; the rest of the call is recorded."""
    for step in range(3):
        run.log({"good": 1.0, "bad": value}, step=step)
    run.log_epoch(0, {"bad": value, "fine": 2.0})
    assert stored(store, run) == {"good": [(0, 1.0), (1, 1.0), (2, 1.0)], "fine": [(0, 2.0)]}
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [one.split(": ")[1] for one in said] == ["log", "log_epoch"]
    assert "metric 'bad'" in said[0]
    assert message in said[0]
    assert run.problems == {"metric 'bad'": 4}


BAD_KEYS: list[tuple[Any, str]] = [
    ("", "has 0 characters"),
    ("x" * 251, "has 251 characters"),
    ("a\nb", "has a control character at 1"),
    ("a\x00", "has a control character at 1"),
    ("\ud800", "has a control character at 0"),
    (7, "is of type int, not a string"),
    (None, "is of type NoneType, not a string"),
]


@pytest.mark.parametrize(("key", "message"), BAD_KEYS, ids=lambda value: repr(value)[:12])
def test_bad_keys_are_refused_alone(
    run: Run, store: RunStore, caplog: pytest.LogCaptureFixture, key: Any, message: str
) -> None:
    """Of metrics, parameters and tags each bad key is refused with its limit, and the others are recorded."""
    run.log({key: 1.0, "x" * 250: 1.0}, step=0)
    run.log_params({key: 1, "lr": 0.1} if isinstance(key, str) else {"lr": 0.1})
    run.set_tags({key: "no", "team": "blue"})
    run.log_event(key)
    run.define_metric(key, goal="max")
    assert stored(store, run) == {"x" * 250: [(0, 1.0)]}
    assert store.params(run.id) == {"lr": 0.1}
    assert store.tags(run.id)["team"] == "blue"
    assert list(store.events(run.id)) == []
    assert f"metric key: {key!r}"[:60] in caplog.text
    assert message in caplog.text
    assert "limit: 1 to 250 characters, no control characters" in caplog.text
    assert sum(run.problems.values()) == (5 if isinstance(key, str) else 4)


def test_keys_may_be_long_and_in_any_script(run: Run, store: RunStore) -> None:
    """250 characters of any script, slashes, spaces and quotes are fine, also as keys of NumPy's string type."""
    keys = ["ä" * 250, "日本/損失", "a b'c\"d`e", np.str_("numpy")]
    run.log(dict.fromkeys(keys, 1.0), step=0)
    run.log(dict.fromkeys(keys, 2.0), step=1)
    assert stored(store, run) == {str(key): [(0, 1.0), (1, 2.0)] for key in keys}


def test_a_key_has_one_axis(run: Run, store: RunStore, caplog: pytest.LogCaptureFixture) -> None:
    """A key that is logged at steps and at epochs is refused where it came second, and costs nothing else."""
    run.log_epoch(0, {"loss": 1.0})
    run.log({"loss": 5.0, "batch/loss": 6.0}, step=0)
    run.log_epoch(1, {"batch/loss": 7.0, "loss": 0.5})
    assert run.flush() == 0
    assert {key: list(store.history(run.id, key).values) for key in ("loss", "batch/loss")} == {
        "loss": [1.0, 0.5],
        "batch/loss": [6.0],
    }
    assert "metric 'loss': is logged both at steps and at epochs" in caplog.text


@pytest.mark.parametrize(
    "step",
    [-1, 1.5, 2**63, "3", math.nan, math.inf, True, np.array([1, 2]), object()],
    ids=lambda step: "object" if type(step) is object else repr(step),
)
def test_bad_steps_are_refused(run: Run, store: RunStore, caplog: pytest.LogCaptureFixture, step: Any) -> None:
    """A step or epoch that is no whole number in range is refused with its limit, and nothing else is."""
    run.log({"loss": 1.0}, step=step)
    run.log_epoch(step, {"val_loss": 1.0})
    run.log_histogram("weights", [1.0], step=step)
    run.log({"loss": 2.0}, step=7)
    assert stored(store, run) == {"loss": [(7, 2.0)]}
    assert "limit: a whole number from 0 to 9223372036854775807" in caplog.text
    assert run.problems == {"step": 2, "epoch": 1}


def test_steps_of_any_whole_kind_are_fine(run: Run, store: RunStore) -> None:
    """NumPy's integers, whole floats and the largest step there is; without a step the next one is taken."""
    run.log({"loss": 0.0})
    run.log({"loss": 1.0})
    run.log({"loss": 2.0}, step=np.int64(5))  # type: ignore[arg-type]
    run.log({"loss": 3.0}, step=7.0)  # type: ignore[arg-type]
    run.log({"loss": 4.0})
    run.log({"loss": 5.0}, step=2**63 - 1)
    assert stored(store, run)["loss"] == [(0, 0.0), (1, 1.0), (5, 2.0), (7, 3.0), (8, 4.0), (2**63 - 1, 5.0)]
    run.log({"loss": 6.0})
    assert run.problems == {"step": 1}


def test_what_is_no_mapping_is_refused(run: Run, store: RunStore) -> None:
    """Lists, strings and None where a mapping belongs are refused without an exception."""
    for bad in ([1], "loss", None, 3, [("a", 1)]):
        run.log(bad, step=0)  # type: ignore[arg-type]
        run.log_params(bad)  # type: ignore[arg-type]
        run.set_tags(bad)  # type: ignore[arg-type]
    assert stored(store, run) == {}
    assert run.problems == {"metrics": 5, "params": 5, "tags": 5}


def test_parameters_keep_their_types(run: Run, store: RunStore) -> None:
    """Nested mappings flatten with dots; numbers stay numbers, what JSON cannot say becomes text."""
    run.log_params({
        "optimizer": {"name": "adam", "betas": (0.9, 0.999), "decay": {}},
        "lr": np.float32(0.5), "epochs": np.int64(3), "big": 10**30, "nan": math.nan, "inf": -math.inf,
        "flag": True, "none": None, "path": Path("a/b"), "text": "a\x00b\ud800", "shape": np.zeros((1, 2)),
    })  # fmt: skip
    run.flush()
    assert store.params(run.id) == {
        "optimizer.name": "adam", "optimizer.betas": [0.9, 0.999], "optimizer.decay": {},
        "lr": 0.5, "epochs": 3, "big": str(10**30), "nan": "NaN", "inf": "-Infinity",
        "flag": True, "none": None, "path": "a/b", "text": "a\ufffdb\\ud800", "shape": [[0.0, 0.0]],
    }  # fmt: skip


def test_huge_and_hostile_parameters_are_refused_alone(
    run: Run, store: RunStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Over 64 KiB of JSON, values whose text cannot be made, and mappings within themselves cost only themselves."""

    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("no text for you")

    run.log_params({"fits": "x" * (64 * 1024 - 2), "long": "x" * (64 * 1024 - 1), "hostile": Hostile(), "lr": 1})
    circle: dict[str, Any] = {}
    circle["self"] = circle
    run.log_params(circle)
    run.set_tags({"hostile": Hostile(), "long": "x" * (1024 * 1024 + 1), "number": 3})
    run.log_event("odd", what=Hostile())
    run.log_event("fine", what={"a": [1, {2, 3}]}, epoch=1, step=2)
    run.flush()
    assert sorted(store.params(run.id)) == ["fits", "lr"]
    assert store.tags(run.id)["number"] == "3"
    assert [(event.kind, event.detail, event.epoch, event.step) for event in store.events(run.id)] == [
        ("fine", {"what": {"a": [1, [2, 3]]}}, 1, 2)
    ]
    assert "parameter 'long': 65537 bytes (limit: 65536 bytes of JSON)" in caplog.text
    assert sum(run.problems.values()) == 6


def test_an_event_that_is_too_large_is_refused(run: Run, store: RunStore, caplog: pytest.LogCaptureFixture) -> None:
    """A detail over 1 MiB is refused with its size, and what comes after it is stored."""
    run.log_event("huge", text="x" * (1024 * 1024))
    run.log({"loss": 1.0}, step=0)
    assert stored(store, run) == {"loss": [(0, 1.0)]}
    assert "detail of event 'huge': 1048587 bytes of JSON (limit: 1048576 bytes" in caplog.text


def test_many_parameters_of_one_call_are_stored(run: Run, store: RunStore) -> None:
    """A call may carry more than a frame does."""
    params = {f"p{i}": "x" * 60_000 for i in range(60)}
    run.log_params(params)
    run.set_tags({"a": "y" * 900_000, "b": "z" * 900_000})
    run.flush()
    assert store.params(run.id) == params
    assert store.tags(run.id) == {"a": "y" * 900_000, "b": "z" * 900_000}


def test_the_message_of_an_error_is_bounded(store: RunStore) -> None:
    """An exception that says a whole tensor fails its run like any other."""
    with pytest.raises(ValueError, match="xxx"), start_run() as failing:
        raise ValueError("x" * 2_000_000)
    assert store.get_run(failing.id).status == "failed"
    (event,) = (one for one in store.events(failing.id) if one.kind == "run_failed")
    assert event.detail["message"].endswith("… (2000000 characters)")


def test_wrong_words_are_refused(run: Run, store: RunStore) -> None:
    """Goals, sources and axes that are none are refused, and so are seconds that are no duration: alone."""
    run.define_metric("a", goal="less")  # type: ignore[arg-type]
    run.define_metric("a", goal="max", source="me")  # type: ignore[arg-type]
    run.monitor_metric("a", source="me")  # type: ignore[arg-type]
    run.log_histogram("h", [1.0], step=0, axis="sideways")  # type: ignore[arg-type]
    run.log_histogram("h", [1.0], step=0, bins=0)
    run.log_histogram("h", ["a"], step=0)
    run.log_epoch(0, {"loss": 1.0}, seconds="long")  # type: ignore[arg-type]
    for epoch, seconds in enumerate((float("nan"), float("inf"), -1.0), 1):
        run.log_epoch(epoch, {"loss": 1.0}, seconds=seconds)
    assert stored(store, run) == {"loss": [(epoch, 1.0) for epoch in range(4)]}
    assert [(epoch.number, epoch.seconds) for epoch in store.epochs(run.id)] == [(number, None) for number in range(4)]
    assert list(store.histograms(run.id)) == []
    assert sum(run.problems.values()) == 10


def test_files_that_are_not_there_cost_only_themselves(run: Run, store: RunStore, tmp_path: Path) -> None:
    """Missing files, paths that lead out and texts that are none are refused; a folder's other files are kept."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "good.txt").write_text("good")
    (folder / "bad\\name.txt").write_text("bad")
    (folder / "dangling").symlink_to("nowhere")
    run.log_artifact(tmp_path / "missing")
    run.log_artifact(folder / "good.txt", "../out.txt")
    run.log_artifact(folder)
    run.log_text(5, "five.txt")  # type: ignore[arg-type]
    run.log_text("\ud800 text", "text.txt")
    run.log_checkpoint(tmp_path / "missing.keras", epoch=0)
    (folder / "empty").mkdir()
    run.log_checkpoint(folder / "empty", epoch=0)
    assert run.flush() == 0
    root = Path(store.get_run(run.id).artifact_uri.removeprefix("file://"))
    assert sorted(str(file.relative_to(root)) for file in root.rglob("*.txt")) == ["folder/good.txt", "text.txt"]
    assert list(store.checkpoints(run.id)) == []
    assert sum(run.problems.values()) == 6


# -- fits ------------------------------------------------------------------------------------------------------------


def test_what_is_logged_after_a_fit_belongs_to_none(run: Run, store: RunStore) -> None:
    """The next fit that goes back supersedes the earlier fit's points, not those that were logged between the two."""
    fit = run.start_fit(epochs=2, steps_per_epoch=np.int64(10))  # type: ignore[arg-type]
    fit.log_batch(20, {"batch/loss": 1.0})
    fit.end("completed")
    run.log({"test/loss": 0.5}, step=20)
    fit = run.start_fit(epochs=2, initial_epoch=1, steps_per_epoch=10, batch_size="many")  # type: ignore[arg-type]
    fit.log_batch(1, {"batch/loss": 2.0})
    fit.end("completed")
    assert stored(store, run) == {"batch/loss": [(11, 2.0)], "test/loss": [(20, 0.5)]}
    assert [one.steps_per_epoch for one in store.fits(run.id)] == [10, 10]
    assert run.problems == {"batch_size": 1}


# -- endings ---------------------------------------------------------------------------------------------------------


def test_fits_of_a_loop_of_ones_own(run: Run, store: RunStore) -> None:
    """A fit is a context manager; the next one numbers on, and hides nothing, also not what `log` wrote beside it."""
    for phase in range(2):
        with run.start_fit(epochs=2) as fit:
            for epoch in range(2):
                run.log({"beside": float(phase * 2 + epoch)})
                fit.log_epoch(epoch, {"loss": float(phase * 2 + epoch)})
    with pytest.raises(ZeroDivisionError), run.start_fit(epochs=1):
        _ = 1 / 0
    assert run.flush() == 0
    assert store.history(run.id, "loss").values.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert store.history(run.id, "beside").values.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert [fit.outcome for fit in store.fits(run.id)] == ["completed", "completed", "failed"]


def test_finishing_twice_changes_nothing(store: RunStore) -> None:
    """The first word counts, whatever comes later; and `with` around a run that was finished adds nothing."""
    with start_run() as run:
        assert run.finish("interrupted") == 0
        assert run.finish("failed") == 0
    assert run.status == "interrupted"
    assert store.get_run(run.id).status == "interrupted"


@pytest.mark.parametrize("status", ["running", "lost", "done", "", None])
def test_a_run_cannot_end_as_what_is_no_end(store: RunStore, status: Any) -> None:
    """The message lists how runs end, and the run goes on."""
    with start_run() as run:
        with pytest.raises(InvalidValue, match="finished, failed, interrupted, preempted"):
            run.finish(status)
        assert run.status == "running"


def test_logging_after_the_end_is_said_once_and_ignored(store: RunStore, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is recorded, nothing is raised, and it is said once however often it happens."""
    run = start_run()
    run.finish()
    for _ in range(3):
        run.log({"loss": 1.0}, step=0)
        run.log_params({"lr": 1})
        run.log_text("x", "x.txt")
        assert run.flush() == 0
    assert store.metrics(run.id) == {}
    assert caplog.text.count("after the run ended") == 1


def test_the_same_run_may_be_entered_twice(store: RunStore) -> None:
    """A run in two nested `with` ends at the inner one's end; the outer one finds it ended."""
    run = start_run()
    with run:
        with run:
            run.log({"loss": 1.0}, step=0)
        assert run.status == "finished"
    assert store.get_run(run.id).status == "finished"


def test_a_run_is_used_from_many_threads(run: Run, store: RunStore) -> None:
    """Points of eight threads that log at once are all there, each once, under whole frames."""

    def log(thread: int) -> None:
        for step in range(500):
            run.log({f"thread/{thread}": float(step)}, step=step)

    threads = [threading.Thread(target=log, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [(step, float(step)) for step in range(500)]
    assert stored(store, run) == {f"thread/{number}": expected for number in range(8)}


# -- signs of life ---------------------------------------------------------------------------------------------------


def test_a_run_that_logs_nothing(run: Run, store: RunStore, store_url: str) -> None:
    """Within HEARTBEAT_MS it renews its lease, which undoes that it was marked as lost, and learns that it is to stop.

    A request to stop is on the timeline.
    """
    run.start_fit(epochs=3)
    assert run.flush() == 0
    assert not run.should_stop
    alive = store.get_run(run.id).alive_ms
    with closing(SqlRunStore(make_engine(store_url), clock=lambda: alive + 10 * LEASE_MS)) as later:
        later.sweep()
        assert later.get_run(run.id).status == "lost"
    store.request_stop(run.id)
    eventually(lambda: run.should_stop)
    assert [event.kind for event in store.events(run.id)] == ["fit_started", "stop_requested"]
    assert store.get_run(run.id).status == "running"
    assert store.fits(run.id)[0].outcome is None
    assert store.get_run(run.id).ended_ms is None
    run.finish("interrupted")
    assert store.fits(run.id)[0].outcome == "interrupted"


# -- starting --------------------------------------------------------------------------------------------------------


def test_names_and_ids_are_checked_at_the_start(store: RunStore, home: Path) -> None:
    """What cannot name an experiment, a run or an id is refused at once, before anything is written."""
    for arguments in (
        {"experiment": ""}, {"experiment": "x" * 501}, {"experiment": 3}, {"name": ""}, {"name": "a\nb"},
        {"name": "x" * 251}, {"run_id": "-a"}, {"run_id": "a/b"}, {"run_id": "x" * 65}, {"resume": "maybe"},
        {"resume": "must"}, {"artifacts": "s3://bucket"},
    ):  # fmt: skip
        [field] = arguments
        with pytest.raises(InvalidValue, match="run_id" if arguments == {"resume": "must"} else field):
            start_run(**arguments)  # type: ignore[arg-type]
    assert not home.exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlit:///x.db", "'sqlit' is not a kind of store; did you mean 'sqlite'"),
        ("postgres://h/db", "did you mean 'postgresql'"),
        ("tracker.db", "is not a kind of store"),
        ("sqlite://x.db", "three slashes"),
        ("sqlite:////nowhere/at/all/x.db", "the folder '/nowhere/at/all' does not exist"),
        ("sqlite:///.", "is a folder, not a database file"),
        ("sqlite:///:memory:", "three slashes and a path"),
    ],
)
def test_a_store_url_with_a_typo_is_refused_at_the_start(home: Path, url: str, message: str) -> None:
    """The message shows the URL, says what is wrong with it and what would be right; nothing is written."""
    with pytest.raises(InvalidStoreUrl) as caught:
        start_run(store=url)
    shown = "sqlite://…" if url.count(":") > 1 else url  # what may hold a password is not shown
    assert repr(shown) in str(caught.value)
    assert message in str(caught.value)
    assert "limit: sqlite:///path or postgresql://user@host/database" in str(caught.value)
    assert not home.exists()


def test_a_home_that_cannot_be_written_is_named(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a place for its journal a run cannot start: the error names the folder and the setting."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRACKER_HOME", str(tmp_path / "file"))
    with pytest.raises(JournalError, match="set TRACKER_HOME to a folder that can be written"):
        start_run()


def test_a_wrong_mode_is_named(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the variable, what it says and what it may say."""
    monkeypatch.setenv("TRACKER_MODE", "of-line")
    with pytest.raises(InvalidValue, match="TRACKER_MODE: 'of-line' is not a mode.*online, offline, disabled"):
        start_run()


def test_disabled_writes_nothing_anywhere(
    empty_store_url: str, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In mode `disabled` every method works and no file appears."""
    monkeypatch.setenv("TRACKER_MODE", "disabled")
    with start_run(params={"lr": 1}, tags={"a": "b"}) as run:
        run.log({"loss": 1.0})
        run.log_text("x", "x.txt")
        run.start_fit().end("completed")
        assert (run.flush(), run.should_stop, run.status) == (0, False, "running")
    assert run.status == "finished"
    assert list(tmp_path.iterdir()) == []


# -- continuing ------------------------------------------------------------------------------------------------------


def test_resume_never_allow_must(store: RunStore) -> None:
    """ "never" refuses an id that is taken, "must" one that is not, and "allow" takes either."""
    with pytest.raises(RunNotFound):
        start_run(run_id="mine", resume="must")
    with start_run(run_id="mine", resume="allow", experiment="E", name="first") as run:
        run.log({"loss": 1.0})
    with pytest.raises(RunExists):
        start_run(run_id="mine")
    for resume in ("must", "allow", "auto"):
        with start_run(run_id="mine", resume=resume, experiment="other", name="another") as again:  # type: ignore[arg-type]
            assert (again.id, again.name, again.experiment) == ("mine", "first", "E")
            assert store.get_run("mine").status in ("running", "finished")
            again.log({"loss": 2.0})
    assert [(point.name, point.status) for point in store.search_runs()] == [("first", "finished")]
    assert store.history("mine", "loss").steps.tolist() == [0, 1, 2, 3]


def test_resume_auto_takes_the_newest_that_did_not_finish(store: RunStore) -> None:
    """It looks at experiment and name, leaves finished and running runs alone, and else begins anew."""
    failed = start_run("E", name="a")
    failed.finish("failed")
    start_run("E", name="a").finish("finished")
    start_run("E", name="b").finish("interrupted")
    start_run("F", name="a").finish("interrupted")
    with start_run("E", name="a", resume="auto") as again:
        assert again.id == failed.id
        with start_run("E", name="a", resume="auto") as new:
            assert new.id != failed.id
    with start_run("G", resume="auto") as new:
        assert new.name != "a"


def test_resume_auto_passes_over_what_recorded_nothing(store: RunStore) -> None:
    """A run that began while nobody could be asked, and died, does not hide the one that it should have been."""
    with start_run("E", name="a") as trained:
        trained.log({"loss": 1.0})
        trained.finish("failed")
    for _ in range(7):
        start_run("E", name="a").finish("failed")
    with start_run("E", name="a", resume="auto") as again:
        assert again.id == trained.id


def test_the_environment_names_the_run(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """With TRACKER_RUN_ID each start opens that run, unless the caller names one; a bad id is refused."""
    monkeypatch.setenv("TRACKER_RUN_ID", "from-outside")
    with start_run() as run:
        assert run.id == "from-outside"
    with start_run() as run:
        assert run.id == "from-outside"
    with start_run(run_id="mine") as run:
        assert run.id == "mine"
    monkeypatch.setenv("TRACKER_RUN_ID", "not/an/id")
    with pytest.raises(InvalidValue, match="run_id"):
        start_run()


@pytest.mark.parametrize("resume", ["allow", "auto"])
def test_offline_makes_no_store(
    empty_store_url: str, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, resume: Any
) -> None:
    """Offline writes the journal and nothing else, also where a run is to be continued if there is one."""
    monkeypatch.setenv("TRACKER_MODE", "offline")
    start_run(run_id="mine" if resume == "allow" else None, resume=resume).finish()
    assert len(list((home / "journals").iterdir())) == 1
    assert not (tmp_path / "tracker.db").exists()


@pytest.mark.parametrize("moved", [True, False])
def test_a_database_that_goes_away_under_a_run(store_url: str, tmp_path: Path, home: Path, moved: bool) -> None:
    """A database file that is moved or deleted while a run goes on costs nothing: the run is told anew, in a new file."""
    with start_run(params={"a": 1}) as run:
        run.log({"loss": 1.0}, step=0)
        assert run.flush() == 0
        for file in tmp_path.glob("tracker.db*"):
            file.rename(tmp_path / f"old-{file.name}") if moved else file.unlink()
        run.log({"loss": 2.0}, step=1)
        assert run.flush() == 0
        run.log({"loss": 3.0}, step=2)
    assert not list((home / "journals").iterdir())
    with closing(open_store(store_url)) as store:
        assert store.history(run.id, "loss").values.tolist() == [1.0, 2.0, 3.0]
        assert (store.params(run.id), store.get_run(run.id).status) == ({"a": 1}, "finished")


def test_a_run_starts_without_a_store_to_ask(
    store_url: str, tmp_path: Path, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With a database that is none a run is journalled, says what waits and why, and is shipped once there is one."""
    (tmp_path / "tracker.db").write_bytes(b"this is not a database, whatever its name is" * 100)
    with start_run(resume="auto") as run:
        run.log({"loss": 1.0})
        assert run.flush(timeout=0.2) == 1
        assert "1 points are still in the journal" in caplog.text
    assert "file is not a database" in caplog.text
    (tmp_path / "tracker.db").unlink()
    eventually(lambda: not list((home / "journals").iterdir()))
    with closing(open_store(store_url)) as store:
        assert store.get_run(run.id).status == "finished"
        assert store.metrics(run.id)["loss"].count == 1
