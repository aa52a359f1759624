"""`tracker compare` and `tracker.compare`: runs side by side, and the gate for pipelines."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from contextlib import closing

import pytest
from e2e.cli_lab import in_terminal, invoke, plain, record

import tracker


@pytest.fixture
def two(store_url: str) -> tuple[str, str]:
    """The ids of `first`, best 0.2 in epoch 1, and `second`, best 0.25 in epoch 2."""
    common = {"optimizer": "Adam", "width": 64, "rate": 0.1}
    return (
        record("first", [0.5, 0.2, 0.3], accuracies=[0.5, 0.8, 0.9], params={**common, "jit": True}),
        record(
            "second", [0.5, 0.3, 0.25], accuracies=[0.5, 0.9, 0.7], params={**common, "width": 32, "layers": [4, 2]}
        ),
    )


def test_compare_gives_metrics_at_each_runs_best_epoch(two: tuple[str, str]) -> None:
    """Each metric's value is that of the run's best epoch, not its last and not its own best."""
    found = tracker.compare(two)
    assert [run.id for run in found.runs] == list(two)
    assert dict(found.best_epochs) == {two[0]: 1, two[1]: 2}
    assert found.metrics == {
        "accuracy": {two[0]: 0.8, two[1]: 0.7},
        "val_loss": {two[0]: 0.2, two[1]: 0.25},
    }
    assert not any(found.last_values.values())


def test_compare_gives_only_the_parameters_that_differ(two: tuple[str, str]) -> None:
    """A parameter is listed if its values differ, or if a run lacks it, with the values there are."""
    assert tracker.compare(two).params_diff == {
        "jit": {two[0]: True},
        "layers": {two[1]: [4, 2]},
        "width": {two[0]: 64, two[1]: 32},
    }


def test_compare_takes_names_prefixes_stores_and_urls(two: tuple[str, str], store_url: str) -> None:
    """Runs may be named as on the command line; the store may be open, or a URL."""
    with closing(tracker.open_store()) as store:
        assert tracker.compare(["second", two[0]], store=store).runs[0].id == two[1]
        assert store.get_run(two[0]).id == two[0]
    assert len(tracker.compare(["first", "second"], store=store_url).runs) == 2


def test_compare_refuses_what_it_cannot_mean(two: tuple[str, str]) -> None:
    """No runs, an unknown run and a name of several are each an error of ours."""
    record("first")
    for runs, text in (([], "at least one run"), (["nope"], "'nope' not found"), (["first"], "could be any of")):
        with pytest.raises(tracker.TrackerError, match=text):
            tracker.compare(runs)


def test_where_there_is_no_best_epoch_the_last_value_stands(store_url: str) -> None:
    """A run without epochs, and a metric without a value at the best epoch, give their last values, marked."""
    first = record("epochs", [0.5, 0.2])
    with tracker.start_run(name="steps") as run:
        for step in range(3):
            run.log({"val_loss": 0.9 - step / 10, "system/cpu": 1.0}, step=step)
    with tracker.start_run(name="both") as late:
        late.log_epoch(0, {"val_loss": 0.1})
        late.log_epoch(1, {"val_loss": 0.4, "test_loss": 0.3})
    found = tracker.compare([first, run.id, late.id])
    assert found.metrics["val_loss"] == {first: 0.2, run.id: 0.9 - 0.2, late.id: 0.1}
    assert found.metrics["test_loss"] == {late.id: 0.3}
    assert found.last_values["val_loss"] == (run.id,)
    assert found.last_values["test_loss"] == (late.id,)
    done = invoke("compare", "epochs", "steps", "both")
    assert "0.7*" in done.stdout
    assert done.stdout.splitlines()[-1] == "* the last value: there is none at the run's best epoch"


def test_frame_has_a_row_a_run(two: tuple[str, str]) -> None:
    """The DataFrame is indexed by run id, with columns for the run, its metrics and what differs."""
    frame = tracker.compare(two).to_frame()
    assert list(frame.index) == list(two)
    assert frame.loc[two[1], "metrics.val_loss"] == 0.25
    assert frame.loc[two[0], "params.width"] == 64
    assert frame.loc[two[1], "name"] == "second"
    assert list(frame["best_epoch"]) == [1, 2]


def test_without_pandas_only_the_frame_is_missing(two: tuple[str, str]) -> None:
    """Where pandas is not installed `to_frame` says so, and the rest works."""
    code = (
        "import sys; sys.modules['pandas'] = None\n"
        f"import tracker; c = tracker.compare({list(two)!r}); c.to_markdown(); c.to_html()\n"
        "try: c.to_frame()\n"
        "except tracker.TrackerError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "to_frame() needs pandas, which is not installed: pip install 'callback-tracker[pandas]'\n", (
        done.stderr
    )


def test_table_shows_both_runs_and_the_change(two: tuple[str, str]) -> None:
    """Two runs stand in columns under their names, with the change between them; parameters follow."""
    lines = invoke("compare", "first", "second").stdout.splitlines()
    assert lines[0].split() == ["1", "first", two[0], "finished", "best", "epoch", "1"]
    assert lines[3] == "Metrics at each run's best epoch (val_loss)"
    assert lines[4].split() == ["first", "second", "change"]
    assert lines[5].split() == ["val_loss", "0.20", "0.25", "+25.00%"]
    assert lines[6].split() == ["accuracy", "0.8", "0.7", "-12.50%"]
    assert lines[8] == "Parameters that differ"
    assert [line.split() for line in lines[10:]] == [
        ["jit", "true", "–"], ["layers", "–", "[4,", "2]"], ["width", "64", "32"],
    ]  # fmt: skip


def test_many_runs_get_numbers_where_names_have_no_room(store_url: str) -> None:
    """At 80 columns eight runs stand under the numbers that the list on top gives them, and no line is longer."""
    for number in range(8):
        record(f"a-rather-long-name-{number}", [0.5, 0.25 + number / 100], params={"n": number})
    lines = plain(in_terminal("compare", *[f"a-rather-long-name-{number}" for number in range(8)])).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[10].split() == list("12345678")
    assert lines[11].split()[:3] == ["val_loss", "0.25", "0.26"]


def test_json_has_the_comparison(two: tuple[str, str]) -> None:
    """JSON has the runs, best epochs, metrics and differing parameters by run id."""
    found = json.loads(invoke("compare", "first", "second", "--format", "json").stdout)
    assert [run["id"] for run in found["runs"]] == list(two)
    assert found["metrics"]["val_loss"] == {two[0]: 0.2, two[1]: 0.25}
    assert found["best_epochs"] == {two[0]: 1, two[1]: 2}
    assert found["params_diff"]["layers"] == {two[1]: [4, 2]}
    assert found["last_values"] == {}


def test_markdown_is_tables(two: tuple[str, str]) -> None:
    """Markdown has one table of metrics, the best value of each bold, and one of parameters."""
    lines = invoke("compare", "first", "second", "--format", "markdown").stdout.splitlines()
    assert "| val_loss | **0.20** | 0.25 |" in lines
    assert "| accuracy | **0.8** | 0.7 |" in lines
    assert "| width | 64 | 32 |" in lines
    assert str(tracker.compare(two)) == "\n".join(lines) + "\n"


HOSTILE = "<script>alert(1)</script> | `x` *y* [z](http://x) \x1b[31m a\nb & [red]r[/red]"


def test_recorded_text_is_shown_and_not_obeyed(store_url: str) -> None:
    """Names and values with HTML, Markdown, markup, line breaks and escapes in them come out as text."""
    with tracker.start_run(name="<b>one</b> | [red]", params={"<i>k</i>|": HOSTILE}) as run:
        pass
    other = record("two")
    found = tracker.compare([run.id, other])
    for page in (found.to_html(), found._repr_html_()):
        assert "<script" not in page
        assert "<b>" not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
        assert "\x1b" not in page
    (line,) = [line for line in found.to_markdown().splitlines() if "script" in line]
    assert "<" not in line
    assert "\x1b" not in line
    assert line.replace(r"\|", "").count("|") == 4
    assert r"\*y\* \[z\](http://x)" in line
    table = plain(in_terminal("compare", run.id, other, columns=200))
    assert "<b>one</b> | [red]" in table
    assert r"\x1b[31m a\nb & [red]r[/red]" in table


def test_html_is_a_page_and_in_a_notebook_a_part_of_one(two: tuple[str, str]) -> None:
    """`--format html` is a complete page; a notebook gets the tables only."""
    page = invoke("compare", "first", "second", "--format", "html").stdout
    assert page.startswith("<!DOCTYPE html>")
    assert '<td class="best">0.20</td><td>0.25</td>' in page
    part = tracker.compare(two)._repr_html_()
    assert part.startswith("<div")
    assert part in page


@pytest.mark.parametrize("runs", [[], ["first"], ["first", "first"]])
def test_comparing_takes_two_runs(two: tuple[str, str], runs: list[str]) -> None:
    """Fewer than two different runs are bad usage."""
    assert invoke("compare", *runs).exit_code == 2


# Of `val_loss`, 0.2 in the baseline and 0.25 in the other run.
@pytest.mark.parametrize(("condition", "holds"), [
    ("val_loss > +2%", True), ("val_loss > +24%", True), ("val_loss > +26%", False), ("val_loss>+0.04", True),
    ("val_loss > +0.06", False), ("val_loss > 0.24", True), ("val_loss > 0.26", False), ("val_loss < +30%", True),
    ("val_loss < -1%", False), ("val_loss > -1%", True), ("val_loss >= 0.25", True), ("val_loss > 0.25", False),
    ("val_loss <= 0.25", True), ("val_loss < .25", False), ("val_loss > 2e-1", True), ("`val_loss` > + 2 %", True),
    ("accuracy < -10%", True), ("accuracy < -15%", False),
])  # fmt: skip
def test_fail_if(two: tuple[str, str], condition: str, holds: bool) -> None:
    """A condition that holds for a later run exits with 1 and says for which and why on stderr; the data still come."""
    done = invoke("compare", "first", "second", "--fail-if", condition, "--format", "json")
    assert done.exit_code == (1 if holds else 0)
    assert json.loads(done.stdout)["runs"]
    assert (f"{condition} holds for second: " in done.stderr) is holds


def test_fail_if_names_each_run_and_condition(store_url: str) -> None:
    """With several runs and conditions every one that holds is named; the baseline is never judged."""
    for name, loss in (("base", 9.0), ("good", 5.0), ("bad", 20.0), ("worse", 30.0)):
        record(name, [loss])
    done = invoke(
        "compare", "base", "good", "bad", "worse", "--fail-if", "val_loss > +100%", "--fail-if", "val_loss > 25"
    )
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        "val_loss > +100% holds for bad: 20 > 18 (baseline 9, +122.22%)",
        "val_loss > +100% holds for worse: 30 > 18 (baseline 9, +233.33%)",
        "val_loss > 25 holds for worse: 30 > 25",
    ]


def test_per_cent_are_of_the_baselines_size(store_url: str) -> None:
    """With a negative baseline +10% is larger than it, as with a positive one."""
    for name, value in (("base", -10.0), ("near", -9.5), ("far", -8.0)):
        with tracker.start_run(name=name) as run:
            run.log_epoch(0, {"loss": value})
    assert invoke("compare", "base", "near", "--fail-if", "loss > +10%").exit_code == 0
    assert invoke("compare", "base", "far", "--fail-if", "loss > +10%").exit_code == 1


@pytest.mark.parametrize("condition", ["val_loss > +2%", "val_loss < +2%", "val_loss > 0.5", "other > 1"])
def test_what_cannot_be_judged_fails(store_url: str, condition: str) -> None:
    """A value that is NaN or missing must not pass for good."""
    record("base", [0.5])
    record("nan", [math.nan])
    done = invoke("compare", "base", "nan", "--fail-if", condition)
    assert done.exit_code == 1
    assert "cannot be judged" in done.stderr


def test_a_baseline_that_cannot_be_compared_with_fails(store_url: str) -> None:
    """A relative condition needs a number in the baseline; an absolute one does not."""
    record("nan", [math.nan])
    record("fine", [0.5])
    done = invoke("compare", "nan", "fine", "--fail-if", "val_loss > +2%")
    assert (done.exit_code, "nan, the baseline, has val_loss NaN" in done.stderr) == (1, True)
    assert invoke("compare", "nan", "fine", "--fail-if", "val_loss > 1").exit_code == 0


@pytest.mark.parametrize(
    "condition", ["", "val_loss", "val_loss >", "> 2", "val_loss > x", "val_loss = 2", "val_loss > 2%"]
)
def test_a_condition_that_is_none_is_bad_usage(two: tuple[str, str], condition: str) -> None:
    """What does not parse exits with 2 before anything is printed."""
    done = invoke("compare", "first", "second", "--fail-if", condition)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("tracker: --fail-if: ")
