"""Records as MessagePack and JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from tracker.domain.errors import InvalidValue
from tracker.domain.records import (
    Checkpoint,
    Epoch,
    Event,
    Experiment,
    Extreme,
    Fit,
    Histogram,
    History,
    Run,
    RunPage,
    Series,
)
from tracker.domain.run_progress import Progress
from tracker.wire.record_codec import from_msgpack, to_json, to_msgpack

RUN = Run(id="r", name="n", experiment="e", status="running", started_ms=1, ended_ms=None, best_epoch=3,
          artifact_uri="file:///a", best_metric="loss", best_value=-math.inf)  # fmt: skip
TOP = Extreme(value=1.5, step=2, ms=3)
RECORDS: list[tuple[Any, Any]] = [
    ([Experiment(id=0, name="Default", created_ms=1)], list[Experiment]),
    (RunPage(runs=[RUN, RUN], next_page_token="x", warnings=["no run has metrics.x"]), RunPage),
    (Progress(fits=1, next_epoch=2), Progress),
    ({"lr": 0.1, "on": True, "no": None, "deep": {"a": [1, "b"]}}, dict[str, Any]),
    ({"loss": Series(key="loss", axis="epoch", goal="min", count=2, last=TOP, min=TOP, max=None, best=TOP)}, dict[str, Series]),
    ([Fit(number=1, outcome="completed", first_epoch=0, epochs=5, resumed_from=None, started_ms=1, ended_ms=2)], list[Fit]),
    ([Epoch(number=1, fit=1, seconds=0.5, metrics={"loss": math.inf})], list[Epoch]),
    ([Event(kind="k", epoch=None, step=3, ms=1, detail={"a": 1})], list[Event]),
    ([Checkpoint(id=1, epoch=0, step=None, format=".keras", size=3, sha256="ab" * 32, metrics={"x": 1.0}, is_best=True,
                 state={"w": 1}, uri="file:///c")], list[Checkpoint]),
    ([Histogram(key="k", axis="step", step=1, ms=1, edges=[0.0, 1.0], counts=[2])], list[Histogram]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("record", "kind"), RECORDS, ids=lambda one: type(one).__name__ if isinstance(one, type) else ""
)
def test_records_come_back(record: Any, kind: Any) -> None:
    """What is written as MessagePack is read as the same records."""
    assert from_msgpack(to_msgpack(record), kind) == record


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("size", [0, 1, 1000])
def test_history_comes_back(size: int, raw: bool) -> None:
    """Arrays have their types, shapes and bits, NaN included, and can be written to."""
    steps, values = np.arange(size, dtype=np.int64), np.linspace(0, 1, size)
    values[::3] = np.nan
    history = History(key="k", axis="time", steps=steps, ms=steps * 10, values=values,
                      fits=steps % 2 if raw else None, superseded=steps % 3 == 0 if raw else None)  # fmt: skip
    back = from_msgpack(to_msgpack(history), History)
    assert (back.key, back.axis, len(back)) == ("k", "time", size)
    for name in ("steps", "ms", "values", "fits", "superseded"):
        there, here = getattr(back, name), getattr(history, name)
        assert (there is None) == (here is None)
        if here is not None:
            assert (there.dtype, there.shape) == (here.dtype, here.shape)
            np.testing.assert_array_equal(there, here)
    back.values[:] = 0


def test_history_is_bytes_on_the_wire() -> None:
    """A point takes 24 bytes."""
    steps = np.arange(10_000)
    assert len(to_msgpack(History(key="k", axis="step", steps=steps, ms=steps, values=steps / 7))) < 240_100


def test_arrays_of_other_lengths_are_refused() -> None:
    """A history whose columns do not fit together is no history."""
    steps = np.arange(3)
    data = to_msgpack(History(key="k", axis="step", steps=steps, ms=steps, values=np.zeros(2)))
    with pytest.raises(InvalidValue, match="values: 16 bytes.*3 points"):
        from_msgpack(data, History)


def test_json_is_json() -> None:
    """Numbers that JSON cannot write are strings, arrays are lists, and any JSON reader reads it."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    steps = np.arange(3)
    history = History(key="k", axis="step", steps=steps, ms=steps, values=np.array([math.nan, math.inf, 0.5]))
    plain = json.loads(to_json({"history": history, "run": RUN}), parse_constant=refuse)
    assert plain["history"]["values"] == ["NaN", "Infinity", 0.5]
    assert plain["history"]["steps"] == [0, 1, 2]
    assert plain["run"]["best_value"] == "-Infinity"


@pytest.mark.parametrize("data", [b"", b"\xc1", b"<html>", to_msgpack({"id": 1}), to_msgpack([RUN])])
def test_what_is_no_record_is_invalid(data: bytes) -> None:
    """Bytes of another kind are InvalidValue, whatever they are."""
    with pytest.raises(InvalidValue):
        from_msgpack(data, Run)


@pytest.mark.parametrize("raw", [False, True])
def test_history_as_json(raw: bool) -> None:
    """A history by itself is the same JSON as one among other things."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    steps = np.array([-5, 0, 2**62])
    values = np.array([math.nan, -math.inf, 1e-300])
    history = History(key="k", axis="time", steps=steps, ms=steps, values=values,
                      fits=steps if raw else None, superseded=steps == 0 if raw else None)  # fmt: skip
    plain = json.loads(to_json(history), parse_constant=refuse)
    assert plain == json.loads(to_json([history]))[0]
    assert plain["steps"] == [-5, 0, 2**62]
    assert plain["values"] == ["NaN", "-Infinity", 1e-300]
    assert plain["superseded"] == ([False, True, False] if raw else None)


def test_pages_of_runs_as_json() -> None:
    """A page is the same JSON whether or not a best value in it is a number that JSON has."""
    finite = dataclasses.replace(RUN, best_value=0.5)
    for runs in ([finite, dataclasses.replace(RUN, best_value=None)], [finite, RUN]):
        page = RunPage(runs=runs, next_page_token="x")
        assert json.loads(to_json(page)) == json.loads(to_json([page]))[0]
    assert json.loads(to_json(page))["runs"][1]["best_value"] == "-Infinity"
