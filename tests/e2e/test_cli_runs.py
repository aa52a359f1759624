"""`tracker runs`: the list, as people and as programs read it."""

from __future__ import annotations

import csv
import io
import json
import math
from contextlib import closing
from pathlib import Path

import pytest
from e2e.cli_lab import in_terminal, installed, invoke, plain, record
from rich.cells import cell_len

import tracker


@pytest.fixture
def three(store_url: str) -> list[str]:
    """The ids of three runs, oldest first, in two experiments."""
    return [
        record("wide", [0.5, 0.2, 0.3], params={"width": 64}),
        record("narrow", [0.9, 0.8], params={"width": 8}, planned=5),
        record("other", experiment="else"),
    ]


def test_table_has_a_line_a_run_newest_first(three: list[str]) -> None:
    """Each run has one line with its whole id, name, experiment, status, epochs and best value with its epoch."""
    done = invoke("runs")
    assert done.exit_code == 0
    assert done.stderr == ""
    title, *lines = done.stdout.splitlines()
    assert title.split() == "id name experiment status started took epochs best val_loss".split()
    assert [line.split()[0] for line in lines] == three[::-1]
    other, narrow, wide = lines
    assert wide.split()[1:4] == ["wide", "digits", "finished"]
    assert wide.split()[-4:] == ["3", "0.2", "@", "1"]
    assert narrow.split()[-4:] == ["2/5", "0.8", "@", "1"]
    assert other.split()[-2:] == ["–", "–"]


def test_table_leaves_out_the_experiment_where_there_is_one(three: list[str]) -> None:
    """With `--experiment` all runs share it, so no column repeats it."""
    done = invoke("runs", "--experiment", "digits")
    assert "experiment" not in done.stdout
    assert "digits" not in done.stdout
    assert len(done.stdout.splitlines()) == 3


def test_table_names_the_metric_of_each_run_where_they_differ(three: list[str]) -> None:
    """Runs that watch different metrics say which one their best value is of."""
    with tracker.start_run("digits", name="sharp") as run:
        run.define_metric("accuracy", goal="max")
        run.monitor_metric("accuracy")
        run.log_epoch(0, {"accuracy": 0.75})
    lines = invoke("runs").stdout.splitlines()
    assert lines[0].split()[-1] == "best"
    assert lines[1].endswith("accuracy 0.75 @ 0")
    assert lines[-1].endswith("val_loss 0.20 @ 1")


def test_json_has_the_records_field_names(three: list[str]) -> None:
    """JSON is an array of objects with the fields of a run record, and the best metric and value."""
    newest, _, oldest = json.loads(invoke("runs", "--format", "json").stdout)
    assert set(oldest) == set("id name experiment status started_ms ended_ms best_epoch artifact_uri".split()) | {
        "best_metric",
        "best_value",
    }
    with closing(tracker.open_store()) as store:
        run = store.get_run(three[0])
    assert {key: getattr(run, key) for key in oldest} == oldest
    assert oldest["best_epoch"] == 1
    assert (newest["name"], newest["best_epoch"], newest["best_value"]) == ("other", None, None)


def test_csv_has_a_header_and_a_row_a_run(three: list[str]) -> None:
    """CSV has the same fields; what is missing is empty."""
    rows = list(csv.DictReader(io.StringIO(invoke("runs", "--format", "csv").stdout)))
    assert [row["id"] for row in rows] == three[::-1]
    assert float(rows[-1]["best_value"]) == 0.2
    assert rows[0]["best_value"] == ""


def test_filter_order_and_limit_are_passed_on(three: list[str]) -> None:
    """`--filter`, `--order-by` and `--limit` mean what they mean in `search_runs`."""

    def names(*arguments: str) -> list[str]:
        return [run["name"] for run in json.loads(invoke("runs", "--format", "json", *arguments).stdout)]

    assert names("--filter", "params.width > 10") == ["wide"]
    assert names("--filter", "metrics.val_loss.best < 0.85", "--order-by", "metrics.val_loss.best DESC") == [
        "narrow",
        "wide",
    ]
    assert names("--experiment", "else", "--experiment", "digits", "--limit", "2") == ["other", "narrow"]


def test_what_the_limit_cuts_off_is_said_on_stderr(three: list[str]) -> None:
    """A list that goes on says so, and not among the data."""
    done = invoke("runs", "--limit", "2", "--format", "csv")
    assert len(done.stdout.splitlines()) == 3
    assert "--limit" in done.stderr


@pytest.mark.parametrize(("format_", "data"), [("table", ""), ("json", "[]\n")])
def test_no_match_is_no_failure(three: list[str], format_: str, data: str) -> None:
    """A filter that nothing matches gives an empty answer of the right form."""
    done = invoke("runs", "--filter", "status = 'failed'", "--format", format_)
    assert (done.exit_code, done.stdout) == (0, data)


def test_bad_filter_is_bad_usage(three: list[str]) -> None:
    """A filter that does not parse shows the place, and exits with 2."""
    done = invoke("runs", "--filter", "status = ")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("tracker: filter: ")
    assert "\n  status = \n" in done.stderr


def test_unknown_format_is_bad_usage(three: list[str]) -> None:
    """An unknown format exits with 2 and lists those there are."""
    done = invoke("runs", "--format", "xml")
    assert done.exit_code == 2
    assert "'csv'" in done.stderr


def test_unknown_experiment_fails(three: list[str]) -> None:
    """An experiment that is not there is an answer of the store, not bad usage."""
    done = invoke("runs", "--experiment", "nowhere")
    assert done.exit_code == 1
    assert done.stderr == "tracker: experiment 'nowhere' not found\n"


@pytest.mark.parametrize("command", [
    ["runs"], ["show", "x"], ["history", "x", "loss"], ["compare", "x", "y"], ["stop", "x"], ["delete", "x"], ["undelete", "x"],
    ["db", "current"], ["db", "check"],
])  # fmt: skip
def test_reading_makes_no_store(tmp_path: Path, command: list[str]) -> None:
    """Where there is no store a command says how one comes to be, exits with 1, and makes none."""
    file = tmp_path / "none.db"
    done = invoke(*command, "--store", f"sqlite:///{file}")
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"there is no store at sqlite:///{file}" in done.stderr
    assert "tracker db upgrade" in done.stderr
    assert list(tmp_path.glob("none.db*")) == []


def test_reading_puts_no_tables_into_an_empty_database(tmp_path: Path) -> None:
    """An empty file is a database without a store, and stays one."""
    (tmp_path / "empty.db").touch()
    done = invoke("runs", "--store", f"sqlite:///{tmp_path / 'empty.db'}")
    assert done.exit_code == 1
    assert (tmp_path / "empty.db").stat().st_size == 0


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    """A store URL that names some other file says so."""
    (tmp_path / "notes.txt").write_text("not a database at all")
    done = invoke("runs", "--store", f"sqlite:///{tmp_path / 'notes.txt'}")
    assert done.exit_code == 1
    assert "notes.txt is not a SQLite database" in done.stderr


def test_store_url_with_a_typo_is_bad_usage(tmp_path: Path) -> None:
    """A URL that can be no store exits with 2 and says what was meant."""
    done = invoke("runs", "--store", "sqlit:///x.db")
    assert done.exit_code == 2
    assert "did you mean 'sqlite'" in done.stderr


def test_store_option_goes_before_the_environment(three: list[str], tmp_path: Path) -> None:
    """`--store` is the store, whatever TRACKER_STORE says."""
    url = f"sqlite:///{tmp_path / 'second.db'}"
    with tracker.start_run(name="elsewhere", store=url):
        pass
    done = invoke("runs", "--store", url)
    assert done.stdout.splitlines()[1].split()[1] == "elsewhere"


def test_nan_and_infinity_are_valid_json_and_csv(store_url: str) -> None:
    """A best value that JSON has no number for is a string there, and named in CSV."""
    record("diverged", [math.inf, math.inf])
    (run,) = json.loads(invoke("runs", "--format", "json").stdout, parse_constant=lambda name: pytest.fail(name))
    assert run["best_value"] == "Infinity"
    (row,) = csv.DictReader(io.StringIO(invoke("runs", "--format", "csv").stdout))
    assert row["best_value"] == "Infinity"


def test_a_terminal_gets_short_ids_that_name_one_run_each(store_url: str) -> None:
    """On a terminal ids are cut to what is unique in the whole store, of runs that are not listed too."""
    for number in range(3):
        record(f"run-{number}", [0.5], run_id=f"commonbegin-{number}x")
    record("unlike", [0.5], run_id="zzzzzzzzzzzzzzzzzzzz")
    lines = plain(in_terminal("runs", "--filter", "name = 'run-1' OR name = 'unlike'")).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["zzzzzzzzzzzzz", "commonbegin-1"]
    assert invoke("show", "commonbegin-1", "--format", "json").exit_code == 0


def test_a_narrow_terminal_is_not_overrun(store_url: str) -> None:
    """At 80 columns no line is longer, ids and numbers are whole, and long names are cut."""
    record("a-name-that-is-much-too-long-for-a-column-of-a-table", [0.5, 0.25])
    record("two", [0.5], experiment="another experiment")
    lines = plain(in_terminal("runs", columns=80)).splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" in lines[2]
    assert lines[2].endswith("0.25 @ 1")


def test_colour_is_for_terminals_that_want_it(three: list[str]) -> None:
    """A terminal gets colours, none with NO_COLOR, and neither does a pipe."""
    assert "\x1b[" in in_terminal("runs")
    assert "\x1b[" not in in_terminal("runs", NO_COLOR="1")
    assert "\x1b[" not in installed("runs").stdout


def test_columns_stand_below_each_other_whatever_is_in_them(store_url: str) -> None:
    """Wide and combining characters count as the columns that they take on a screen."""
    record("日本語の名前", [0.5])
    record("näme", [0.5])
    title, *lines = invoke("runs").stdout.splitlines()
    places = [cell_len(line[: line.index("finished")]) for line in lines]
    assert places == [title.index("status")] * 2
