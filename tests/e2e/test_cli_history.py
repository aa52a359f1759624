"""`tracker history`: the points of a metric."""

from __future__ import annotations

import csv
import io
import json
import math
from contextlib import closing

import numpy as np
import pytest
from e2e.cli_lab import in_terminal, installed, invoke, plain, record

import tracker


@pytest.fixture
def spiky(store_url: str) -> str:
    """The id of a run with 2 000 points of `x`, one of which, at step 777, is 100."""
    with tracker.start_run(name="spiky") as run:
        for step in range(2000):
            run.log({"x": 100.0 if step == 777 else step / 1e4}, step=step)
    return run.id


@pytest.fixture
def resumed(store_url: str) -> str:
    """The id of a run whose second fit wrote epochs 1 and 2 again."""
    with tracker.start_run(name="resumed") as run:
        for first in (0, 1):
            fit = run.start_fit(initial_epoch=first, epochs=3)
            for epoch in range(first, 3):
                fit.log_epoch(epoch, {"val_loss": 0.5 - 0.1 * first})
            fit.end("completed")
    return run.id


def test_json_has_the_arrays_of_a_history(spiky: str) -> None:
    """JSON holds steps, ms and values as `store.history` returns them."""
    found = json.loads(invoke("history", "spiky", "x", "--format", "json").stdout)
    with closing(tracker.open_store()) as store:
        history = store.history(spiky, "x")
    assert (found["run_id"], found["key"], found["axis"]) == (spiky, "x", "step")
    for name in ("steps", "ms", "values"):
        assert np.array_equal(found[name], getattr(history, name))


def test_csv_reads_back_to_the_same_numbers(store_url: str) -> None:
    """Every double survives CSV; NaN and infinities are named."""
    values = [0.1 + 0.2, 1e-300, math.nan, math.inf, -math.inf]
    record("exact", values)
    rows = list(csv.DictReader(io.StringIO(invoke("history", "exact", "val_loss", "--format", "csv").stdout)))
    assert list(rows[0]) == ["step", "ms", "value"]
    assert [int(row["step"]) for row in rows] == [0, 1, 2, 3, 4]
    assert np.array_equal([float(row["value"]) for row in rows], values, equal_nan=True)


def test_json_names_what_it_has_no_number_for(store_url: str) -> None:
    """NaN and infinities are strings in JSON, which stays valid."""
    record("odd", [math.nan, math.inf, -math.inf, 0.5])
    out = invoke("history", "odd", "val_loss", "--format", "json").stdout
    assert json.loads(out, parse_constant=lambda name: pytest.fail(name))["values"] == [
        "NaN",
        "Infinity",
        "-Infinity",
        0.5,
    ]


def test_table_has_a_line_a_point(store_url: str) -> None:
    """The table has step, local time and value; the axis titles the first column."""
    record("three", [0.5, 0.25, math.nan])
    title, *lines = invoke("history", "three", "val_loss").stdout.splitlines()
    assert title.split() == ["epoch", "at", "value"]
    assert [(line.split()[0], line.split()[-1]) for line in lines] == [("0", "0.5"), ("1", "0.25"), ("2", "NaN")]


def test_max_points_keeps_the_extremes(spiky: str) -> None:
    """`--max-points` thins without losing the first, the last or a spike."""
    found = json.loads(invoke("history", "spiky", "x", "--format", "json", "--max-points", "10").stdout)
    assert len(found["steps"]) <= 10
    assert {0, 777, 1999} <= set(found["steps"])
    assert max(found["values"]) == 100.0


@pytest.mark.parametrize("options", [["--max-points", "3"], ["--max-points", "x"], ["--raw", "--max-points", "10"]])
def test_options_that_cannot_be_meant_are_bad_usage(spiky: str, options: list[str]) -> None:
    """Too few points, no number, or a number with `--raw` exit with 2."""
    assert invoke("history", "spiky", "x", *options).exit_code == 2


def test_raw_has_every_point_and_who_wrote_it(resumed: str) -> None:
    """`--raw` adds each point's fit and whether a later one superseded it; without it each step is printed once."""
    assert len(json.loads(invoke("history", "resumed", "val_loss", "--format", "json").stdout)["steps"]) == 3
    found = json.loads(invoke("history", "resumed", "val_loss", "--format", "json", "--raw").stdout)
    assert list(zip(found["steps"], found["fits"], found["superseded"], strict=True)) == [
        (0, 1, False), (1, 1, True), (1, 2, False), (2, 1, True), (2, 2, False),
    ]  # fmt: skip
    rows = list(
        csv.DictReader(io.StringIO(invoke("history", "resumed", "val_loss", "--format", "csv", "--raw").stdout))
    )
    assert [(row["fit"], row["superseded"]) for row in rows[:2]] == [("1", "false"), ("1", "true")]
    assert invoke("history", "resumed", "val_loss", "--raw").stdout.splitlines()[2].endswith("1, superseded")


def test_a_terminal_gets_a_curve_and_not_too_much(spiky: str) -> None:
    """A person gets a curve as wide as the terminal and at most 500 points, extremes kept; a pipe gets all."""
    lines = plain(in_terminal("history", "spiky", "x", columns=80)).splitlines()
    assert lines[0] == "x of spiky"
    assert len(lines[1]) == 79
    assert "▇" in lines[1]
    assert len(lines) < 510
    assert any(line.split()[0] == "777" for line in lines[4:-1])
    assert "of 2,000 points" in lines[-1]
    assert len(installed("history", "spiky", "x").stdout.splitlines()) == 2001


def test_an_unknown_metric_fails_and_names_the_command_that_lists_them(spiky: str) -> None:
    """A metric that the run does not have exits with 1."""
    done = invoke("history", "spiky", "y")
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"has no metric 'y'; `tracker show {spiky}`" in done.stderr
