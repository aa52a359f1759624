"""What is mistyped is named, with what was meant: over SQLite, PostgreSQL and a server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from e2e.cli_lab import invoke, record
from e2e.server_lab import Server

import tracker
from tracker.domain.errors import InvalidFilter, NoStore, RunNotFound

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def recorded(any_url: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two runs of `digits` and one of another experiment; their store is TRACKER_STORE."""
    monkeypatch.setenv("TRACKER_STORE", any_url)
    return [
        record("wide", [0.5, 0.2], params={"width": 64, "learning rate": 0.1}, tags={"team": "blue"}),
        record("narrow", [0.9, 0.8], params={"width": 8}, accuracies=[0.1, 0.2]),
        record("other", [0.4], experiment="else", params={"depth": 2}),
    ]


STATUSES = "running, finished, failed, interrupted, preempted and lost"


@pytest.mark.parametrize(("filter", "said"), [
    ("metrics.val_los < 0.3", "no run has the metric 'val_los'; did you mean metrics.val_loss?"),
    ("metrics.val_loss.bst < 0.3", "no run has the metric 'val_loss.bst'; did you mean metrics.val_loss.best?"),
    ("metrics.val_los.best < 0.3", "no run has the metric 'val_los'; did you mean metrics.val_loss.best?"),
    ("metrics.width > 3", "no run has the metric 'width'; did you mean params.width?"),
    ("params.wdith = 64", "no run has the parameter 'wdith'; did you mean params.width?"),
    ("params.`learning rte` = 0.1", "no run has the parameter 'learning rte'; did you mean params.`learning rate`?"),
    ("tags.taem = 'blue'", "no run has the tag 'taem'; did you mean tags.team?"),
    ("metrics.val_loss < 9 AND metrics.nothing_like_it > 1", "no run has the metric 'nothing_like_it'"),
    ("NOT metrics.val_los > 0.3", "no run has the metric 'val_los'; did you mean metrics.val_loss?"),
    *((wrong, f"no run status matches the condition: the statuses are {STATUSES}") for wrong in (
        "status = 'finishd'", "status IN ('done', 'ended')", "NOT status = 'finishd'", "params.width = 8 AND status LIKE 'fn%'",
    )),
    ("metrics.val_los < 0.3 OR params.width = 64", "no run has the metric 'val_los'; did you mean metrics.val_loss?"),
])  # fmt: skip
def test_keys_that_no_run_has(recorded: list[str], filter: str, said: str) -> None:
    """The search says so, whether or not other conditions find runs; exit code 0, and stdout is as ever."""
    with closing(tracker.open_store()) as store:
        assert store.search_runs(filter).warnings == [said]
    done = invoke("runs", "--filter", filter, "--format", "json")
    assert done.exit_code == 0
    assert done.stderr.splitlines() == [said]
    json.loads(done.stdout)


@pytest.mark.parametrize("filter", [
    "", "metrics.val_loss < 0.001", "metrics.val_loss.min > 5", "params.width = 7", "metrics.nothing IS NULL", "name = 'nobody'",
    "status = 'failed'", "status = 'KILLED'", "status != 'failed'", "metrics.accuracy > 2 OR tags.team = 'x'", "dataset.name = 'x'",
])  # fmt: skip
def test_keys_that_some_run_has(recorded: list[str], filter: str) -> None:
    """Where only the values do not fit, or a field is asked for that need not be there, nothing is said."""
    with closing(tracker.open_store()) as store:
        assert list(store.search_runs(filter).warnings) == []


def test_orders_and_experiments(recorded: list[str]) -> None:
    """The order is looked at too; a key of another experiment is not one of those that are searched."""
    with closing(tracker.open_store()) as store:
        page = store.search_runs(order_by=["metrics.nothere", "metrics.val_loss"])
        assert [len(page.runs), page.warnings] == [3, ["no run has the metric 'nothere'"]]
        page = store.search_runs("metrics.accuracy < 2", experiments=["else"])
        assert page.warnings == ["no run of these experiments has the metric 'accuracy'"]
        assert store.search_runs("metrics.accuracy < 2", experiments=["digits"]).warnings == []
        first = store.search_runs(order_by=["params.wdth"], limit=1)
        assert first.warnings == ["no run has the parameter 'wdth'; did you mean params.width?"]
        rest = store.search_runs(order_by=["params.wdth"], limit=1, page_token=first.next_page_token)
        assert list(rest.warnings) == []
    done = invoke("runs", "--order-by", "metrics.val_los", "--format", "csv")
    assert done.stderr == "no run has the metric 'val_los'; did you mean metrics.val_loss?\n"


def test_of_a_run_and_a_metric(recorded: list[str]) -> None:
    """Names of runs, experiments and metrics: the nearest there is; a deleted run is told as such."""
    done = invoke("show", "narow")
    assert (done.exit_code, done.stderr) == (1, "tracker: run 'narow' not found; did you mean 'narrow'?\n")
    assert "`tracker runs` lists what there is" in invoke("show", "qqqqqq").stderr
    assert "experiment 'digts' not found; did you mean 'digits'?" in invoke("runs", "--experiment", "digts").stderr
    assert "has no metric 'val_los'; did you mean 'val_loss'?" in invoke("history", "wide", "val_los").stderr
    invoke("delete", "narrow")
    assert f"it is deleted, restore it with: tracker undelete {recorded[1]}" in invoke("show", "narrow").stderr
    with pytest.raises(RunNotFound, match="did you mean 'other'"):
        tracker.compare(["othr"])


@pytest.mark.parametrize(("filter", "said"), [
    ("val_loss < 0.3", "did you mean 'metrics.val_loss'?"), ("statsu = 'failed'", "did you mean 'status'?"), ("Exeriment = 'x'", "did you mean 'experiment'?"),
])  # fmt: skip
def test_fields_without_their_kind(store_url: str, filter: str, said: str) -> None:
    """A bare name is an attribute: what may have been meant is named."""
    record("one")
    with closing(tracker.open_store()) as store, pytest.raises(InvalidFilter) as caught:
        store.search_runs(filter)
    assert said in str(caught.value)


@pytest.fixture
def server(store_url: str) -> Iterator[Server]:
    """A server over two runs."""
    record("wide", [0.5, 0.2], params={"width": 64})
    record("narrow", [0.9, 0.8])
    with Server(store_url) as started:
        yield started


def test_over_http(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A field of the answer; the command line says what it says of the database itself."""
    answer = server.get("/api/v1/runs?filter=metrics.val_los%20%3C%201")
    assert answer["warnings"] == ["no run has the metric 'val_los'; did you mean metrics.val_loss?"]
    arguments = ("runs", "--filter", "metrics.val_los < 1", "--format", "json")
    direct, through = invoke(*arguments), invoke(*arguments, "--store", server.url)
    assert (through.stdout, through.stderr) == (direct.stdout, direct.stderr)
    for arguments in (("show", "narow"), ("runs", "--experiment", "digts"), ("history", "wide", "val_los")):
        direct, through = invoke(*arguments), invoke(*arguments, "--store", server.url)
        assert (through.exit_code, through.stderr) == (direct.exit_code, direct.stderr)
        assert "did you mean" in through.stderr


def test_mlflow_s_answers_stay_as_they_are(server: Server) -> None:
    """MLflow's clients get what MLflow says: no runs, and no word more."""
    body = json.dumps({"experiment_ids": ["0", "1"], "filter": "metrics.val_los < 1"}).encode()
    answer = server.ask("POST", "/api/2.0/mlflow/runs/search", body, headers={"Content-Type": "application/json"})
    assert (answer.status, answer.json) == (200, {})


def test_of_several_runs_the_one_that_is_running(store_url: str) -> None:
    """`stop`, `show` and others take it and say so; where that does not decide, the list has status and start."""
    old = [record("long", [0.5]) for _ in range(7)]
    with tracker.start_run("digits", name="long") as run:
        run.log_epoch(0, {"val_loss": 0.3})
        run.flush()
        for _ in range(2):
            record("long", [0.4])
        shown = invoke("show", "long", "--format", "json")
        assert json.loads(shown.stdout)["run"]["id"] == run.id
        assert f"this is about the one that is running: {run.id}" in shown.stderr
        assert invoke("history", "long", "val_loss", "--format", "csv").stdout.count("\n") == 2
        assert invoke("stop", "long").exit_code == 0
        refused = invoke("delete", "long")
        assert refused.exit_code == 2
    (requested,) = [event.kind for event in tracker.open_store().events(run.id) if event.kind == "stop_requested"]
    assert requested
    done = invoke("show", "long")
    assert done.exit_code == 2
    lines = done.stderr.splitlines()
    assert sum(bool(re.search(r"  long  finished, started \d{4}-\d\d-\d\d \d\d:\d\d$", line)) for line in lines) == 5
    assert "and more" in done.stderr
    assert invoke("show", old[0]).exit_code == 0


def test_a_store_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_postgres_url: str) -> None:
    """Reading makes none, and says so as the command line does; a run makes it."""
    file = tmp_path / "nothere.db"
    for read in (
        lambda url: tracker.open_store(url),
        lambda url: tracker.compare(["x"], store=url),
        lambda url: tracker.load_checkpoint("x", store=url),
    ):
        for url in (f"sqlite:///{file}", empty_postgres_url):
            with pytest.raises(NoStore, match=r"there is no store at .* yet\nThe first run makes one"):
                read(url)
    assert not file.exists()
    file.touch()
    with pytest.raises(NoStore):
        tracker.open_store(f"sqlite:///{file}")
    with tracker.start_run(store=f"sqlite:///{file}") as run:
        run.log({"loss": 1.0})
    with closing(tracker.open_store(f"sqlite:///{file}")) as store:
        assert len(store.search_runs()) == 1


def test_a_file_for_a_store(tmp_path: Path) -> None:
    """`--store foo.db` says what was meant."""
    done = invoke("runs", "--store", "foo.db")
    assert done.exit_code == 2
    assert "did you mean 'sqlite:///foo.db'?" in done.stderr
